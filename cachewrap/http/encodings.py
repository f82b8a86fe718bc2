"""Codings of bodies that are handed on as they came, frames of events, and kept headers."""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, TypeAlias

from cachewrap.entry import HttpAnswer
from cachewrap.errors import CorruptEntryError
from cachewrap.format.zstd import LIBRARY
from cachewrap.secrets import is_secret

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


# -- headers ---------------------------------------------------------------------------------------


def value_of(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of a header, whose name is given in lower case."""
    return next((value for key, value in pairs if key.lower() == name), None)


# What a response tells of its answer. Nothing that makes a client, a browser or a proxy do more.
_TOLD: Final = frozenset(
    "content-type content-length content-encoding content-language date age server via"
    " num_chars num_tokens".split()
)
_TOLD_OF: Final = re.compile(
    r"(?:x|openai|anthropic|azureml|apim|ms-azureml|cf|llm_provider|litellm|helicone|portkey|groq"
    r"|together|fireworks|cohere|mistral|deepseek|openrouter|goog|google|amzn|bedrock)-[-\w.]+"
    r"|(?:[-\w.]+-)?(?:request|trace|correlation|generation|inference)-?id|server-timing"
    r"|(?:[-\w.]+-)?ratelimit(?:-[-\w.]+)?",
    re.IGNORECASE | re.ASCII,
)
_NEVER_TOLD: Final = re.compile(
    r"cookie|location|redirect|refresh|retry|authenticat|pingback|sourcemap|cachewrap"
    r"|-(?:accel|sendfile|lighttpd|forwarded|original|rewrite|http-method|method-override|frame"
    r"|xss|content-type|content-security|permitted|dns-prefetch|ua-compatible|download-options"
    r"|webkit|robots|host|proxy)(?:-|$)",
    re.IGNORECASE,
)
_CODING: Final = frozenset({"identity", "gzip", "x-gzip", "deflate", "br", "zstd"})
_FRAMING: Final = frozenset({"content-type", "content-encoding", "content-length"})
_NO_TEXT: Final = frozenset({"idna", "punycode", "undefined", "raw-unicode-escape"})
_MOST_HEADERS: Final = 256
_LONGEST: Final = 8192
_LONGEST_NAME: Final = 128

is_sound: Final = re.compile(rf"[\t\x20-\x7e\xa0-\xff]{{0,{_LONGEST}}}").fullmatch
"""Matches the value of a header that may stand in a response."""


@lru_cache(maxsize=512)
def is_told(name: str) -> bool:
    """Whether a header of this name, which is no longer than names are, may come back."""
    name = name.lower()
    return name in _TOLD or (
        _TOLD_OF.fullmatch(name) is not None
        and _NEVER_TOLD.search(name) is None
        and not is_secret(name)
    )


def kept_headers(response: Any) -> list[tuple[str, str]]:
    """A response's headers that are stored, and how its body comes, for those who read along."""
    pairs = response.headers.multi_items()
    kept = [
        (name, value)
        for name, value in pairs
        if len(name) <= _LONGEST_NAME
        and (is_told(name) or name.lower() == "transfer-encoding")
        and is_sound(value)
    ]
    return kept[:_MOST_HEADERS]


def served_headers(answer: HttpAnswer) -> list[tuple[str, str]]:
    """The headers of a stored answer that come back with it, whoever has written it.

    What tells how its body was sent is left out where that is not so.

    Raises `CorruptEntryError` for headers that no response has.
    """
    if len(answer.headers) > _MOST_HEADERS:
        raise CorruptEntryError(f"an answer with {len(answer.headers)} headers")
    served = []
    framing = set(_FRAMING)  # each of them once: two contradict each other
    for name, value in answer.headers:
        if len(name) > _LONGEST_NAME or not is_told(name):
            continue
        if not is_sound(value):
            raise CorruptEntryError(f"the value of its header {name.lower()} is none")
        if (lower := name.lower()) in _FRAMING:
            if lower not in framing:
                continue
            framing.discard(lower)
            if lower == "content-type":
                value = _readable_type(value)
            elif not _is_so(lower, value, answer):
                continue
        served.append((name, value))
    return served


def _is_so(name: str, value: str, answer: HttpAnswer) -> bool:
    """Whether a body has a coding that is known, or the length that its header tells.

    That is the length of the body as it was sent, compressed.
    """
    if name == "content-encoding":
        return value.strip().lower() in _CODING
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        return False
    encoded = (value_of(answer.headers, "content-encoding") or "").strip().lower()
    if encoded in _CODING - {"identity"}:
        return True
    return int(value) == sum(map(len, answer.chunks))


def _readable_type(value: str) -> str:
    """A content type without a charset that is no encoding of text, or a slow one."""
    kind, _, rest = value.partition(";")
    charset = rest.lower().partition("charset=")[2].partition(";")[0].strip(" \t\"'")
    if not charset or charset == "utf-8":
        return value
    try:
        found = codecs.lookup(charset)
    except (LookupError, ValueError):
        return kind.strip()
    known = getattr(found, "_is_text_encoding", True) and found.name not in _NO_TEXT
    return value if known else kind.strip()
