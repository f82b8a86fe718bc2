"""Pictures that a page may show: known by their bytes, and of a size that is bounded."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given, strategies as st

from cachewrap.report.pictures import LARGEST, picture_of


def png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0"
    )


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BBHBHH", 0xFF, 0xC2, 17, 8, height, width)
    return b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(10) + b"\xff\xff\xc4\x00\x03\x00" + frame


def webp(form: bytes, data: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + form + b"\0\0\0\0" + data


LOSSLESS = b"\x2f" + struct.pack("<I", 39 | 19 << 14)
LOSSY = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 40, 20)
EXTENDED = bytes(4) + (39).to_bytes(3, "little") + (19).to_bytes(3, "little")

SHOWN = {
    "PNG": (png(40, 20), "image/png"),
    "GIF": (b"GIF89a" + struct.pack("<HH", 40, 20), "image/gif"),
    "an old GIF": (b"GIF87a" + struct.pack("<HH", 40, 20), "image/gif"),
    "JPEG": (jpeg(40, 20), "image/jpeg"),
    "WebP": (webp(b"VP8 ", LOSSY), "image/webp"),
    "WebP without loss": (webp(b"VP8L", LOSSLESS), "image/webp"),
    "WebP with more": (webp(b"VP8X", EXTENDED), "image/webp"),
}


@pytest.mark.parametrize(("data", "kind"), SHOWN.values(), ids=SHOWN.keys())
def test_a_picture_is_known_by_its_bytes(data: bytes, kind: str) -> None:
    encoded = base64.b64encode(data).decode()
    for said in (
        data,
        encoded,
        f"data:text/html;base64,{encoded}",
        f"{encoded[:8]}\n{encoded[8:]}",
    ):
        picture = picture_of(said)
        assert picture is not None
        assert (picture.kind, picture.width, picture.height) == (kind, 40, 20)
        assert picture.address == f"data:{kind};base64,{encoded}"


REFUSED = {
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='x'/>",
    "SVG behind a name": b"<?xml version='1.0'?><svg/>",
    "HTML": b"<img src=x onerror=x>",
    "a PNG without a size": png(40, 20)[:18],
    "a PNG whose first part is another": png(40, 20).replace(b"IHDR", b"tEXt"),
    "a side of 16,385": png(16_385, 1),
    "40 million pixels and some": png(8_000, 5_001),
    "no height": png(40, 0),
    "a JPEG that ends": jpeg(40, 20)[:30],
    "a JPEG without a frame": b"\xff\xd8\xff\xd9",
    "a JPEG that goes nowhere": b"\xff\xd8\xff\xe0\x00\x00" * 3,
    "a WebP of another form": webp(b"XXXX", LOSSY),
    "a sound in RIFF": b"RIFF\0\0\0\0WAVEfmt ",
    "a PDF": b"%PDF-1.7",
    "nothing": b"",
    "too many bytes": png(40, 20) + bytes(LARGEST),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_not_shown(data: bytes) -> None:
    assert picture_of(data) is None
    assert picture_of(f"data:image/png;base64,{base64.b64encode(data).decode()}") is None


@pytest.mark.parametrize(
    "said",
    ["", "AAAA", "https://a.example/b.png", "data:image/png,x", "iVBO Rw0K", "grüß", "data:" * 99],
)
def test_what_is_no_base64_is_no_picture(said: str) -> None:
    assert picture_of(said) is None


@given(st.sampled_from([data for data, _ in SHOWN.values()]), st.binary(), st.integers(0, 60))
def test_no_bytes_raise(data: bytes, more: bytes, at: int) -> None:
    picture_of(data[:at] + more)
