"""What stands between a client and an upstream: the proxy, two small ones, and that upstream.

Each is a process of its own. The upstream answers by path, from bytes that are there before.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

PIECES = 40
"""Events of a stream."""

GAP = 0.003
"""Seconds between two of them."""

_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "word " * 200, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300},
}
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def request(port: int, path: str, content: str = "", *, stream: bool = False) -> bytes:
    """The bytes of a request, as an SDK sends it; without content a GET."""
    lines = [
        f"{'POST' if content else 'GET'} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "User-Agent: benchmark/1",
        "Authorization: Bearer sk-benchmark",
        "X-Stainless-Lang: js",
        "X-Stainless-Retry-Count: 0",
    ]
    body = b""
    if content:
        system = {"role": "system", "content": "You are a helpful assistant. " * 30}
        asked: dict[str, object] = {
            "model": "m",
            "messages": [system, {"role": "user", "content": content}],
        }
        body = json.dumps(asked | ({"stream": True} if stream else {})).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


# -- the upstream ------------------------------------------------------------------------------


def _plain(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: req_1\r\n"
        f"OpenAI-Processing-Ms: 1\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Answering(asyncio.Protocol):
    """A connection of the upstream."""

    chat = _plain(json.dumps(_CHAT).encode())
    models = _plain(b'{"object":"list","data":[]}')

    def __init__(self) -> None:
        self._held = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._held, 0, end)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._held) < size:
                return
            asked, self._held = self._held[:size], self._held[size:]
            self._answer(asked)

    def _answer(self, asked: bytes) -> None:
        if asked.startswith(b"GET"):
            self._transport.write(self.models)
        elif b'"stream": true' in asked:
            task = asyncio.ensure_future(self._stream())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif (fault := asked.find(b"fault ")) >= 0:
            self._fail(int(asked[fault + 6 : fault + 8]))
        else:
            self._transport.write(self.chat)

    async def _stream(self) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for index in range(PIECES):
            await asyncio.sleep(GAP)
            event = {
                "at": time.monotonic_ns(),
                "choices": [{"index": 0, "delta": {"content": "x"}}],
            }
            data = b"data: %b\n\n" % json.dumps(event).encode()
            if index == PIECES - 1:
                data += b"data: [DONE]\n\n"
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        self._transport.write(b"0\r\n\r\n")

    def _fail(self, kind: int) -> None:
        whole, send = self.chat, self._transport.write
        match kind:
            case 0:
                self._transport.close()
            case 1:
                self._transport.abort()
            case 2:
                send(whole[:60])
                self._transport.close()
            case 3:
                send(whole[:-100])
                self._transport.close()
            case 4:
                send(b"HTTP/1.1 429 Slow down\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\n{}")
            case 5:
                send(b"HTTP/1.1 500 Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                self._transport.close()
            case 6:
                send(b"nonsense\r\n\r\n")
                self._transport.close()
            case 7:
                send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc")
                self._transport.abort()
            case 8:
                send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")  # and stalls
                asyncio.get_running_loop().call_later(0.5, self._transport.abort)
            case _:
                send(whole)


FAULTS = 9
"""How many kinds of faults the upstream has."""


def upstream() -> None:
    """Answer on a free port, which is printed, for ever."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


# -- small proxies, for comparison -------------------------------------------------------------


def starlette(base: str) -> None:
    """A pass-through of Starlette, uvicorn and httpx, as short as one can write it."""
    import socket

    import httpx
    import uvicorn
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    client = httpx.AsyncClient(timeout=None)

    async def passed(asked: Request) -> StreamingResponse:
        made = client.build_request(
            asked.method,
            base + asked.url.path.removeprefix("/openai"),
            headers=[pair for pair in asked.headers.raw if pair[0] != b"host"],
            content=asked.stream() if asked.method == "POST" else None,
        )
        told = await client.send(made, stream=True)
        return StreamingResponse(
            told.aiter_raw(),
            told.status_code,
            dict(told.headers),
            background=BackgroundTask(told.aclose),
        )

    app = Starlette(routes=[Route("/{path:path}", passed, methods=["GET", "POST"])])
    # With its protocol named, as uvicorn's own sockets have it: else asyncio sets no TCP_NODELAY.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def aiohttp(base: str) -> None:
    """A pass-through of aiohttp's server and client, as short as one can write it."""
    import aiohttp
    from aiohttp import web

    async def run() -> None:
        session = aiohttp.ClientSession(auto_decompress=False)

        async def passed(asked: web.Request) -> web.StreamResponse:
            url = base + asked.path.removeprefix("/openai")
            headers = {name: value for name, value in asked.headers.items() if name != "Host"}
            body = asked.content if asked.can_read_body else None
            async with session.request(asked.method, url, headers=headers, data=body) as told:
                kept = {
                    name: value
                    for name, value in told.headers.items()
                    if name != "Transfer-Encoding"
                }
                answer = web.StreamResponse(status=told.status, headers=kept)
                await answer.prepare(asked)
                async for piece in told.content.iter_any():
                    await answer.write(piece)
                await answer.write_eof()
                return answer

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", passed)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


# -- running them ------------------------------------------------------------------------------


@dataclass
class Running:
    """A process that answers.

    Args:
        port: where.
        pid: of it.
        said: the file that has what it wrote to stderr.
    """

    port: int
    pid: int
    said: Path = field(default_factory=Path)

    def resident(self) -> tuple[int, int]:
        """Kilobytes that it and its workers have in memory: all, and of those what no file has."""
        total = own = 0
        for pid in [self.pid, *children(self.pid)]:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            total += int(fields["VmRSS"].split()[0])
            own += int(fields["RssAnon"].split()[0])
        return total, own


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(one) for one in text.split()]


@contextmanager
def _process(command: list[str], folder: Path) -> Iterator[Running]:
    said = folder / f"said-{time.monotonic_ns()}"
    with open(said, "wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if not line:
            raise RuntimeError(said.read_text())
        yield Running(int(line.strip().rpartition(":")[2].rstrip("/")), process.pid, said)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running_upstream(folder: Path) -> Iterator[Running]:
    """The upstream."""
    code = "from benchmarks import proxies; proxies.upstream()"
    with _process([sys.executable, "-c", code], folder) as running:
        yield running


@contextmanager
def running_proxy(
    folder: Path, base: str, workers: int = 1, cache: str = "", *options: str
) -> Iterator[Running]:
    """The proxy, as the command, with its log as it is by default."""
    cache = cache or f"disk:{folder / 'cache'}"
    given = ["--port", "0", "--upstream", f"openai={base}", "--workers", str(workers), *options]
    with _process([sys.executable, "-m", "cachewrap", "serve", cache, *given], folder) as running:
        yield running


@contextmanager
def running_peer(name: str, folder: Path, base: str) -> Iterator[Running | None]:
    """Another proxy; None where what it needs is not installed."""
    needs = {"starlette": ("starlette", "uvicorn", "httpx"), "aiohttp": ("aiohttp",)}[name]
    if not all(map(find_spec, needs)):
        yield None
        return
    code = f"from benchmarks import proxies; proxies.{name}({base!r})"
    with _process([sys.executable, "-c", code], folder) as running:
        yield running
