"""Loopback servers that break, stall or are slow, and callers of them."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

import anyio
import anyio.from_thread
import pytest

import cachewrap
from cachewrap import llm_cached

BREAKS = ["closes", "resets", "ends early"]
STALLS = ["stalls", "stalls in a chunk"]
LETTERS = "abc"


class Upstream:
    """Answers each request with a stream of three items, which carry the request's number.

    Args:
        fault: what becomes of the first stream.
        after: how many items of that come before.
        held: whether the fault waits for `go`.
    """

    def __init__(self, fault: str, after: int = 0, *, held: bool = False) -> None:
        self.fault, self.after = fault, after
        self.calls = 0
        self.go = threading.Event()
        if not held:
            self.go.set()
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def end(self) -> None:
        """Let go of all that is still connected."""
        self._end.set()
        self.go.set()
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            file = connection.makefile("rb")
            path = file.readline().decode().split()[1]
            length = 0
            while (line := file.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
            file.close()
            with self._lock:
                self.calls += 1
                number = self.calls
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            )
            before, items, closing = events(path, number)
            count = self.after if number == 1 else len(items)
            for text in items[:count] if number == 1 else [before + items[0], *items[1:]]:
                connection.sendall(chunk(text))
            if number > 1:
                connection.sendall(chunk(closing) + chunk(""))
                return
            self.go.wait()
            if self.fault == "ends early":
                connection.sendall(chunk(""))
            elif self.fault == "resets":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self.fault == "stalls in a chunk":
                connection.sendall(b"ff\r\ndata: ")
            if self.fault.startswith("stalls"):
                self._end.wait()


def chunk(text: str) -> bytes:
    """A chunk of the transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(text), text.encode())


def events(path: str, number: int) -> tuple[str, list[str], str]:
    """What comes before the items of an answer, they, and what ends it."""
    texts = [f"<{letter}{number}>" for letter in LETTERS]
    if path.endswith("messages"):
        message = (
            '{"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
            '"model":"m","content":[],"stop_reason":null,"stop_sequence":null,'
            '"usage":{"input_tokens":1,"output_tokens":1}}}'
        )
        begin = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
        item = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}'
        stop = '{"type":"content_block_stop","index":0}'
        delta = (
            '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
            '"usage":{"output_tokens":3}}'
        )
        event = "event: {}\ndata: {}\n\n".format
        return (
            event("message_start", message) + event("content_block_start", begin),
            [event("content_block_delta", item % text) for text in texts],
            event("content_block_stop", stop)
            + event("message_delta", delta)
            + event("message_stop", '{"type":"message_stop"}'),
        )
    data = (
        'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
        '"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n'
    )
    return "", [data % (text, "null") for text in texts], data % ("", '"stop"') + "data: [DONE]\n\n"


def told(piece: Any) -> list[str]:
    """The items in a piece of an answer."""
    text = piece.decode() if isinstance(piece, bytes) else str(piece)
    return re.findall(r"<(\w+)>", text)


class Stream:
    """A stream that one caller has opened, and reads item by item."""

    def __init__(self, caller: Caller, pieces: Any, close: Callable[[], Any]) -> None:
        self._run, self._async = caller.run, caller.is_async
        self._pieces, self._close = pieces, close
        self.seen: list[str] = []

    def read(self, count: int | None = None) -> list[str]:
        """Read until that many items have come, or all; gives what has come so far."""
        self._run(self.aread if self._async else self._read, count)
        return self.seen

    def _read(self, count: int | None) -> None:
        while count is None or len(self.seen) < count:
            try:
                self.seen += told(next(self._pieces))
            except StopIteration:
                return

    async def aread(self, count: int | None = None) -> None:
        """`read` for an async caller."""
        while count is None or len(self.seen) < count:
            try:
                self.seen += told(await anext(self._pieces))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        """Leave."""
        self._run(self._close)


