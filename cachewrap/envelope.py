"""The envelope: an entry's answer and record in one string of bytes, versioned and checked.

Layout of version 1, little-endian:

====== ===== ==============================================================
offset bytes
====== ===== ==============================================================
0      3     ``cw`` and a NUL
3      1     version
4      4     CRC-32 of the rest of the head and of the answer
8      1     kind of the answer (`Kind`)
9      1     flags: 1 the answer is compressed, 2 the record is
10     2     0
12     8     expires, seconds since the epoch; 0 is never
20     8     created, seconds since the epoch
28     4     seconds that upstream took
32     4     prompt tokens
36     4     completion tokens
40     4     length of the answer as stored
44     4     length of the record as stored
48           the answer
then   4     CRC-32 of the record
then         the record: MessagePack of request, source and model
====== ===== ==============================================================

Sections are compressed with Zstandard where that saves space; a short answer is not, because to
decompress it would cost as much as to read it from the disk. A hit reads the head and the answer
alone.
"""

from __future__ import annotations

import struct
import threading
from functools import partial
from typing import Any, Final
from zlib import crc32

import msgspec
import zstandard

from cachewrap.entry import Entry, Facts, Kind
from cachewrap.errors import CorruptEntryError

VERSION: Final = 1

MAX_RATIO: Final = 4096
"""What a section may grow by when it is decompressed; one that would shrink by more is not."""

_HEAD: Final = struct.Struct("<3sBIBBHddfIIII")
_MAGIC: Final = b"cw\x00"
_CHECKED_FROM: Final = 8
_ANSWER_PACKED: Final = 1
_RECORD_PACKED: Final = 2
_SHORT_ANSWER: Final = 2048
_SHORT_RECORD: Final = 128
_LARGEST_COUNT: Final = 2**32 - 1

_CRC: Final = struct.Struct("<I")
# Looked up once: every hit asks for them.
_HEAD_SIZE: Final = _HEAD.size
_CRC_SIZE: Final = _CRC.size
_unpack_head: Final = _HEAD.unpack_from
_encoder = msgspec.msgpack.Encoder()


class _Record(msgspec.Struct, array_like=True):
    request: bytes
    source: str
    model: str


_record_decoder = msgspec.msgpack.Decoder(_Record)


class _Zstd(threading.local):
    """One compressor and one decompressor for each thread: they must not be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def seal(kind: Kind, answer: bytes, request: bytes, facts: Facts) -> bytes:
    """Put an answer and its record into an envelope.

    Args:
        kind: how the answer is to be read.
        answer: what `codec.encode` gave.
        request: the canonical request as `key.encode` gave it; empty to leave it out.
        facts: what is known about the answer.
    """
    record = _encoder.encode(_Record(request, facts.source, facts.model))
    packed_answer, packed_record = _pack(answer, _SHORT_ANSWER), _pack(record, _SHORT_RECORD)
    flags = (_ANSWER_PACKED if packed_answer else 0) | (_RECORD_PACKED if packed_record else 0)
    answer, record = packed_answer or answer, packed_record or record
    rest = _HEAD.pack(
        _MAGIC,
        VERSION,
        0,
        kind,
        flags,
        0,
        facts.expires,
        facts.created,
        facts.seconds,
        min(facts.tokens_in, _LARGEST_COUNT),
        min(facts.tokens_out, _LARGEST_COUNT),
        len(answer),
        len(record),
    )[_CHECKED_FROM:]
    checksum = crc32(answer, crc32(rest))
    return b"".join(
        (
            _MAGIC,
            bytes((VERSION,)),
            _CRC.pack(checksum),
            rest,
            answer,
            _CRC.pack(crc32(record)),
            record,
        )
    )


def unseal(raw: bytes) -> Entry:
    """Open an envelope. Takes at most `MAX_RATIO` times the memory of the envelope.

    Raises `CorruptEntryError` for bytes that are not one, or not one that this version can read.
    """
    if len(raw) < _HEAD_SIZE:
        raise CorruptEntryError("these bytes are not an entry of cachewrap's")
    (magic, version, crc, kind, flags, _, expires, created, seconds, asked, told, size, rest) = (
        _unpack_head(raw)
    )
    if magic != _MAGIC:
        raise CorruptEntryError("these bytes are not an entry of cachewrap's")
    if version != VERSION:
        raise CorruptEntryError(
            f"an entry of format version {version}; this cachewrap reads version {VERSION}"
        )
    end = _HEAD_SIZE + size
    answer = raw[_HEAD_SIZE:end]
    if end + _CRC_SIZE + rest != len(raw) or (
        crc32(answer, crc32(raw[_CHECKED_FROM:_HEAD_SIZE])) != crc
    ):
        raise CorruptEntryError("an entry is damaged: its checksum does not fit")
    if flags & _ANSWER_PACKED:
        answer = _unpack(answer)
    try:
        return Entry(
            _KINDS[kind],
            answer,
            created,
            seconds,
            expires,
            asked,
            told,
            partial(read_record, raw),
        )
    except KeyError:
        raise CorruptEntryError(f"an entry of the unknown kind {kind}") from None


_KINDS: Final = {int(kind): kind for kind in Kind}


def read_record(raw: bytes) -> dict[str, Any]:
    """The record of an envelope alone: its answer is neither checked nor unpacked.

    Raises `CorruptEntryError`.
    """
    if raw[:3] != _MAGIC or len(raw) < _HEAD_SIZE:
        raise CorruptEntryError("these bytes are not an entry of cachewrap's")
    _, version, _, _, flags, *_, length, rest = _unpack_head(raw)
    end = _HEAD_SIZE + length
    if version != VERSION or end + _CRC_SIZE + rest != len(raw):
        raise CorruptEntryError("an entry is damaged, or of another format")
    return _read_record(raw, end, bool(flags & _RECORD_PACKED))


def _read_record(raw: bytes, start: int, packed: bool) -> dict[str, Any]:
    record = raw[start + _CRC_SIZE :]
    if _CRC.unpack_from(raw, start)[0] != crc32(record):
        raise CorruptEntryError("an entry is damaged: the checksum of its record does not fit")
    try:
        fields = _record_decoder.decode(_unpack(record) if packed else record)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CorruptEntryError(f"the record of an entry cannot be read: {error}") from error
    return {"request": fields.request, "source": fields.source, "model": fields.model}


def _pack(section: bytes, short: int) -> bytes | None:
    """The compressed section, or None where it is short, or does not shrink enough."""
    if len(section) < short:
        return None
    packed = _zstd.compressor.compress(section)
    worth = len(packed) * 10 < len(section) * 9 and len(packed) * MAX_RATIO >= len(section)
    return packed if worth else None


def _unpack(section: bytes) -> bytes:
    try:
        # What the frame claims is checked first: it decides how much memory is taken.
        if zstandard.frame_content_size(section) > len(section) * MAX_RATIO:
            raise CorruptEntryError("an entry claims to be larger than it can be")
        return _zstd.decompressor.decompress(section)
    except zstandard.ZstdError as error:
        raise CorruptEntryError(f"an entry cannot be decompressed: {error}") from error
