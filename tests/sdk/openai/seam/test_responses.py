"""Responses built from stored answers, and stored answers taken from responses."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import zlib
from datetime import timedelta
from typing import Any

import pytest

from cachewrap.entry import HttpAnswer
from cachewrap.http.answers import kept_headers
from cachewrap.http.response import build, decode, family_of, is_framed

LIBRARIES = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
BODY = [b'{"a": ', b"1", b"}"]
HEADERS = [("content-type", "application/json"), ("content-encoding", "gzip"), ("x-a", "1")]
WHERE: dict[str, Any] = {"method": "POST", "url": "http://h/v1?q=1", "headers": {"x-r": "2"}}


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def response(library: Any) -> Any:
    with library.Client() as transport:
        answer, request = HttpAnswer(200, HEADERS, BODY, []), library.Request(**WHERE)
        return build(transport, family_of(transport), answer, request)


def test_it_is_of_the_transports_library(library: Any, response: Any) -> None:
    assert type(response) is library.Response


def test_a_subclass_of_a_client_has_its_parents_library(library: Any) -> None:
    class Mine(library.AsyncClient):  # type: ignore[misc]
        pass

    assert family_of(Mine()).response is library.Response


def test_what_is_no_client_has_none() -> None:
    with pytest.raises(TypeError, match="neither httpx nor httpx2"):
        family_of(object())


def test_headers_are_as_stored_but_for_the_mark(response: Any) -> None:
    assert response.headers.multi_items() == [*HEADERS, ("x-cachewrap", "hit")]


def test_stored_bytes_are_not_decoded_again(response: Any) -> None:
    assert response.read() == b"".join(BODY)
    assert response.json() == {"a": 1}


def test_chunks_come_as_stored(response: Any) -> None:
    assert list(response.iter_bytes()) == BODY


def test_chunks_come_as_stored_to_async_readers(library: Any, response: Any) -> None:
    async def read() -> list[bytes]:
        return [chunk async for chunk in response.aiter_bytes()]

    assert asyncio.run(read()) == BODY


def test_it_is_open_until_it_is_consumed(response: Any) -> None:
    assert not response.is_closed
    response.read()
    assert response.is_closed and response.is_stream_consumed


def test_it_carries_its_request(response: Any) -> None:
    request = response.request
    assert (request.method, str(request.url), request.headers["x-r"]) == (
        "POST",
        "http://h/v1?q=1",
        "2",
    )


def test_elapsed_is_there_at_once(response: Any) -> None:
    assert response.elapsed == timedelta(0)


def test_a_second_reader_goes_on_where_the_first_one_stopped(response: Any) -> None:
    first = iter(response.stream)
    assert next(first) == BODY[0]
    assert list(response.stream) == BODY[1:]


def deflate(pieces: list[bytes]) -> list[bytes]:
    """Each piece compressed and flushed, as a server that streams does."""
    press = zlib.compressobj(wbits=31)
    out = [press.compress(piece) + press.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*out, press.flush()]


def test_compressed_chunks_are_stored_as_their_reader_saw_them(library: Any) -> None:
    raw = deflate(BODY)
    chunks, delays = decode(
        family_of(library.Client()), "gzip", raw, [float(n) for n in range(len(raw))]
    )
    assert chunks == BODY
    assert delays == [0.0, 1.0, 2.0]


def test_plain_chunks_are_stored_without_the_empty_ones(library: Any) -> None:
    assert decode(family_of(library.Client()), None, [b"a", b"", b"b"], [1.0, 2.0, 3.0]) == (
        [b"a", b"b"],
        [1.0, 3.0],
    )


def test_a_body_that_is_not_what_its_encoding_says(library: Any) -> None:
    family = family_of(library.Client())
    with pytest.raises(family.decoding_error):
        decode(family, "gzip", [b"not gzip"], [0.0])


def test_secret_headers_are_not_kept(library: Any) -> None:
    response = library.Response(
        200, headers=[("Set-Cookie", "a"), ("X-A", "1"), ("openai-organization", "o")], text="x"
    )
    assert dict(kept_headers(response)).keys() & {"set-cookie", "openai-organization"} == set()
    assert dict(kept_headers(response))["x-a"] == "1"


@pytest.mark.parametrize(
    ("headers", "framed"),
    [
        ({"content-length": "3"}, True),
        ({"transfer-encoding": "chunked"}, True),
        ({}, False),
    ],
)
def test_whether_a_cut_would_show(library: Any, headers: dict[str, str], framed: bool) -> None:
    assert is_framed(library.Response(200, headers=headers)) is framed


def test_http2_frames_every_body(library: Any) -> None:
    assert is_framed(library.Response(200, extensions={"http_version": b"HTTP/2"}))


def test_gzip_of_one_piece(library: Any) -> None:
    chunks, _ = decode(family_of(library.Client()), "gzip", [gzip.compress(b"abc")], [0.5])
    assert chunks == [b"abc"]