class Caller:
    """One way of asking for a stream.

    Attributes:
        errors: what a stream raises that broke or stalled.
    """

    def __init__(self, name: str, up: Upstream, stack: ExitStack) -> None:
        self.kind, _, self.colour = name.partition(" ")
        self.up = up
        self.is_async = self.colour != "threads"
        self.run: Callable[..., Any] = lambda work, *given: work(*given)
        if self.is_async:
            pytest.importorskip(self.colour)
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal(self.colour))
            self.run = portal.call
        self.errors: tuple[type[Exception], ...] = (Exception,)
        made = getattr(self, f"_{self.kind}")(stack)
        self._open: Callable[..., Any] = made

    def open(self, **more: Any) -> Stream:
        """Ask, and read nothing yet."""
        pieces, close = self.run(self._open, *more.values())
        return Stream(self, pieces, close)

    async def aopen(self) -> Stream:
        """`open` inside the caller's loop."""
        pieces, close = await self._open()
        return Stream(self, pieces, close)

    def _generator(self, stack: ExitStack) -> Callable[..., Any]:
        httpx, url = pytest.importorskip("httpx"), f"{self.up.url}/chat/completions"
        if not self.is_async:

            @llm_cached
            def generate() -> Generator[str, None, None]:
                with httpx.stream("POST", url, timeout=None) as response:
                    for piece in response.iter_text():
                        yield from (f"<{item}>" for item in told(piece))

            def open_() -> Any:
                made = generate()
                return made, made.close

            return open_

        @llm_cached
        async def agenerate() -> AsyncGenerator[str, None]:
            async with (
                httpx.AsyncClient(timeout=None) as client,
                client.stream("POST", url) as response,
            ):
                async for piece in response.aiter_text():
                    for item in told(piece):
                        yield f"<{item}>"

        async def aopen() -> Any:
            made = agenerate()
            return made, made.aclose

        return aopen

    def _openai(self, stack: ExitStack) -> Callable[..., Any]:
        openai = pytest.importorskip("openai")
        if self.colour == "trio" and not hasattr(openai._utils._sync, "sniffio"):
            pytest.skip("this SDK itself needs asyncio")
        stack.enter_context(cachewrap.patch_openai())
        given: Any = {"base_url": self.up.url, "api_key": "k", "max_retries": 0, "timeout": None}
        client = (openai.AsyncOpenAI if self.is_async else openai.OpenAI)(**given)
        ask: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        return self._sdk(lambda: client.chat.completions.create(**ask))

    def _anthropic(self, stack: ExitStack) -> Callable[..., Any]:
        anthropic = pytest.importorskip("anthropic")
        if self.colour == "trio" and not hasattr(anthropic._utils._sync, "sniffio"):
            pytest.skip("this SDK itself needs asyncio")
        stack.enter_context(cachewrap.patch_anthropic())
        given: Any = {"base_url": self.up.url, "api_key": "k", "max_retries": 0, "timeout": None}
        client = (anthropic.AsyncAnthropic if self.is_async else anthropic.Anthropic)(**given)
        ask: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        return self._sdk(lambda: client.messages.create(**ask, max_tokens=9))

    def _sdk(self, ask: Callable[[], Any]) -> Callable[..., Any]:
        async def aopen() -> Any:
            stream = await ask()
            return (event.model_dump_json() async for event in stream), stream.close

        def open_() -> Any:
            stream = ask()
            return (event.model_dump_json() for event in stream), stream.close

        return aopen if self.is_async else open_

    def _httpx(self, stack: ExitStack) -> Callable[..., Any]:
        httpx = pytest.importorskip("httpx")
        stack.enter_context(cachewrap.patch_httpx(hosts=["127.0.0.1:*"]))
        client = (httpx.AsyncClient if self.is_async else httpx.Client)(timeout=None)
        url, body = f"{self.up.url}/chat/completions", {"model": "m", "stream": True}

        async def aopen(timeout: float | None = None) -> Any:
            request = client.build_request("POST", url, json=body, timeout=timeout)
            response = await client.send(request, stream=True)
            return response.aiter_bytes(), response.aclose

        def open_(timeout: float | None = None) -> Any:
            request = client.build_request("POST", url, json=body, timeout=timeout)
            response = client.send(request, stream=True)
            return response.iter_bytes(), response.close

        return aopen if self.is_async else open_

    def _requests(self, stack: ExitStack) -> Callable[..., Any]:
        requests = pytest.importorskip("requests")
        stack.enter_context(cachewrap.patch_requests(hosts=["127.0.0.1:*"]))
        url, body = f"{self.up.url}/chat/completions", {"model": "m", "stream": True}

        def open_(timeout: float | None = None) -> Any:
            response = requests.post(url, json=body, stream=True, timeout=timeout)
            return response.iter_content(None), response.close

        return open_

    def _aiohttp(self, stack: ExitStack) -> Callable[..., Any]:
        aiohttp = pytest.importorskip("aiohttp", minversion="3.12")
        stack.enter_context(cachewrap.patch_aiohttp(hosts=["127.0.0.1:*"]))
        url, body = f"{self.up.url}/chat/completions", {"model": "m", "stream": True}
        never = aiohttp.ClientTimeout(total=None)

        async def make() -> Any:
            return aiohttp.ClientSession(timeout=never)

        session = self.run(make)
        stack.callback(self.run, session.close)

        async def aopen() -> Any:
            response = await session.post(url, json=body)

            async def close() -> None:
                response.close()

            return response.content.iter_any(), close

        return aopen


GENERATORS = ["generator threads", "generator asyncio", "generator trio"]
RESPONSES = [
    *("openai threads", "openai asyncio", "openai trio"),
    *("anthropic threads", "anthropic asyncio", "anthropic trio"),
    *("httpx threads", "httpx asyncio", "httpx trio"),
    *("requests threads", "aiohttp asyncio"),
]


@contextmanager
def asking(name: str, up: Upstream) -> Iterator[Caller]:
    """A caller of the kind, ``"httpx trio"`` for one."""
    with ExitStack() as stack:
        stack.callback(up.end)
        caller = Caller(name, up, stack)
        stack.callback(up.end)
        yield caller


class Listener:
    """A server on loopback, while its block lasts; each connection has a thread of its own.

    Args:
        serve: is given each connection. An error of the socket ends it in silence.

    Attributes:
        port: where it listens.
    """

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # for a thread that waits at it
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self._open.append(one)
                threading.Thread(target=self._meet, args=(one,), daemon=True).start()

    def _meet(self, one: socket.socket) -> None:
        with suppress(OSError):
            self._serve(one)


class Line(Listener):
    """A slow way to a server: so many bytes a second, in each direction.

    Attributes:
        pace: the bytes; 0 for none at all.
        url: that of the server, by this way.
    """

    def __init__(self, url: str, pace: float) -> None:
        super().__init__(self._connect)
        self._target = urllib.parse.urlsplit(url)
        self.pace = pace
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        netloc = self._target.netloc.replace(str(self._target.port), str(self.port))
        self.url = self._target._replace(netloc=netloc).geturl()

    def _connect(self, near: socket.socket) -> None:
        far = socket.create_connection((self._target.hostname, self._target.port or 0))
        self._open.append(far)
        threading.Thread(target=self._carry, args=(far, near), daemon=True).start()
        self._carry(near, far)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**15):
                while not self.pace:
                    time.sleep(0.01)
                time.sleep(len(data) / self.pace)
                target.sendall(data)
