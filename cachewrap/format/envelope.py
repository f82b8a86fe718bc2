"""The envelope: an entry's answer and record in one string of bytes, versioned and checked.

Layout of version 1, little-endian:

====== ===== =====================================================================
offset bytes
====== ===== =====================================================================
0      3     ``cw`` and a NUL
3      1     version
4      4     CRC-32 of the rest of the head and of the answer
8      1     kind of the answer (`Kind`)
9      1     flags: 1 the answer is compressed, 2 the record is, 4 it has details, 8 something
             was declared
10     1     the dictionary that the answer is compressed with; 0 is none
11     1     the dictionary of the record
12     8     expires, seconds since the epoch; 0 is never
20     8     created, seconds since the epoch
28     4     seconds that upstream took
32     4     prompt tokens
36     4     completion tokens
40     4     length of the answer as stored
44     4     length of the record as stored
48           the answer
then   4     CRC-32 of the record
then         the record: MessagePack of request, source, model, details of tokens
then         if something was declared: MessagePack of rules, what they took out, and whether it is
             an element
then   4     its CRC-32
then   4     its length
====== ===== =====================================================================

Sections are compressed with Zstandard where that saves space, those of a few kilobytes with a
dictionary of the package's, which knows the structure that requests and answers have. A short plain
text is not compressed: it has none, and to decompress it would cost as much as to read it from the
disk. A hit reads the head and the answer alone.
"""

from __future__ import annotations

import os
import struct
import threading
from typing import Any, Final
from zlib import crc32

import msgspec

from cachewrap.entry import MAX_ENTRY_BYTES, Declared, Entry, Facts, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format.sizes import SMALL, SURE, check_size, is_sure, too_large, weigh
from cachewrap.format.zstd import FRAME_HEADER, LIBRARY, Step
from cachewrap.systems import files

VERSION: Final = 1

MAX_RATIO: Final = 4096
"""What a section may grow by when it is decompressed; one that would shrink by more is not."""

_PARTED: Final = b"\xc1"  # begins a request that is encoded in parts, see `request.key`

_MAGIC: Final = b"cw\x00"
ENCRYPTED: Final = b"cwe"
"""How an entry begins whose envelope is encrypted."""

_BEGINNING: Final = _MAGIC + bytes((VERSION,))
_HEAD: Final = struct.Struct("<3sBIBBHddfIIII")
_REST: Final = struct.Struct("<BBHddfIIII")  # behind the first checksum
_CHECKED_FROM: Final = 8
_ANSWER_PACKED: Final = 1
_RECORD_PACKED: Final = 2
_DETAILED: Final = 4
_DECLARED: Final = 8
_SHORT_TEXT: Final = 2048
_SHORT: Final = 128
_LONG: Final = 16384  # bytes of a section that compresses no better with a dictionary
_LARGEST_COUNT: Final = 2**32 - 1

_INF: Final = float("inf")
_CRC: Final = struct.Struct("<I")
_TAIL: Final = struct.Struct("<II")
_SECONDS: Final = struct.Struct("<f")
_SECONDS_AT: Final = 28
# Looked up once: every hit asks for them.
_HEAD_SIZE: Final = _HEAD.size
_CRC_SIZE: Final = _CRC.size
_unpack_head: Final = _HEAD.unpack_from
_encoder = msgspec.msgpack.Encoder()


class _Record(msgspec.Struct, array_like=True):
    request: bytes
    source: str
    model: str
    details: tuple[int, ...] = ()

    def shown(self) -> dict[str, Any]:
        told = {"request": self.request, "source": self.source, "model": self.model}
        return told | ({"details": self.details} if self.details else {})


_record_decoder = msgspec.msgpack.Decoder(_Record)
_declared_decoder = msgspec.msgpack.Decoder(Declared)

_DICTIONARY: Final = 1
"""The dictionary that new entries are compressed with. Each that ever was is kept, to be read."""

_LARGE_LEVEL: Final = 1
"""Of large sections: a third faster than level 3, and larger by a twentieth."""

# How a section is compressed.
_LARGE: Final = 0
_DENSE: Final = 1
_QUICK: Final = 2

_BOTH: Final = {"window_log": 15, "min_match": 4}
_GREEDY: Final = {**_BOTH, "strategy": 3, "hash_log": 14, "chain_log": 14, "search_log": 4}
_DFAST: Final = {**_BOTH, "strategy": 2, "hash_log": 15, "chain_log": 13, "search_log": 2}
_SETTINGS: Final = {_DENSE: _GREEDY, _QUICK: _DFAST}
"""How a few kilobytes are compressed with the dictionary.

`_DENSE` is as fast as level 3 without one. `_QUICK` is what this level does with one: twice as
fast, and larger by a twentieth, which is the twentieth that keeps a fourth entry of an SDK's
off a page of the database. What a function returns leaves no room for a fourth.
"""

# Looked up once: every hit that is compressed asks for them.
_content_size = LIBRARY.content_size
_ZstdError = LIBRARY.error

