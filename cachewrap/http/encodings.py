"""Codings of bodies that are handed on as they came, and frames of events."""

from __future__ import annotations

import base64
import binascii
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Final, TypeAlias

from cachewrap.format.zstd import LIBRARY

BLANK: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""What an event of a stream of events ends with."""

Step: TypeAlias = Callable[[bytes], bytes]

_GZIP: Final = 16 + zlib.MAX_WBITS


class Coder:
    """A coder that takes the pieces of one body, and gives each of them encoded or decoded.

    Args:
        feed: takes a piece and gives what has come out of it, which may be empty.
        end: gives what is still to come.
    """

    def __init__(self, feed: Step, end: Callable[[], bytes] = bytes) -> None:
        self.feed = feed
        self.end = end

    def over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of a whole body, coded."""
        for piece in pieces:
            if piece and (coded := self.feed(piece)):
                yield coded
        if rest := self.end():
            yield rest


def codings(header: str | None) -> tuple[str, ...]:
    """The codings of a body, in the order in which they were applied."""
    names = (name.strip().lower() for name in (header or "").split(","))
    return tuple(name for name in names if name not in ("", "identity"))


def decoder(names: tuple[str, ...]) -> Coder:
    """Takes the codings off again. Raises `LookupError` for one that cannot be undone here.

    What it gives is an error (`DECODING_ERRORS`) for a body that is not what its coding says.
    """
    return _chain([_DECODERS[name]() for name in reversed(names)])


def encoder(names: tuple[str, ...]) -> Coder:
    """Applies codings, so that each piece can be decoded as soon as it has come.

    Raises `LookupError` for one that cannot be applied here.
    """
    return _chain([_ENCODERS[name]() for name in names])


DECODING_ERRORS: Final = (zlib.error, LIBRARY.error, ValueError)
"""What a decoder raises for a body that is not what its coding says."""


def decoded(encoding: str | None, body: bytes) -> bytes:
    """A whole body with its codings taken off; nothing where that cannot be done."""
    try:
        return b"".join(decoder(codings(encoding)).over([body]))
    except (LookupError, *DECODING_ERRORS):
        return b""


# As much as is taken at once of a body that somebody sends: it may become a thousand times as long,
# or of Brotli 16 MB for every few bytes.
_TAKEN: Final = 512
_TAKEN_OF_BROTLI: Final = 16


def decoded_within(encoding: str | None, body: bytes, most: int) -> bytes:
    """A whole body of an unknown sender with its coding taken off.

    Raises `ValueError` where that cannot be done, or where more than ``most`` bytes come out.
    """
    names = codings(encoding)
    if len(names) > 1:
        raise ValueError("a body with several codings")
    taken = _TAKEN_OF_BROTLI if names == ("br",) else _TAKEN
    pieces: list[bytes] = []
    try:
        coder = decoder(names)
        for piece in coder.over(body[at : at + taken] for at in range(0, len(body), taken)):
            pieces.append(piece)
            most -= len(piece)
            if most < 0:
                break
    except (LookupError, *DECODING_ERRORS) as error:
        raise ValueError(f"a body that is not {encoding}, or cannot be read here") from error
    if most < 0:
        raise ValueError("a body that is too long without its coding")
    return b"".join(pieces)


def encoded(encoding: str | None, chunks: Iterable[bytes]) -> Iterable[bytes]:
    """The pieces of a body with its codings on it again. Raises `LookupError` as `encoder` does."""
    names = codings(encoding)
    return encoder(names).over(chunks) if names else chunks


def coder_of(encoding: str | None) -> Coder:
    """Takes the codings off a body as it comes, to look into it; what cannot be read is nothing."""
    try:
        inner = decoder(codings(encoding))
    except LookupError:
        return Coder(lambda piece: b"")
    broken = False

    def feed(piece: bytes) -> bytes:
        nonlocal broken
        if broken:
            return b""
        try:
            return inner.feed(piece)
        except DECODING_ERRORS:
            broken = True
            return b""

    return Coder(feed)


