"""Workers of one proxy: a stream that nobody has is one for the clients of all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cachewrap.proxy.journal import Journal
from cachewrap.proxy.settings import Settings
from cachewrap.proxy.siblings import Handed, Siblings
from proxy.conftest import Serve
from proxy.raw import Client, Message, Wire, chunk, eventually, request
from proxy.running import Within
from proxy.upstream import (
    Upstream,
    answer,
    chat,
    completion,
    events,
    slowly,
    stream,
    stream_head,
)

TARGET = "/openai/v1/chat/completions"
PIECES = events("one", "two", "three", "four")
WORKERS = 3
OWNER = 1
OTHER = 0

pytestmark = pytest.mark.skipif(not hasattr(asyncio, "start_unix_server"), reason="Unix sockets")


class Known(Siblings):
    """Workers of whom one has every key, which note what they are asked for."""

    owns = OWNER

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.asked: list[str] = []

    def owner(self, key: str) -> int:
        return self.owns

    async def ask(self, key: str, *about: Any) -> Handed | None:
        self.asked.append(key)
        return await super().ask(key, *about)


class Worker:
    """A worker of the proxy in this process, on a port of its own.

    Attributes:
        proxy: it.
        siblings: those that it knows.
    """

    def __init__(self, serve: Serve, folder: Path, index: int, **about: Any) -> None:
        from cachewrap.proxy.service import Service

        self.lines: list[bytes] = []

        def make(settings: Settings) -> Service:
            self.siblings = Known(settings, str(folder), index)
            journal = Journal("json", self.lines.append)
            return Service(settings, siblings=self.siblings, journal=journal)

        self.proxy: Within = serve(make=make, log="json", workers=WORKERS, **about)

    def ask(self, data: bytes) -> Message:
        return self.proxy.ask(data)

    def stats(self) -> tuple[int, int, int]:
        """Hits, misses and joined calls that its cache has counted."""
        stats = self.proxy.service.cache.stats
        return stats.hits, stats.misses, stats.joined

    def told(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines of its log, so many."""
        assert eventually(lambda: b"".join(self.lines).count(b"\n") >= count)
        return [json.loads(line) for line in b"".join(self.lines).splitlines()]


Start = Callable[..., list[Worker]]


@pytest.fixture
def start(serve: Serve, tmp_path: Path, upstream: Upstream) -> Start:
    """Starts the workers of a proxy."""

    def run(query: str = "", **about: Any) -> list[Worker]:
        about = {"url": f"disk:{tmp_path}/cache{query}", "folder": tmp_path, **about}
        about.setdefault("upstreams", {"openai": upstream.url})
        return [Worker(serve, index=index, **about) for index in range(WORKERS)]

    return run


@pytest.fixture
def workers(start: Start) -> list[Worker]:
    return start()


def asked(content: str = "hi", *headers: str, target: str = TARGET, **more: Any) -> bytes:
    return request(target, chat(content, stream=True, **more), *headers)


