"""``cachewrap serve --workers``: one stream for the clients of four processes, however they end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.raw import PATIENCE, Client, Ended, Message, Wire, chunk, eventually, request
from proxy.running import Process, command
from proxy.upstream import Upstream, chat, events, stream, stream_head

TARGET = "/openai/v1/chat/completions"
PIECES = events("one", "two", "three", "four")
PAUSE = 0.1


def asked(content: str) -> bytes:
    return request(TARGET, chat(content, stream=True))


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who has a socket is in /proc")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """An upstream that sends what it is told."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Process]:
    """A proxy of four workers, for several tests: each takes a while to start."""
    folder = tmp_path_factory.mktemp("workers")
    words = (f"{folder}/cache", "--workers", "4", "--log", "off")
    with command(*words, upstreams={"openai": upstream.url}) as process:
        yield process


def workers_of(proxy: Process) -> set[int]:
    """The processes that answer."""
    with open(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children") as file:
        found = [int(word) for word in file.read().split()]
    return {one for one in found if b"spawn_main" in _words(one)}


def _words(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def holder(proxy: Process, *, here: int = 0, there: int = 0) -> int:
    """The worker with a connection between these ports of its own and of the other side."""
    inodes = set()
    with open("/proc/net/tcp") as file:
        for line in list(file)[1:]:
            words = line.split()
            own, other = (int(word.partition(":")[2], 16) for word in words[1:3])
            if words[3] == "01" and here in (0, own) and there in (0, other):
                inodes.add(f"socket:[{words[9]}]")
    for child in workers_of(proxy):
        with suppress(OSError):
            for name in os.listdir(f"/proc/{child}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{child}/fd/{name}") in inodes:
                        return child
    return 0


def worker_of(proxy: Process, client: Client) -> int:
    """The worker that has a client."""
    found: list[int] = []

    def accepted() -> bool:
        found.append(holder(proxy, here=proxy.port, there=client.socket.getsockname()[1]))
        return found[-1] > 0

    assert eventually(accepted)
    return found[-1]


def clients_of(proxy: Process, count: int, workers: int) -> list[tuple[Client, int]]:
    """Connections, so many, which so many workers have."""
    found: list[tuple[Client, int]] = []
    while len(found) < count or len({worker for _, worker in found}) < workers:
        assert len(found) < 1_000
        # Many at once: of what comes one by one, the same worker may take all.
        new = [proxy.client() for _ in range(40)]
        found += [(client, worker_of(proxy, client)) for client in new]
    by_worker: dict[int, list[tuple[Client, int]]] = {}
    for one in found:
        by_worker.setdefault(one[1], []).append(one)
    chosen = []
    while len(chosen) < count:
        for some in by_worker.values():
            if some:
                chosen.append(some.pop())
    for client, _ in (one for some in by_worker.values() for one in some):
        client.close()
    return chosen[:count]


def slowly(wire: Wire, asked: Message) -> None:
    wire.send(stream_head())
    for piece in PIECES:
        time.sleep(PAUSE)
        wire.send(chunk(piece))
    wire.send(b"0\r\n\r\n")


def send(clients: list[Client], content: str) -> list[Message]:
    """The heads of the answers to the same question of all of them."""
    for client in clients:
        client.send(asked(content))
    return [client.answer(read=False) for client in clients]


def test_sixteen_clients_of_four_workers_share_a_stream(proxy: Process, upstream: Upstream) -> None:
    go = threading.Event()

    def gated(wire: Wire, asked: Message) -> None:
        wire.send(stream_head() + chunk(PIECES[0]))
        assert go.wait(PATIENCE)
        wire.send(b"".join(map(chunk, PIECES[1:])) + b"0\r\n\r\n")

    upstream.usual = gated
    before = len(upstream.asked)
    clients = [client for client, _ in clients_of(proxy, 16, 4)]
    answers = send(clients, "a")
    readings = [client.reading(found) for client, found in zip(clients, answers, strict=True)]
    for reading in readings:  # each has the first piece before the second is sent
        assert next(reading) == PIECES[0]
    go.set()
    for reading in readings:
        assert list(reading) == PIECES[1:]
    assert all(found.whole for found in answers)
    assert sorted(found.mark or "" for found in answers) == ["joined"] * 15 + ["miss"]
    assert len(upstream.asked) == before + 1
    hits = [client.ask(asked("a")) for client in clients]
    assert {hit.mark for hit in hits} == {"hit"}
    assert all(hit.pieces == PIECES for hit in hits)
    for client in clients:
        client.close()


def test_a_worker_that_is_killed_cuts_its_stream(proxy: Process, upstream: Upstream) -> None:
    """Nobody takes what came for the whole of it; another worker takes over what was its."""

    ports: list[int] = []

    def stand(wire: Wire, asked: Message) -> bool:
        ports.append(wire.socket.getpeername()[1])
        wire.send(stream_head() + chunk(PIECES[0]))
        wire.is_closed()
        return False

    upstream.usual = stand
    before, asked_before = workers_of(proxy), len(upstream.asked)
    clients = [client for client, _ in clients_of(proxy, 8, 4)]
    answers = send(clients, "b")
    readings = [client.reading(found) for client, found in zip(clients, answers, strict=True)]
    for reading in readings:
        assert next(reading) == PIECES[0]
    assert len(upstream.asked) == asked_before + 1
    owner = holder(proxy, here=ports[-1], there=upstream.port)
    os.kill(owner, signal.SIGKILL)
    for reading, found in zip(readings, answers, strict=True):
        with pytest.raises((Ended, ConnectionError)):
            list(reading)
        assert not found.whole
    for client in clients:
        client.close()

    upstream.usual = slowly
    others = [client for client, _ in clients_of(proxy, 3, 3)]
    for client, found in zip(others, send(others, "b"), strict=True):
        client.body(found)
        assert (found.status, found.pieces, found.whole) == (200, PIECES, True)
        client.close()

    def quickly(wire: Wire, asked: Message) -> None:
        ports.append(wire.socket.getpeername()[1])
        wire.send(stream(*PIECES))

    upstream.usual = quickly
    pairs = clients_of(proxy, 4, 4)
    (new,) = {worker for _, worker in pairs} - before
    for n in range(40):  # until one of its keys is asked for
        client, worker = pairs[n % 4]
        assert client.ask(asked(f"c {n}")).pieces == PIECES
        asks = holder(proxy, here=ports[-1], there=upstream.port)
        if worker != new == asks:
            break
    assert asks == new
    for client, _ in pairs:
        client.close()
    assert any(f"worker {owner} has ended by SIGKILL" in line for line in proxy.said)


def test_all_streams_finish_at_the_end(tmp_path: Path, upstream: Upstream) -> None:
    upstream.usual = slowly
    words = (f"{tmp_path}/cache", "--workers", "2", "--log", "off")
    with command(*words, upstreams={"openai": upstream.url}) as proxy:
        clients = [client for client, _ in clients_of(proxy, 4, 2)]
        answers = send(clients, "d")
        proxy.process.send_signal(signal.SIGTERM)
        for client, found in zip(clients, answers, strict=True):
            client.body(found)
            assert (found.pieces, found.whole) == (PIECES, True)
            client.close()
        assert proxy.wait() == 0
        assert len(proxy.said) == 1
