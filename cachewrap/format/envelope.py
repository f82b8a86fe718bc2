"""The envelope: an entry's answer and record in one string of bytes, versioned and checked.

Layout of version 1, little-endian:

====== ===== =====================================================================
offset bytes
====== ===== =====================================================================
0      3     ``cw`` and a NUL
3      1     version
4      4     CRC-32 of the rest of the head and of the answer
8      1     kind of the answer (`Kind`)
9      1     flags: 1 the answer is compressed, 2 the record is, 4 it has details
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
====== ===== =====================================================================

Sections are compressed with Zstandard where that saves space, those of a few kilobytes with a
dictionary of the package's, which knows the structure that requests and answers have. A short plain
text is not compressed: it has none, and to decompress it would cost as much as to read it from the
disk. A hit reads the head and the answer alone.
"""

from __future__ import annotations

import os
import re
import struct
import threading
from typing import Any, Final
from zlib import crc32

import msgspec

from cachewrap.entry import MAX_ENTRY_BYTES, Entry, Facts, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format.zstd import FRAME_HEADER, LIBRARY, Step
from cachewrap.systems import files

VERSION: Final = 1

MAX_RATIO: Final = 4096
"""What a section may grow by when it is decompressed; one that would shrink by more is not."""

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
_SHORT_TEXT: Final = 2048
_SHORT: Final = 128
_LONG: Final = 16384  # bytes of a section that compresses no better with a dictionary
_LARGEST_COUNT: Final = 2**32 - 1

_INF: Final = float("inf")
_CRC: Final = struct.Struct("<I")
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
    return b"".join((_BEGINNING, checksum, rest, answer, _CRC.pack(crc32(record)), record))


def sealed(kind: Kind, answer: bytes, request: bytes, facts: Facts) -> tuple[bytes, Entry]:
    """An envelope as `seal` makes it, and what `unseal` would read from it."""
    raw = seal(kind, answer, request, facts)
    times = facts.created, _SECONDS.unpack_from(raw, _SECONDS_AT)[0], facts.expires
    tokens = min(facts.tokens_in, _LARGEST_COUNT), min(facts.tokens_out, _LARGEST_COUNT)
    told, more = _Record(request, facts.source, facts.model, facts.details), facts.details != ()
    return raw, Entry(kind, answer, *times, *tokens, lambda raw: told.shown(), raw, more)