class Gate:
    """A gate that holds a stream back after its first piece."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, index: int) -> None:
        assert not index or self._open.wait(15)

    def open(self) -> None:
        self._open.set()


def test_one_stream_is_for_the_clients_of_all_workers(
    workers: list[Worker], upstream: Upstream
) -> None:
    gate = Gate()
    upstream.usual = slowly(*PIECES, gate=gate)
    clients = [workers[n % WORKERS].proxy.client() for n in range(16)]
    for client in clients:
        client.send(asked())
    answers = [client.answer(read=False) for client in clients]
    readings = [client.reading(one) for client, one in zip(clients, answers, strict=True)]
    assert [next(reading) for reading in readings] == [PIECES[0]] * 16
    gate.open()
    assert [list(reading) for reading in readings] == [PIECES[1:]] * 16
    assert all(one.whole for one in answers)
    assert sorted(one.mark or "" for one in answers) == ["joined"] * 15 + ["miss"]
    assert len(upstream.asked) == 1
    for client in clients:
        again = client.ask(asked())
        assert (again.mark, again.pieces) == ("hit", PIECES)
        client.close()
    assert len(upstream.asked) == 1


def test_each_request_is_counted_and_told_once(workers: list[Worker], upstream: Upstream) -> None:
    upstream.usual = stream(*PIECES)
    body = b"".join(PIECES)
    marks = [worker.ask(asked(str(n))).mark for n, worker in enumerate(workers)]
    assert marks == ["miss"] * WORKERS
    assert [worker.stats() for worker in workers] == [(0, 0, 0), (0, WORKERS, 0), (0, 0, 0)]
    for worker in workers:
        (line,) = worker.told()
        assert (line["outcome"], line["status"], line["bytes"]) == ("miss", 200, len(body))
        assert (line["model"], line["error"], line["client"]) == ("m", "", "127.0.0.1")
        assert len(line["key"]) == 12


ANSWERS = [
    pytest.param(stream(*PIECES, headers=("X-Request-Id: r1", "x-a: 1", "X-a: 2")), id="stream"),
    pytest.param(stream(*PIECES, trailers=b"X-Sum: 3\r\nx-more: 4\r\n"), id="trailers"),
    pytest.param(stream(*PIECES, headers=("x-cachewrap: hit", "x-cachewrap-fault: a")), id="marks"),
    pytest.param(answer(b'{"error": 1}', status="429 Slow Down"), id="refused"),
    pytest.param(answer(b"", status="500 Oh No"), id="empty"),
    pytest.param(answer(completion(), "content-type: application/json"), id="no stream"),
]


@pytest.mark.parametrize("script", ANSWERS)
def test_an_answer_is_as_of_one_worker(
    workers: list[Worker], upstream: Upstream, script: bytes
) -> None:
    upstream.usual = script
    own, handed = (workers[n].ask(asked(str(n), "X-Mine: 1")) for n in (OWNER, OTHER))
    assert len(workers[OTHER].siblings.asked) == 1
    assert handed.start == own.start
    assert sorted(handed.headers) == sorted(own.headers)
    assert (handed.pieces, handed.trailers) == (own.pieces, own.trailers)
    assert (handed.framing, handed.whole) == (own.framing, True)
    first, second = upstream.asked
    assert first.headers == second.headers


def test_the_upstream_is_asked_as_the_client_has_asked(
    workers: list[Worker], upstream: Upstream
) -> None:
    """Also through another worker no header changes but those of the connection."""
    upstream.usual = stream(*PIECES)
    more = ("AUTHORIZATION: Bearer a", "X-b: 1", "x-B: 2", "Connection: x-hop", "x-hop: 1")
    for worker in workers[:2]:
        worker.ask(asked(worker.proxy.url, *more, "x-cachewrap-seed: 3", "TE: trailers"))
    heads = [one.without("content-length") for one in upstream.asked]
    assert heads[0] == heads[1]
    assert (b"AUTHORIZATION", b"Bearer a") in heads[0]
    assert not [name for name, _ in heads[0] if name.lower().startswith((b"x-cachewrap", b"x-hop"))]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(["x-cachewrap-seed: 7"], id="seed"),
        pytest.param(["x-cachewrap-sample: 2"], id="sample"),
        pytest.param(["x-cachewrap-ttl: 60"], id="ttl"),
        pytest.param(["x-cachewrap-refresh: true"], id="refresh"),
        pytest.param(["x-cachewrap-mode: read_only"], id="read only"),
    ],
)
def test_what_headers_decide_holds(
    workers: list[Worker], upstream: Upstream, headers: list[str]
) -> None:
    """They go to the worker who asks upstream, whose clients are asked for the same."""
    gate = Gate()
    upstream.usual = slowly(*PIECES, gate=gate)
    with workers[OWNER].proxy.client() as one, workers[OTHER].proxy.client() as other:
        one.send(asked("hi", *headers))
        first = one.answer(read=False)
        other.send(asked("hi", *headers))
        second = other.answer(read=False)
        gate.open()
        one.body(first)
        other.body(second)
    assert (first.mark, second.mark) == ("miss", "joined")
    assert first.pieces == second.pieces == PIECES
    assert len(upstream.asked) == 1


def test_seeds_are_apart(workers: list[Worker], upstream: Upstream) -> None:
    upstream.usual = stream(*PIECES)
    marks = [workers[OTHER].ask(asked("hi", f"x-cachewrap-seed: {n}")).mark for n in (1, 2, 1)]
    assert marks == ["miss", "miss", "hit"]


@pytest.mark.parametrize(
    ("query", "data"),
    [
        pytest.param("", request(TARGET, chat()), id="not a stream"),
        pytest.param("", asked("hi", "x-cachewrap-mode: off"), id="mode off"),
        pytest.param("", asked("hi", "x-cachewrap-mode: replay"), id="mode replay"),
        pytest.param("?single_flight=false", asked(), id="callers do not share"),
        pytest.param("", request("/openai/v1/models"), id="not cached"),
    ],
)
def test_what_is_not_handed_over(start: Start, upstream: Upstream, query: str, data: bytes) -> None:
    workers = start(query)
    upstream.usual = answer(completion())
    workers[OTHER].ask(data)
    assert workers[OTHER].siblings.asked == []


def test_a_hit_is_not_handed_over(workers: list[Worker], upstream: Upstream) -> None:
    upstream.usual = stream(*PIECES)
    marks = [workers[n].ask(asked()).mark for n in (OWNER, OTHER)]
    assert marks == ["miss", "hit"]
    assert workers[OTHER].siblings.asked == []
    assert workers[OTHER].stats() == (1, 0, 0)


def test_what_has_expired_is_handed_over(start: Start, upstream: Upstream) -> None:
    workers = start("?ttl=0.2")
    upstream.usual = stream(*PIECES)
    for count in (1, 2):
        assert workers[OTHER].ask(asked()).mark == "miss"
        assert workers[OWNER].stats()[1] == count
        time.sleep(0.25)


def test_what_was_handed_over_is_not_handed_on(workers: list[Worker], upstream: Upstream) -> None:
    """Also where workers do not agree who has a key."""
    upstream.usual = stream(*PIECES)
    workers[OWNER].siblings.owns = OTHER
    assert workers[OTHER].ask(asked()).mark == "miss"
    assert (len(workers[OTHER].siblings.asked), workers[OWNER].siblings.asked) == (1, [])


@pytest.mark.parametrize("token", ["path", "header"])
def test_a_token_is_asked_for_where_the_client_is(
    start: Start, upstream: Upstream, token: str
) -> None:
    workers = start(token="sesame")
    upstream.usual = stream(*PIECES)
    in_path = token == "path"
    target = f"/sesame{TARGET}" if in_path else TARGET
    headers = [] if in_path else ["x-cachewrap-token: sesame"]
    found = workers[OTHER].ask(asked("hi", *headers, target=target))
    assert (found.status, found.mark, found.pieces) == (200, "miss", PIECES)
    assert len(workers[OTHER].siblings.asked) == 1
    assert workers[OTHER].ask(asked()).status == 401


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        pytest.param("x" * 5_000_000, [], id="body"),
        pytest.param("hi", [f"x-{n}: 1" for n in range(252)], id="headers"),
        pytest.param("hi", [f"x-a: {'a' * 65_300}"], id="head"),
    ],
)
def test_as_much_as_a_client_may_send(
    workers: list[Worker], upstream: Upstream, content: str, headers: list[str]
) -> None:
    upstream.usual = stream(*PIECES)
    found = workers[OTHER].ask(asked(content, *headers))
    assert (found.status, found.mark, found.pieces) == (200, "miss", PIECES)
    assert workers[OWNER].stats() == (0, 1, 0)
    assert content.encode() in upstream.last.body


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_clients(workers: list[Worker], upstream: Upstream, version: str) -> None:
    upstream.usual = stream(*PIECES)
    found = workers[OTHER].ask(request(TARGET, chat(stream=True), version=version))
    assert (found.mark, found.body) == ("miss", b"".join(PIECES))
    assert found.framing == {"1.0": "close", "1.1": "chunks"}[version]


# -- what goes wrong -------------------------------------------------------------------------------


def test_an_upstream_that_is_not_there(start: Start) -> None:
    workers = start(upstreams={"openai": "http://127.0.0.1:9"})
    own, handed = (workers[n].ask(asked()) for n in (OWNER, OTHER))
    assert len(workers[OTHER].siblings.asked) == 1
    assert (handed.start, handed.body) == (own.start, own.body)
    assert sorted(handed.headers) == sorted(own.headers)
    (own_line,), (line,) = workers[OWNER].told(), workers[OTHER].told()
    assert own_line["error"] == line["error"] == "127.0.0.1:9 refused the connection"
    assert own_line["status"] == line["status"] == 502


def test_a_stream_that_broke_is_cut_and_not_stored(
    workers: list[Worker], upstream: Upstream
) -> None:
    def broken(wire: Wire, asked: Message) -> bool:
        wire.send(stream_head() + chunk(PIECES[0]))
        return False

    upstream.usual = broken
    found = workers[OTHER].ask(asked())
    assert (found.status, found.pieces, found.whole) == (200, PIECES[:1], False)
    (line,) = workers[OTHER].told()
    assert line["error"] == "worker-1 closed the connection before its answer was whole"
    upstream.usual = stream(*PIECES)
    assert workers[OTHER].ask(asked()).mark == "miss"


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_leaves(workers: list[Worker], upstream: Upstream, begun: bool) -> None:
    """The worker who asks upstream notices, though nothing more comes from there."""

    def stand(wire: Wire, asked: Message) -> bool:
        if begun:
            wire.send(stream_head() + chunk(PIECES[0]))
        wire.is_closed()
        return False

    upstream.usual = stand
    with workers[OTHER].proxy.client() as client:
        client.send(asked())
        if begun:
            next(client.reading(client.answer(read=False)))
        upstream.wait_for(1)
        (connection,) = workers[OTHER].siblings._senders.connections
        client.reset()
    assert eventually(lambda: connection.gone.done())
    assert eventually(lambda: not workers[OWNER].proxy.service._connections)
    assert eventually(lambda: not upstream.open)


def test_one_that_leaves_does_not_harm_the_others(
    workers: list[Worker], upstream: Upstream
) -> None:
    gate = Gate()
    upstream.usual = slowly(*PIECES, gate=gate)
    clients = [worker.proxy.client() for worker in (workers[0], workers[0], workers[2])]
    answers = []
    for client in clients:
        client.send(asked())
        answers.append(client.answer(read=False))
    clients[0].reset()
    gate.open()
    for client, found in list(zip(clients, answers, strict=True))[1:]:
        client.body(found)
        assert (found.mark, found.pieces) == ("joined", PIECES)
        client.close()
    assert len(upstream.asked) == 1


def test_a_client_that_is_slow_holds_nobody_up(start: Start, upstream: Upstream) -> None:
    pieces = events(*["x" * 50_000] * 200)
    workers = start()
    upstream.usual = stream(*pieces)
    with workers[OTHER].proxy.client() as slow:
        slow.send(asked())
        first = slow.answer(read=False)
        reading = slow.reading(first)
        next(reading)
        assert workers[OWNER].ask(asked()).body == b"".join(pieces)
        assert workers[2].ask(asked()).body == b"".join(pieces)
        for _ in reading:
            pass
    assert first.body == b"".join(pieces)
    assert len(upstream.asked) == 1


def test_a_worker_that_is_not_there(serve: Serve, tmp_path: Path, upstream: Upstream) -> None:
    upstream.usual = stream(*PIECES)
    about = {"url": f"disk:{tmp_path}/cache", "upstreams": {"openai": upstream.url}}
    worker = Worker(serve, tmp_path, OTHER, **about)
    assert [worker.ask(asked()).mark for _ in range(2)] == ["miss", "hit"]
    assert len(worker.siblings.asked) == 1
    assert worker.stats() == (1, 1, 0)
    owner = Worker(serve, tmp_path, OWNER, **about)  # it has come by now
    assert worker.ask(asked("more")).mark == "miss"
    assert owner.stats() == (0, 1, 0)


def test_a_socket_that_was_left_behind_is_in_nobodys_way(
    start: Start, tmp_path: Path, upstream: Upstream
) -> None:
    import socket

    upstream.usual = stream(*PIECES)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "worker-1"))
    workers = start()
    assert workers[OTHER].ask(asked()).mark == "miss"
    assert workers[OWNER].stats() == (0, 1, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a path is short by /proc")
def test_a_folder_with_a_long_path(start: Start, tmp_path: Path, upstream: Upstream) -> None:
    upstream.usual = stream(*PIECES)
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    workers = start(folder=folder)
    assert [worker.ask(asked()).mark for worker in workers] == ["miss", "hit", "hit"]
    assert workers[OWNER].stats() == (1, 1, 0)


def test_a_folder_in_which_no_socket_can_be(
    start: Start, tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.usual = stream(*PIECES)
    with caplog.at_level(logging.WARNING, "cachewrap.proxy"):
        workers = start(folder=tmp_path / "gone")
    assert len(caplog.records) == WORKERS
    assert "TMPDIR may name another folder" in caplog.text
    assert [worker.ask(asked()).mark for worker in workers] == ["miss", "hit", "hit"]


def test_keys_are_spread_over_all_workers(tmp_path: Path) -> None:
    known = [Siblings(Settings(workers=4), str(tmp_path), index) for index in range(4)]
    keys = [f"{n * 2654435761 % 2**32:08x}{'0' * 56}" for n in range(400)]
    owners = [[one.owner(key) for key in keys] for one in known]
    assert all(each == owners[0] for each in owners)
    assert all(80 < owners[0].count(index) < 120 for index in range(4))


def test_many_at_once(workers: list[Worker], upstream: Upstream) -> None:
    def each(wire: Wire, asked: Message) -> None:
        wire.send(stream_head())
        for piece in PIECES:
            wire.send(chunk(piece))
            time.sleep(0.005)
        wire.send(b"0\r\n\r\n")

    upstream.usual = each

    def ask(n: int) -> Message:
        with Client(workers[n % WORKERS].proxy.port) as client:
            return client.ask(asked(str(n // 10)))

    with ThreadPoolExecutor(30) as pool:
        found = list(pool.map(ask, range(100)))
    assert all(one.pieces == PIECES for one in found)
    assert len(upstream.asked) == 10