# Read now: the first entry may come when no file can be opened, or where none may be read.
_DICTIONARIES: Final[dict[int, bytes | None]] = {
    0: None,
    **{
        number: files.contents(os.path.join(os.path.dirname(__file__), f"dictionary_{number}.zstd"))
        for number in range(1, _DICTIONARY + 1)
    },
}


def _dictionary(number: int) -> bytes | None:
    """A dictionary of the package's, None for none."""
    try:
        return _DICTIONARIES[number]
    except KeyError:
        raise CorruptEntryError(
            f"an entry is compressed with dictionary {number}, which this cachewrap does not have"
        ) from None


class _Zstd(threading.local):
    """Compressors of each thread by manner, and decompressors by dictionary: none is shared."""

    def __init__(self) -> None:
        self.compressors: dict[int, Step] = {}
        self.decompressors: dict[int, Step] = {}

    def compressor(self, manner: int) -> Step:
        found = self.compressors.get(manner)
        if found is None:
            known = _dictionary(_DICTIONARY)
            if manner == _LARGE or known is None:
                found = LIBRARY.compressor(_LARGE_LEVEL)
            else:
                found = LIBRARY.dictionary_compressor(known, _SETTINGS[manner])
            self.compressors[manner] = found
        return found

    def decompressor(self, number: int) -> Step:
        found = self.decompressors.get(number)
        if found is None:
            found = self.decompressors[number] = LIBRARY.decompressor(_dictionary(number))
        return found


_zstd = _Zstd()


def seal(kind: Kind, answer: bytes, request: bytes, facts: Facts) -> bytes:
    """Put an answer and its record into an envelope.

    Args:
        kind: how the answer is to be read.
        answer: what `codec.encode` gave.
        request: the canonical request as `key.encode` gave it; empty to leave it out.
        facts: what is known about the answer.
    """
    told = (request, facts.source, facts.model, facts.details)
    record = _encoder.encode(told if facts.details else told[:3])
    manner = _DENSE if kind is Kind.HTTP else _QUICK
    short = _SHORT_TEXT if kind is Kind.TEXT else _SHORT
    answer, packed, dictionary = _pack(answer, short, manner)
    flags, dictionaries = _ANSWER_PACKED * packed, dictionary
    record, packed, dictionary = _pack(record, _SHORT, manner)
    flags |= _RECORD_PACKED * packed | _DETAILED * (facts.details != ())
    flags |= _DECLARED * (facts.declared is not None)
    dictionaries |= dictionary << 8
    rest = _REST.pack(
        kind,
        flags,
        dictionaries,
        facts.expires,
        facts.created,
        facts.seconds,
        min(facts.tokens_in, _LARGEST_COUNT),
        min(facts.tokens_out, _LARGEST_COUNT),
        len(answer),
        len(record),
    )
    checksum = _CRC.pack(crc32(answer, crc32(rest)))
    envelope = b"".join((_BEGINNING, checksum, rest, answer, _CRC.pack(crc32(record)), record))
    if facts.declared is None:
        return envelope
    section = _encoder.encode(facts.declared)
    return b"".join((envelope, section, _TAIL.pack(crc32(section), len(section))))


def sealed(kind: Kind, answer: bytes, request: bytes, facts: Facts) -> tuple[bytes, Entry]:
    """An envelope as `seal` makes it, and what `unseal` would read from it."""
    raw = seal(kind, answer, request, facts)
    times = facts.created, _SECONDS.unpack_from(raw, _SECONDS_AT)[0], facts.expires
    tokens = min(facts.tokens_in, _LARGEST_COUNT), min(facts.tokens_out, _LARGEST_COUNT)
    told, more = _Record(request, facts.source, facts.model, facts.details), facts.details != ()
    record, declared = lambda raw: told.shown(), facts.declared
    return raw, Entry(kind, answer, *times, *tokens, record, raw, more, declared)


def unseal(raw: bytes, most: int = MAX_ENTRY_BYTES) -> Entry:
    """Open an envelope. Takes at most `MAX_RATIO` times the memory of the envelope.

    Args:
        raw: the envelope.
        most: bytes of memory that its answer may take, decompressed and decoded, as `check_size`
            estimates them, and so may what was declared.

    Raises `CorruptEntryError` for bytes that are not one, or not one that this version can read,
    and for what would take more.
    """
    if len(raw) < _HEAD_SIZE:
        raise _strange(raw)
    (magic, version, crc, kind, flags, dic, expires, created, seconds, asked, told, size, rest) = (
        _unpack_head(raw)
    )
    if magic != _MAGIC:
        raise _strange(raw)
    if version != VERSION:
        raise CorruptEntryError(
            f"an entry of format version {version}; this cachewrap reads version {VERSION}"
        )
    end = _HEAD_SIZE + size
    answer = raw[_HEAD_SIZE:end]
    if size < _SHORT_TEXT:  # the answer stands behind the head
        found = crc32(raw[_CHECKED_FROM:end])
    else:
        found = crc32(answer, crc32(raw[_CHECKED_FROM:_HEAD_SIZE]))
    declared = None
    if found != crc or end + _CRC_SIZE + rest != len(raw) or flags & _DECLARED:
        if found != crc or not flags & _DECLARED:
            raise CorruptEntryError("an entry is damaged: its checksum does not fit")
        declared = _read_declared(raw, end + _CRC_SIZE + rest, most)
    if not (0.0 <= seconds < _INF and -_INF < created < _INF and expires == expires):
        raise CorruptEntryError("an entry is damaged: its times are no numbers")
    if flags & _ANSWER_PACKED:
        answer = _unpack(answer, dic & 0xFF, most)
    try:
        if len(answer) > SMALL or most < SURE:
            check_size(_KINDS[kind], answer, most)
        held, more = _KINDS[kind], flags & _DETAILED != 0
        # fmt: off
        return Entry(held, answer, created, seconds, expires, asked, told,
                     read_record, raw, more, declared)
        # fmt: on
    except KeyError:
        raise CorruptEntryError(f"an entry of the unknown kind {kind}") from None