def unseal(raw: bytes, most: int = MAX_ENTRY_BYTES) -> Entry:
    """Open an envelope. Takes at most `MAX_RATIO` times the memory of the envelope.

    Args:
        raw: the envelope.
        most: bytes of memory that its answer may take, decompressed and decoded, as `check_size`
            estimates them.

    Raises `CorruptEntryError` for bytes that are not one, or not one that this version can read,
    and for an answer that would take more.
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
    if found != crc or end + _CRC_SIZE + rest != len(raw):
        raise CorruptEntryError("an entry is damaged: its checksum does not fit")
    if not (0.0 <= seconds < _INF and -_INF < created < _INF and expires == expires):
        raise CorruptEntryError("an entry is damaged: its times are no numbers")
    if flags & _ANSWER_PACKED:
        answer = _unpack(answer, dic & 0xFF, most)
    try:
        if len(answer) > SMALL or most < SURE:
            check_size(_KINDS[kind], answer, most)
        held, more = _KINDS[kind], flags & _DETAILED != 0
        return Entry(held, answer, created, seconds, expires, asked, told, read_record, raw, more)
    except KeyError:
        raise CorruptEntryError(f"an entry of the unknown kind {kind}") from None


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
    end = _HEAD_SIZE + length
    if version != VERSION or end + _CRC_SIZE + rest != len(raw):
        raise CorruptEntryError("an entry is damaged, or of another format")
    return _read_record(raw, end, bool(flags & _RECORD_PACKED), dictionaries >> 8)


def _read_record(raw: bytes, start: int, packed: bool, dictionary: int) -> dict[str, Any]:
    record = raw[start + _CRC_SIZE :]
    if _CRC.unpack_from(raw, start)[0] != crc32(record):
        raise CorruptEntryError("an entry is damaged: the checksum of its record does not fit")
    try:
        if packed:
            record = _unpack(record, dictionary)
        fields = _record_decoder.decode(record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, MemoryError) as error:
        raise CorruptEntryError(f"the record of an entry cannot be read: {error}") from error
    request = fields.request
    if len(request) > SMALL and not _is_sure(request, MAX_ENTRY_BYTES, 96):
        _weigh(request[1:-4] if request[:1] == _PARTED else request, MAX_ENTRY_BYTES)
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
            raise _too_large(most)
        decompress = _zstd.decompressors.get(dictionary) or _zstd.decompressor(dictionary)
        return decompress(section)
    except (_ZstdError, MemoryError) as error:
        raise CorruptEntryError(f"an entry cannot be decompressed: {error}") from error


# -- what a section becomes ----------------------------------------------------------------------

SURE: Final = 2**24
"""Bytes of memory that no small answer becomes."""
SMALL: Final = SURE >> 8
"""Bytes that are decoded without a look where that much memory may be taken."""

_PARTED: Final = b"\xc1"  # begins a request that is encoded in parts, see `request.key`


def _too_large(most: int) -> CorruptEntryError:
    what = f"more than the {most:,} bytes of memory that the cache's max_entry_bytes allows"
    return CorruptEntryError(f"an entry would take {what}")


class _HttpParts(msgspec.Struct, array_like=True):
    status: msgspec.Raw
    headers: msgspec.Raw
    body: msgspec.Raw


class _ItemsParts(msgspec.Struct, array_like=True):
    values: list[tuple[int, bytes]]
    delays: msgspec.Raw
    returned: tuple[int, bytes]


_http_parts: Final = msgspec.msgpack.Decoder(_HttpParts)
_items_parts: Final = msgspec.msgpack.Decoder(_ItemsParts)


def check_size(kind: Kind, answer: bytes, most: int) -> None:
    """Estimate what an answer takes in memory when it is decoded, before it is.

    Of text and aliases that is what they are as bytes and as text; of an HTTP answer twice its
    body, what JSON in it is parsed to, and 48 bytes for each byte of the rest; of values what
    Python takes for their numbers, texts and containers, and of those in tagged form twice as much,
    and 1,200 bytes for each tag.

    Raises `CorruptEntryError` where that is more than ``most``, and for a key that is no text. What
    is no answer at all is left to the codec.
    """
    if len(answer) <= SMALL and most >= SURE:
        return
    if kind in (Kind.TEXT, Kind.ALIAS):
        if len(answer) * (2 if answer.isascii() else 5) > most:
            raise _too_large(most)
        return
    try:
        if kind != Kind.HTTP and _is_sure(answer, most, 96 if answer[:1] == b"\0" else 256):
            return
        if kind == Kind.VALUE:
            _weigh(answer, most, 1)
        elif kind == Kind.HTTP:
            body = bytes(_http_parts.decode(answer).body)
            left = most - 2 * len(body) - 48 * (len(answer) - len(body))
            if _JSON * len(body) > left:
                left -= sum(each * body.count(sign) for sign, each in _SIGNS.items())
            if left < 0:
                raise _too_large(most)
        else:
            left = most - _weigh(answer, most)
            items = _items_parts.decode(answer)
            for inner, item in (*items.values, items.returned):
                left -= 5 * len(item) if inner == Kind.TEXT else _weigh(item, left, 1)
    except MemoryError as error:
        raise CorruptEntryError(f"an entry cannot be decoded: {error!r}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return


# Bytes of memory for what stands behind a sign of JSON, where it is parsed.
_SIGNS: Final = {b",": 48, b"[": 72, b"{": 200}
_JSON: Final = max(_SIGNS.values())

# How many bytes a number takes behind the byte that tells it, and the size of a length.
_NUMBERS: Final = dict(zip(range(0xCA, 0xD4), (4, 8, 1, 2, 4, 8, 1, 2, 4, 8), strict=True))
_LENGTHS: Final = dict(zip(b"\xc4\xc5\xc6\xd9\xda\xdb", (1, 2, 4, 1, 2, 4), strict=True))
_LENGTHS.update({0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4})
_BARE: Final = frozenset({*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3})
_RUNS: Final = {
    **dict.fromkeys(_BARE, (rb"[\0-\x7f\xe0-\xff\xc0\xc2\xc3]", 1, 32)),
    0xCB: (rb"\xcb.{8}", 9, 32),
    0xCC: (rb"\xcc.", 2, 40),
    0xCD: (rb"\xcd..", 3, 40),
    0x80: (rb"\x80", 1, 72),
    0x90: (rb"\x90", 1, 72),
}
_RUN_OF: Final = {
    head: (re.compile(rb"(?:%b)++" % pattern, re.DOTALL).match, size, each)
    for head, (pattern, size, each) in _RUNS.items()
}
_NEVER: Final = frozenset({0xC1, *range(0xC7, 0xCA), *range(0xD4, 0xD9)})  # extensions
_TAG: Final = 1200

# Bytes that may begin a list. A key that is one can be chosen so that many have one hash.
_LISTS: Final = bytes((*range(0x90, 0xA0), 0xDC, 0xDD))
_MOST_LISTS: Final = 4096
_AT_ONCE: Final = 16384  # items of a run, before the sum is looked at


def _is_sure(data: bytes, most: int, each: int) -> bool:
    """Whether data are small enough where a byte becomes so many, and not slow either."""
    lists = len(data) - len(data.translate(None, _LISTS))
    return len(data) * each <= most and lists < _MOST_LISTS


def _weigh(data: bytes, most: int, start: int = 0) -> int:
    """The memory that Python takes for MessagePack, as an estimate; runs of items go by in C.

    Data are one value after another, from ``start`` on, behind a byte that says whether they are
    tagged. Raises `CorruptEntryError` for more than ``most``, and for a key that is no text. Ends
    where the data do, or are none.
    """
    tagged = start and data[:1] != b"\0"
    at, end, spent = start, len(data), 0
    if tagged:
        most //= 2
    above: list[int] = []
    # What is left to read in the innermost container: items, or of a map, as a negative number,
    # keys and values.
    left = end
    while at < end and spent <= most:
        while not left and above:
            left = above.pop()
        head = data[at]
        if head in _NEVER:
            break
        if left < 0:
            left += 1
            if left & 1 and not (0xA0 <= head < 0xC0 or 0xD9 <= head <= 0xDB):
                raise CorruptEntryError("a key that is no text")
        elif head in _RUN_OF:
            match, size, each = _RUN_OF[head]
            found = match(data, at, min(end, at + size * min(left, _AT_ONCE)))
            if found is None:
                break
            at = found.end()
            count = (at - found.start()) // size
            left -= count
            spent += each * count
            continue
        else:
            left -= 1
        at += 1
        if head in _BARE:
            spent += 32
        elif head in _NUMBERS:
            spent += 40
            at += _NUMBERS[head]
        else:
            size = _LENGTHS.get(head, 0)
            length = int.from_bytes(data[at : at + size]) if size else head & 0x0F
            at += size
            if head < 0x90 or head in (0xDE, 0xDF):
                spent += 232 + 64 * length
                if tagged and length == 1 and data[at + 1 : at + 2] == b"!":
                    spent += _TAG // 2
                above.append(left)
                left = -2 * length
            elif head < 0xA0 or head in (0xDC, 0xDD):
                spent += 72
                above.append(left)
                left = length
            elif 0xC4 <= head <= 0xC6:
                spent += 48 + length
                at += length
            else:
                length = length if size else head & 0x1F
                spent += 64 + length
                if length > 64 and not data[at : at + length].isascii():
                    spent += 3 * length
                at += length
    if spent > most:
        raise _too_large(most)
    return 2 * spent if tagged else spent