def _chain(coders: list[Coder]) -> Coder:
    if len(coders) == 1:
        return coders[0]

    def feed(piece: bytes) -> bytes:
        for coder in coders:
            piece = coder.feed(piece)
        return piece

    def end() -> bytes:
        rest = b""
        for coder in coders:
            rest = (coder.feed(rest) if rest else b"") + coder.end()
        return rest

    return Coder(feed, end)


def _zlib(wbits: int) -> Coder:
    codec = zlib.decompressobj(wbits)
    return Coder(codec.decompress, codec.flush)


def _inflate() -> Coder:
    """Of "deflate", which some servers send without the frame of two bytes that belongs to it."""
    inner: Coder | None = None
    begun = b""

    def feed(piece: bytes) -> bytes:
        nonlocal inner, begun
        if inner is not None:
            return inner.feed(piece)
        begun += piece
        if len(begun) < 2:
            return b""
        framed = begun[0] & 15 == zlib.DEFLATED and int.from_bytes(begun[:2]) % 31 == 0
        inner = _zlib(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
        return inner.feed(begun)

    return Coder(feed, lambda: inner.end() if inner else b"")


def _unbrotli() -> Coder:
    module = _brotli()
    codec = module.Decompressor()
    step = getattr(codec, "decompress", None) or codec.process

    def feed(piece: bytes) -> bytes:
        try:
            return bytes(step(piece))
        except module.error as error:
            raise ValueError(str(error)) from error

    return Coder(feed)


def _deflate(wbits: int) -> Coder:
    codec = zlib.compressobj(1, zlib.DEFLATED, wbits)
    return Coder(lambda piece: codec.compress(piece) + codec.flush(zlib.Z_SYNC_FLUSH), codec.flush)


def _tobrotli() -> Coder:
    codec = _brotli().Compressor(quality=1)
    step = getattr(codec, "compress", None) or codec.process
    return Coder(lambda piece: bytes(step(piece)) + bytes(codec.flush()), codec.finish)


def _brotli() -> Any:
    """The library with which a client decodes Brotli, if there is one."""
    for name in ("brotlicffi", "brotli"):
        if found := sys.modules.get(name):
            return found
    try:
        return import_module("brotli")
    except ImportError as error:
        raise LookupError("br") from error


_DECODERS: Final[dict[str, Callable[[], Coder]]] = {
    "gzip": lambda: _zlib(_GZIP),
    "x-gzip": lambda: _zlib(_GZIP),
    "deflate": _inflate,
    "zstd": lambda: Coder(LIBRARY.decompressing()),
    "br": _unbrotli,
}
_ENCODERS: Final[dict[str, Callable[[], Coder]]] = {
    "gzip": lambda: _deflate(_GZIP),
    "x-gzip": lambda: _deflate(_GZIP),
    "deflate": lambda: _deflate(zlib.MAX_WBITS),
    "zstd": lambda: Coder(*LIBRARY.compressing(1)),
    "br": _tobrotli,
}


# -- frames of events, as Bedrock sends them -------------------------------------------------------


FRAMES: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = 12  # length of the message, length of its headers, and their checksum
_CHECKSUM: Final = 4


def read_frames(body: bytes) -> Iterator[dict[str, Any] | None]:
    """The JSON event in each whole frame of the stream, None for a frame without a sound one.

    Each frame carries its lengths and checksums, big-endian; the payload is JSON with an event of
    the model's own API in its ``bytes``. An error comes as a frame without them.
    """
    start = 0
    while start < len(body):
        size = int.from_bytes(body[start : start + 4])
        frame = body[start : start + size]
        if len(frame) < size or size < _PRELUDE + _CHECKSUM:
            return
        start += size
        yield _event(frame)


def _event(frame: bytes) -> dict[str, Any] | None:
    if binascii.crc32(frame[:-_CHECKSUM]) != int.from_bytes(frame[-_CHECKSUM:]):
        return None
    headers = int.from_bytes(frame[4:8])
    try:
        payload = json.loads(frame[_PRELUDE + headers : -_CHECKSUM])
        event = json.loads(base64.b64decode(payload["bytes"], validate=True))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
