"""An upstream on loopback that sends what it is told, byte for byte, and notes what it got."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from stalling import Listener

from proxy.raw import PATIENCE, Ended, Message, Wire, chunk, chunked

Script: TypeAlias = "bytes | Callable[[Wire, Message], object]"
"""What is sent, or what does so; where it gives False, the connection is closed then."""


class Upstream(Listener):
    """A server whose answers are scripts.

    Args:
        usual: answers what no other script answers.

    Attributes:
        asked: the requests that have come, with their bodies.
        connections: how many connections were made.
        open: how many of them still are.
        left: how many requests' connections ended while their script ran.
    """

    def __init__(self, usual: Script | None = None) -> None:
        super().__init__(self._talk)
        self.usual: Script = usual or answer(b"{}")
        self.asked: list[Message] = []
        self.connections = self.open = self.left = 0
        self.heads = 0
        self._paths: dict[str, Script] = {}
        self._next: deque[Script] = deque()
        self._lock = threading.Condition()

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, script: Script) -> None:
        """Answer requests of this path so, whatever their query."""
        self._paths[path] = script

    def once(self, *scripts: Script) -> None:
        """Answer the next requests so, one each."""
        self._next.extend(scripts)

    def wait_for(self, count: int, within: float = PATIENCE) -> None:
        """Wait until so many requests have come. Raises `TimeoutError`."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self.asked) >= count, within):
                raise TimeoutError(f"{len(self.asked)} of {count} requests came")

    @property
    def last(self) -> Message:
        """The request that came last."""
        return self.asked[-1]

    def _talk(self, connection: Any) -> None:
        with self._lock:
            self.connections += 1
            self.open += 1
        wire = Wire(connection)
        try:
            with suppress(OSError):
                while self._answer(wire):
                    pass
        finally:
            wire.close()
            with self._lock:
                self.open -= 1

    def _answer(self, wire: Wire) -> bool:
        try:
            asked = wire.request_head()
        except Ended:
            return False
        self.heads += 1
        path = asked.target.partition("?")[0]
        with self._lock:
            named = self._paths.get(path)
            script = named or (self._next.popleft() if self._next else self.usual)
        if getattr(script, "early", False):
            assert callable(script)
            with self._lock:
                self.asked.append(asked)
                self._lock.notify_all()
            return script(wire, asked) is not False
        try:
            wire.body(asked)
        finally:
            with self._lock:
                self.asked.append(asked)
                self._lock.notify_all()
        try:
            if callable(script):
                return script(wire, asked) is not False
            wire.send(script)
        except OSError:
            with self._lock:
                self.left += 1
            raise
        return b"connection: close" not in script.lower() and b"HTTP/1.0" not in script


def early(script: Callable[[Wire, Message], object]) -> Callable[[Wire, Message], object]:
    """A script that runs before the body of the request is read."""
    script.early = True  # type: ignore[attr-defined]
    return script


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """The bytes of an answer with its length; of JSON, where no type is named."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.lower().startswith("content-type") for line in headers):
        lines.append("Content-Type: application/json")
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def stream_head(*headers: str) -> bytes:
    """The head of an answer of server-sent events, in chunks."""
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", *headers]
    return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode("latin-1")


def stream(*pieces: bytes, headers: tuple[str, ...] = (), trailers: bytes = b"") -> bytes:
    """The bytes of a stream, a chunk for each piece."""
    return stream_head(*headers) + chunked(*pieces, trailers=trailers)


def slowly(
    *pieces: bytes, gate: Callable[[int], object], headers: tuple[str, ...] = ()
) -> Callable[[Wire, Message], None]:
    """A stream whose pieces are sent one by one, each after what the gate waits for."""

    def run(wire: Wire, asked: Message) -> None:
        wire.send(stream_head(*headers))
        for index, piece in enumerate(pieces):
            gate(index)
            wire.send(chunk(piece))
        wire.send(b"0\r\n\r\n")

    return run


def json_of(body: object) -> bytes:
    """JSON as SDKs send it."""
    return json.dumps(body, separators=(",", ":")).encode()


def chat(content: str = "hi", *, stream: bool = False, **more: Any) -> bytes:
    """The body of a chat request."""
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": content}]}
    return json_of(asked | ({"stream": True} if stream else {}) | more)


def completion(content: str = "hello") -> bytes:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    kind = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    return json_of({**kind, "choices": [choice], "usage": usage})


def events(*texts: str, end: str = "\n", done: bool = True, comment: str = "") -> list[bytes]:
    """The events of a chat stream, with its finish reason and its closing mark."""
    found = [comment + end + end] if comment else []
    for text, reason in [*((text, None) for text in texts), ("", "stop")]:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
        kind = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        found.append(f"data: {json_of({**kind, 'choices': [choice]}).decode()}{end}{end}")
    if done:
        found.append(f"data: [DONE]{end}{end}")
    return [event.encode() for event in found]
