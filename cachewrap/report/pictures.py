"""Pictures that a page may show: raster images, known by their bytes, of a size that is bounded."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 4 * 2**20
"""Bytes of a picture, at most."""

_PIXELS: Final = 40_000_000
_SIDE: Final = 16_384
_DATA_URL: Final = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+=-]*)*;base64,", re.I)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture whose bytes are known.

    Args:
        kind: its media type, from its bytes: what is said of it may be a lie.
        width: in pixels.
        height: in pixels.
        data: its bytes.
    """

    kind: str
    width: int
    height: int
    data: bytes

    @property
    def address(self) -> str:
        """Its bytes as a ``data:`` URL."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


def picture_of(said: str | bytes) -> Picture | None:
    """The picture in bytes, in Base64 or in a ``data:`` URL; None for what is not to be shown.

    PNG, JPEG, GIF and WebP are, up to `LARGEST` bytes and 40 million pixels. SVG is a document.
    """
    data = said if isinstance(said, bytes) else _decoded(said)
    if data is None or len(data) > LARGEST:
        return None
    try:
        kind, width, height = _measured(data)
    except (struct.error, IndexError):
        return None
    fits = 0 < width <= _SIDE and 0 < height <= _SIDE and width * height <= _PIXELS
    return Picture(kind, width, height, data) if kind and fits else None


def _decoded(text: str) -> bytes | None:
    if len(text) > LARGEST * 3 // 2:
        return None
    if found := _DATA_URL.match(text[:200]):
        text = text[found.end() :]
    try:
        return base64.b64decode(text.translate({10: None, 13: None}), validate=True)
    except (binascii.Error, ValueError):
        return None


def _measured(data: bytes) -> tuple[str, int, int]:
    """Type, width and height, by the first bytes; an empty type for what is no such picture."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
        return "image/png", *struct.unpack_from(">II", data, 16)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif", *struct.unpack_from("<HH", data, 6)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp", *_measured_webp(data)
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg", *_measured_jpeg(data)
    return "", 0, 0


def _measured_webp(data: bytes) -> tuple[int, int]:
    form = data[12:16]
    if form == b"VP8X":
        return (
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
        )
    if form == b"VP8L" and data[20] == 0x2F:
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _measured_jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0
