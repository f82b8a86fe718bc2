"""The server of the stand-in: what it is told, and the requests that it has received."""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Self

from standin.api import answer
from standin.manner import Manner, frames, sse, zipped
from standin.media import elements_of
from standin.wire import Answer, Draw, Request, fault


class Upstream:
    """The stand-in; use it in a ``with`` block, which starts the server and stops it.

    Args:
        port: the port on 127.0.0.1; 0 takes a free one.
        **manner: fields of `Manner`, for every request.
    """

    def __init__(self, port: int = 0, **manner: Any) -> None:
        self.requests: list[Request] = []
        self._port = port
        self._usual = self._manner = Manner(**manner)
        self._next: deque[Manner] = deque()
        self._arrival = threading.Condition()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", self._port), self)
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def root_url(self) -> str:
        """The address without a path: Azure's endpoint, Anthropic's base URL."""
        if self._server is None:
            raise RuntimeError("the stand-in upstream only runs inside its `with` block")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """The address to give to an OpenAI client as ``base_url``."""
        return f"{self.root_url}/v1"

    @property
    def calls(self) -> int:
        """How many requests have arrived."""
        return len(self.requests)

    @property
    def by_path(self) -> Counter[str]:
        """How many requests have arrived for each path."""
        return Counter(request.path for request in list(self.requests))

    @property
    def elements(self) -> list[Any]:
        """What vectors and moderations were asked for, one after the other."""
        return [one for request in list(self.requests) for one in elements_of(request)]

    @property
    def last(self) -> Request:
        """The request that arrived last."""
        return self.requests[-1]

    def behave(self, **changes: Any) -> None:
        """Answer every later request like this; fields not given are as at the start."""
        self._manner = replace(self._usual, **changes)

    def once(self, **changes: Any) -> None:
        """Answer one later request like this; several calls of `once` take one request each."""
        self._next.append(replace(self._manner, **changes))

    def fail(self, *statuses: int, retry_after: float = 0.001) -> None:
        """Answer the next requests with these error statuses, one each."""
        for status in statuses:
            self.once(status=status, retry_after=retry_after)

    def wait_for(self, calls: int, timeout: float = 10.0) -> None:
        """Return as soon as this many requests have arrived.

        Raises:
            TimeoutError: they have not within ``timeout`` seconds.
        """
        with self._arrival:
            if not self._arrival.wait_for(lambda: self.calls >= calls, timeout):
                raise TimeoutError(f"{self.calls} of {calls} requests came in {timeout} s")

    def reset(self) -> None:
        """Forget the requests, and behave as at the start. Answers stay unique."""
        with self._arrival:
            self.requests = []
            self._next.clear()
            self._manner = self._usual

    def admit(self, request: Request) -> Manner:
        """Record a request; how it is to be answered."""
        with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()
            return self._next.popleft() if self._next else self._manner


class _Server(ThreadingTCPServer):
    """One thread for each connection; stopping it closes the connections that are still open."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], upstream: Upstream) -> None:
        self.upstream = upstream
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._numbers = 0
        self._stopped, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="upstream", daemon=True)
        super().__init__(address, _Handler)

    def start(self) -> None:
        """Take connections, in a thread."""
        self._thread.start()

    def _serve(self) -> None:
        # `serve_forever` would look some times a second whether it is to stop.
        with selectors.DefaultSelector() as events:
            events.register(self.socket, selectors.EVENT_READ)
            events.register(self._stopped, selectors.EVENT_READ)
            while all(key.fileobj is self.socket for key, _ in events.select()):
                self.handle_request()

    def number(self) -> int:
        """The number of the next answer."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def stop(self) -> None:
        """Take no more connections, and close those that are open."""
        self._stop.close()
        self._thread.join()
        self._stopped.close()
        self.server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests from one connection and answers them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are kept, whoever wants them can look."""

    def _respond(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self._read_body())
        server = self.server
        assert isinstance(server, _Server)
        manner = server.upstream.admit(request)
        draw = Draw(
            server.number(),
            manner.finish,
            manner.response_status,
            manner.says,
            manner.steady,
            manner.shuffled,
        )
        if manner.gate is not None:
            manner.gate.wait()
        time.sleep(manner.delay)
        if manner.drop:
            self.close_connection = True
        else:
            self._send(request, _choose(request, manner, draw), manner, draw)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _respond

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue  # trailers
        return body

    def _send(self, request: Request, reply: Answer, manner: Manner, draw: Draw) -> None:
        pieces = list(reply.pieces)
        if reply.events:
            pieces = frames(reply, manner) if reply.binary else sse(reply, manner)
        compress = manner.gzip and "gzip" in request.headers.get("accept-encoding", "")
        if compress:
            pieces = list(zipped(pieces))
        chunked = bool(reply.events) or len(pieces) > 1
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        for name in ("x-request-id", "request-id"):
            self.send_header(name, f"req_{draw.token}")
        self.send_header("openai-processing-ms", str(draw.number))
        if compress:
            self.send_header("content-encoding", "gzip")
        if manner.retry_after is not None:
            self.send_header("retry-after", str(manner.retry_after))
            self.send_header("retry-after-ms", str(manner.retry_after * 1000))
        for name, value in manner.headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(sum(map(len, pieces))))
        self.end_headers()
        if chunked:
            self._send_chunks(pieces, manner)
        else:
            self.wfile.write(b"".join(pieces))

    def _send_chunks(self, pieces: Iterable[bytes], manner: Manner) -> None:
        for count, piece in enumerate((*pieces, b"")):  # an empty chunk is the end
            if count == manner.cut_after:
                self.close_connection = True
                return
            if manner.pause is not None and count == manner.pause_after:
                manner.pause.wait()
            if count and piece:
                time.sleep(manner.gap)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))


def _choose(request: Request, manner: Manner, draw: Draw) -> Answer:
    """What to say: what the manner dictates, else what the API would answer."""
    if manner.body is not None:
        given = manner.content_type
        return Answer(pieces=(manner.body,), status=manner.status, content_type=given)
    if manner.status != 200:
        return fault(manner.status, f"Failure {draw.number} ({draw.token})", "stand_in_failure")
    return answer(request, draw, may_stream=manner.stream)
