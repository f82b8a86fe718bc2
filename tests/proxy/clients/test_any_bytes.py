"""Any bytes at all: cut anywhere they mean the same, and none of them harm the server."""

from __future__ import annotations

import asyncio
from typing import Any

from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap.proxy.messages import BadBody, Request, Response
from proxy.clients.talk import Memory, chunked, echo, headed, limits, pieces_of

BOUNDS = limits(header_bytes=600, headers=12, body_bytes=2000)
TOKENS = st.text("abcXYZ019-_", min_size=1, max_size=8)
HEADERS = st.lists(
    st.builds(lambda name, value: f"X-{name}: {value}", TOKENS, st.text("ab ,;=\xe4", max_size=8)),
    max_size=4,
)
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)
PARTS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"0", b"5", b"f", b"/", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: a\r\nConnection: Upgrade\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"HTTP/1.0", b"\xff",
]  # fmt: skip


@st.composite
def requests(draw: Any) -> bytes:
    """A request that HTTP allows."""
    headers = draw(HEADERS)
    pieces = draw(BODIES)
    first = f"{draw(st.sampled_from(['GET', 'POST', 'HEAD', 'x']))} /{draw(TOKENS)}"
    if draw(st.booleans()):
        trailers = "".join(f"{line.rstrip()}\r\n" for line in draw(HEADERS)).encode("latin-1")
        headers.append("Transfer-Encoding: chunked")
        body = chunked(*pieces, trailers=trailers)
    else:
        body = b"".join(pieces)
        headers.append(f"Content-Length: {len(body)}")
    before = draw(st.sampled_from([b"", b"", b"", b"\r\n"]))
    return bytes(before + headed(first, *headers, body=body))


@st.composite
def damaged(draw: Any) -> bytes:
    """Requests in which something is put in, left out, doubled or changed."""
    data = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(["in", "out", "double", "change"]))
        if kind == "in":
            data[at:at] = draw(st.sampled_from(PARTS))
        elif kind == "out":
            del data[at : at + length]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = draw(st.binary(max_size=length))
    return bytes(data)


def cuts(draw: Any, data: bytes) -> list[bytes]:
    places = draw(st.lists(st.integers(0, len(data)), max_size=8))
    return [piece for piece in pieces_of(data, sorted(places)) if piece]


class Witness:
    """A handler that notes what was asked.

    Attributes:
        asked: method, path, headers, body and trailers of each request whose end came.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def handle(self, request: Request, response: Response) -> None:
        try:
            body = b"".join([piece async for piece in request])
        except BadBody:
            self.asked.append(("bad body", request.target))
            raise
        self.asked.append((request.method, request.target, request.headers, body, request.trailers))
        await echo(request, response)


async def heard(pieces: list[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
    """What was asked with the bytes, and what was answered, once their client has left."""
    before = asyncio.all_tasks()
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
    witness = Witness()
    memory = Memory(witness.handle, BOUNDS)
    sent = await memory.feed(*pieces)
    for _ in range(8):
        await memory.rest()
    sent = memory.sent
    if not memory.closed:
        memory.connection.eof_received()
        await memory.rest()
    memory.end()
    await memory.rest()
    assert asyncio.all_tasks() == before
    assert memory.connections == set()
    assert (memory.failures, troubles) == ([], [])
    return witness.asked, sent


@settings(max_examples=many(50), deadline=None)
@given(st.data())
def test_requests_mean_the_same_however_they_are_cut(data: st.DataObject) -> None:
    asked = data.draw(st.lists(requests(), min_size=1, max_size=4))
    whole = b"".join(asked)
    plain = asyncio.run(heard([whole]))
    assert len(plain[0]) == len(asked)
    assert asyncio.run(heard(cuts(data.draw, whole))) == plain


@settings(max_examples=many(100), deadline=None)
@given(st.data())
def test_damaged_requests_mean_the_same_however_they_are_cut(data: st.DataObject) -> None:
    whole = data.draw(damaged())
    asked, _ = asyncio.run(heard([whole]))
    assert asyncio.run(heard(cuts(data.draw, whole)))[0] == asked


@settings(max_examples=many(100), deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=6), max_size=30))
def test_no_bytes_harm_the_server(pieces: list[bytes]) -> None:
    asyncio.run(heard([piece for piece in pieces if piece]))
