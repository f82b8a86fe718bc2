"""An upstream whose streams go on when a test says so, and clients of the plainest kind."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PIECES = 4


class Slow:
    """An upstream that answers in pieces.

    Args:
        pause: seconds between two pieces of a stream.

    Attributes:
        asked: how many requests it was sent.
        begun: a stream has begun.
        go_on: streams come to their end; until it is set they stand still after the first piece.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.asked = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.pause = pause
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, slow: Slow, *about: Any) -> None:
        self._slow = slow
        super().__init__(*about)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._slow.asked += 1
        with suppress(OSError):
            (self._stream if body.get("stream") else self._answer)()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        message = {"role": "assistant", "content": "yes"}
        content = json.dumps(
            {
                "id": "c-1",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-4o",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(PIECES):
            choice = {
                "index": 0,
                "delta": {"content": f"piece {number} "},
                "finish_reason": "stop" if number == PIECES - 1 else None,
            }
            chunk = {
                "id": "c-2",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "gpt-4o",
                "choices": [choice],
            }
            self._piece(f"data: {json.dumps(chunk)}\n\n".encode())
            self._slow.begun.set()
            self._slow.go_on.wait(30)
            time.sleep(self._slow.pause)
        self._piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Client:
    """A client that keeps its connection.

    Args:
        root: the proxy's address.
    """

    def __init__(self, root: str) -> None:
        parts = urlsplit(root)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)

    def get(self, path: str) -> tuple[int, str]:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def ask(self, prompt: str, **more: Any) -> http.client.HTTPResponse:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": prompt}], **more}
        self._connection.request(
            "POST",
            "/local/v1/chat/completions",
            json.dumps(body),
            {"content-type": "application/json", "authorization": "Bearer sesame-open"},
        )
        return self._connection.getresponse()

    def is_closed(self) -> bool:
        """Whether the proxy has closed the connection; waits until it does."""
        assert self._connection.sock is not None
        return self._connection.sock.recv(1) == b""

    def close(self) -> None:
        self._connection.close()


class Command:
    """``cachewrap serve`` in a process of its own.

    Attributes:
        root: the first line that it wrote.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.root = process.stdout.readline().removesuffix("\n")

    def ended(self) -> tuple[int, str, str]:
        """Its status, and what else it wrote on stdout and stderr."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def children(self) -> list[int]:
        """The processes of its workers."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            found = [int(word) for word in file.read().split()]
        return [one for one in found if b"spawn_main" in _words_of(one)]


def _words_of(process: int) -> bytes:
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
