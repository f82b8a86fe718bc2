"""Content codings are taken off and put on again, piece by piece."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib

import pytest

from cachewrap.format.zstd import LIBRARY
from cachewrap.http.encodings import (
    DECODING_ERRORS,
    coder_of,
    codings,
    decoded_within,
    decoder,
    encoded,
    encoder,
)

PIECES = [b"data: one\n\n", "data: zwölf\n\n".encode() * 40, b"x"]
NAMES = ["gzip", "x-gzip", "deflate", "zstd", "br", "deflate, gzip", "zstd, br", ""]


def needs_brotli(header: str) -> tuple[str, ...]:
    if "br" in codings(header):
        pytest.importorskip("brotli", reason="only clients that have it are sent it")
    return codings(header)


@pytest.mark.parametrize("header", NAMES)
def test_what_is_encoded_can_be_decoded_as_soon_as_it_has_come(header: str) -> None:
    names = needs_brotli(header)
    encode, decode = encoder(names), decoder(names)
    assert [decode.feed(encode.feed(piece)) for piece in PIECES] == PIECES
    assert decode.feed(encode.end()) + decode.end() == b""


@pytest.mark.parametrize(
    ("header", "coded"),
    [
        ("gzip", gzip.compress(b"abc", mtime=0)),
        ("GZip", gzip.compress(b"abc", mtime=0)),
        ("identity", b"abc"),
        ("deflate", zlib.compress(b"abc")),
        ("deflate", zlib.compress(b"abc", wbits=-zlib.MAX_WBITS)),
        ("zstd", LIBRARY.compressor(3)(b"abc")),
        ("deflate, gzip", gzip.compress(zlib.compress(b"abc"), mtime=0)),
    ],
)
def test_what_others_have_encoded(header: str, coded: bytes) -> None:
    pieces = [coded[at : at + 1] for at in range(len(coded))]
    assert b"".join(decoder(codings(header)).over(pieces)) == b"abc"


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd", "br"])
def test_what_is_not_of_its_coding_is_an_error(name: str) -> None:
    decode = decoder(needs_brotli(name))
    with pytest.raises(DECODING_ERRORS):
        decode.feed(b"\xffnot encoded at all")


@pytest.mark.parametrize("make", [encoder, decoder])
def test_an_unknown_coding_cannot_be_looked_up(
    make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    monkeypatch.delitem(sys.modules, "brotlicffi", raising=False)
    for name in ("compress", "br"):
        with pytest.raises(LookupError):
            make((name,))  # type: ignore[operator]


@pytest.mark.parametrize("header", ["gzip", "compress"])
def test_looking_into_a_body_never_breaks_it(header: str) -> None:
    coder = coder_of(header)
    assert [coder.feed(b"plain"), coder.feed(b"plain")] == [b"", b""]


@pytest.mark.parametrize("header", ["gzip", "deflate", "zstd", "br", ""])
def test_a_body_of_anybody_is_decoded_up_to_a_length(header: str) -> None:
    needs_brotli(header)
    body = b"".join(b"%d," % n for n in range(20_000))
    coded = b"".join(encoded(header, [body]))
    assert decoded_within(header, coded, len(body)) == body
    with pytest.raises(ValueError, match="too long"):
        decoded_within(header, coded, len(body) - 1)


@pytest.mark.parametrize("header", ["gzip", "deflate", "zstd", "br"])
def test_no_more_comes_out_of_it_than_that(header: str) -> None:
    names = needs_brotli(header)
    nothing = bytes(1 << 20)
    coder = encoder(names)
    coded = b"".join(coder.over([nothing] * 256))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too long"):
            decoded_within(header, coded, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 96 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", ["gzip, gzip", "gzip, br", "unheard-of", "gzip;q=1"])
def test_codings_that_nobody_sends_are_an_error(header: str) -> None:
    with pytest.raises(ValueError, match=r"codings|cannot be read"):
        decoded_within(header, b"abc", 1000)


@pytest.mark.parametrize("header", ["gzip", "deflate", "zstd", "br"])
def test_a_body_of_another_coding_is_an_error(header: str) -> None:
    needs_brotli(header)
    with pytest.raises(ValueError, match="that is not"):
        decoded_within(header, b"\xffnot encoded at all", 1000)