def _read_declared(raw: bytes, start: int, most: int = MAX_ENTRY_BYTES) -> Declared:
    """What was declared, behind all the rest of an envelope. Raises `CorruptEntryError`.

    It takes as much memory as an answer may, at most, if that is not little.
    """
    end = len(raw) - _TAIL.size
    if end >= start:
        crc, size = _TAIL.unpack_from(raw, end)
        section = raw[start:end]
        if size == len(section) and crc == crc32(section):
            if size > SMALL:
                weigh(section, max(most, SURE))
            try:
                return _declared_decoder.decode(section)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise CorruptEntryError(f"what was declared cannot be read: {error}") from error
    raise CorruptEntryError("an entry is damaged: it ends in the middle")


def _strange(raw: bytes) -> CorruptEntryError:
    if raw.startswith(ENCRYPTED):
        return CorruptEntryError("an entry is encrypted, and this cache has no key")
    return CorruptEntryError("these bytes are not an entry of cachewrap's")


_KINDS: Final = {int(kind): kind for kind in Kind}


def read_record(raw: bytes) -> dict[str, Any]:
    """The record of an envelope alone: its answer is neither checked nor unpacked.

    Raises `CorruptEntryError`.
    """
    if raw[:3] != _MAGIC or len(raw) < _HEAD_SIZE:
        raise CorruptEntryError("these bytes are not an entry of cachewrap's")
    _, version, _, _, flags, dictionaries, *_, length, rest = _unpack_head(raw)
    start = _HEAD_SIZE + length
    end = start + _CRC_SIZE + rest
    if version != VERSION or (end > len(raw) if flags & _DECLARED else end != len(raw)):
        raise CorruptEntryError("an entry is damaged, or of another format")
    return _read_record(raw, start, end, bool(flags & _RECORD_PACKED), dictionaries >> 8)


def read_declared(raw: bytes) -> Declared | None:
    """What was declared of an envelope whose record can be read; None for an exact key.

    Raises `CorruptEntryError`.
    """
    _, _, _, _, flags, *_, length, rest = _unpack_head(raw)
    if not flags & _DECLARED:
        return None
    return _read_declared(raw, _HEAD_SIZE + length + _CRC_SIZE + rest)


def _read_record(raw: bytes, start: int, end: int, packed: bool, dictionary: int) -> dict[str, Any]:
    record = raw[start + _CRC_SIZE : end]
    if _CRC.unpack_from(raw, start)[0] != crc32(record):
        raise CorruptEntryError("an entry is damaged: the checksum of its record does not fit")
    try:
        if packed:
            record = _unpack(record, dictionary)
        fields = _record_decoder.decode(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, MemoryError) as error:
        raise CorruptEntryError(f"the record of an entry cannot be read: {error}") from error
    request = fields.request
    if len(request) > SMALL and not is_sure(request, MAX_ENTRY_BYTES, 96):
        weigh(request[1:-4] if request[:1] == _PARTED else request, MAX_ENTRY_BYTES)
    return fields.shown()


def _pack(section: bytes, short: int, manner: int) -> tuple[bytes, bool, int]:
    """The section as it is stored, whether that is compressed, and the dictionary's number."""
    size = len(section)
    if size < short:
        return section, False, 0
    dictionary = _DICTIONARY
    if size >= _LONG:
        manner, dictionary = _LARGE, 0
    packed = (_zstd.compressors.get(manner) or _zstd.compressor(manner))(section)
    if dictionary:  # then it is kept without what begins every frame
        packed = packed[len(FRAME_HEADER) :]
    if len(packed) * 10 < size * 9 and len(packed) * MAX_RATIO >= size:
        return packed, True, dictionary
    return section, False, 0


def _unpack(section: bytes, dictionary: int, most: int = MAX_ENTRY_BYTES) -> bytes:
    try:
        # What the frame claims is checked first: it decides how much memory is taken.
        if dictionary:
            section = FRAME_HEADER + section
        size = _content_size(section)
        if size > len(section) * MAX_RATIO:
            raise CorruptEntryError("an entry claims to be larger than it can be")
        if size > most:
            raise too_large(most)
        decompress = _zstd.decompressors.get(dictionary) or _zstd.decompressor(dictionary)
        return decompress(section)
    except (_ZstdError, MemoryError) as error:
        raise CorruptEntryError(f"an entry cannot be decompressed: {error}") from error
