"""The command, its workers and its end: what is under way is finished, then it exits."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.raw import Client, ask, chunk, eventually, request
from proxy.running import command
from proxy.upstream import Upstream, answer, chat, completion, events, stream_head

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

TARGET = "/openai/v1/chat/completions"
PIECES = events("a", "b", "c")


@pytest.mark.parametrize(
    ("workers", "how"),
    [
        pytest.param(1, signal.SIGINT, id="SIGINT"),
        pytest.param(2, signal.SIGTERM, id="SIGTERM, two workers"),
    ],
)
def test_streams_under_way_are_finished(
    upstream: Upstream, tmp_path: Path, workers: int, how: signal.Signals
) -> None:
    """No answer under way is cut, no new connection is taken, and the exit is no error."""
    go = threading.Event()

    def waits(wire: object, asked: object) -> None:
        wire.send(stream_head() + chunk(PIECES[0]))  # type: ignore[attr-defined]
        go.wait(10)
        for piece in PIECES[1:]:
            wire.send(chunk(piece))  # type: ignore[attr-defined]
        wire.send(b"0\r\n\r\n")  # type: ignore[attr-defined]

    upstream.usual = waits
    given = (f"disk:{tmp_path / 'cache'}", "--workers", str(workers))
    with command(*given, upstreams={"openai": upstream.url}) as proxy:
        clients = [proxy.client() for _ in range(12)]
        idle = proxy.client()
        for number, client in enumerate(clients):
            path = TARGET if number % 2 else "/openai/v1/events"
            client.send(request(path, chat(str(number), stream=True)))
        heads = [client.answer(read=False) for client in clients]
        readings = [client.reading(head) for client, head in zip(clients, heads, strict=True)]
        for reading in readings:
            assert next(reading) == PIECES[0]
        proxy.process.send_signal(how)

        def refuses() -> bool:
            with suppress(OSError), Client(proxy.port, 0.3) as late:
                late.ask(request("/healthz"))
                return False
            return True

        assert eventually(refuses)
        assert idle.is_closed()
        assert proxy.process.poll() is None
        go.set()
        for reading in readings:
            assert list(reading) == PIECES[1:]
        assert proxy.wait() == 0
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert kept


def test_sigterm_under_load(upstream: Upstream, tmp_path: Path) -> None:
    """Each request is answered whole, or its connection was not taken any more."""
    upstream.usual = lambda wire, asked: (time.sleep(0.005), wire.send(answer(completion())))[0]
    faults: list[str] = []
    done = [0]
    given = (f"disk:{tmp_path / 'cache'}", "--workers", "2")
    with command(*given, upstreams={"openai": upstream.url}) as proxy:
        stop = threading.Event()

        def load(index: int) -> None:
            number = 0
            while not stop.is_set():
                try:
                    client = Client(proxy.port, 5)
                except OSError:
                    return
                with client, suppress(ConnectionError):
                    while not stop.is_set():
                        number += 1
                        client.send(request(TARGET, chat(f"{index} {number // 2}")))
                        before = client.held
                        try:
                            told = client.answer()
                        except ConnectionError:
                            if client.held != before:
                                faults.append("a head was cut")
                            raise
                        if not told.whole or told.body != completion() or told.status != 200:
                            faults.append(f"{told.start!r} {told.whole}")
                        done[0] += 1
                        if (told.get("connection") or "").lower() == "close":
                            break

        threads = [threading.Thread(target=load, args=(index,), daemon=True) for index in range(8)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: done[0] > 100)
        status = proxy.end()
        stop.set()
        for thread in threads:
            thread.join(10)
        assert status == 0
    assert faults == []


def test_a_stream_that_does_not_end_is_cut(upstream: Upstream, tmp_path: Path) -> None:
    """A second signal does not wait."""
    end = threading.Event()

    def waits(wire: object, asked: object) -> bool:
        wire.send(stream_head() + chunk(PIECES[0]))  # type: ignore[attr-defined]
        end.wait(20)
        return False

    upstream.usual = waits
    with command(f"disk:{tmp_path / 'c'}", upstreams={"openai": upstream.url}) as proxy:
        client = proxy.client()
        client.send(request(TARGET, chat(stream=True)))
        reading = client.reading(client.answer(read=False))
        next(reading)
        proxy.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert proxy.process.poll() is None
        assert proxy.end() is not None
        with pytest.raises(ConnectionError):
            list(reading)
    end.set()


def test_a_worker_that_dies_is_replaced(upstream: Upstream, tmp_path: Path) -> None:
    import os

    upstream.usual = answer(completion())
    given = (f"disk:{tmp_path / 'cache'}", "--workers", "2")
    with command(*given, upstreams={"openai": upstream.url}) as proxy:
        assert ask(proxy.port, request(TARGET, chat())).status == 200
        for child in children(proxy.process.pid):
            os.kill(child, signal.SIGKILL)

        def answers() -> bool:
            with suppress(OSError):
                return ask(proxy.port, request(TARGET, chat())).mark == "hit"
            return False

        assert eventually(answers)
        assert proxy.end() == 0


def children(pid: int) -> list[int]:
    """The workers of a process: those of its children that run our code."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            command_line = (place.parent / "cmdline").read_bytes()
            if int(fields[1]) == pid and b"spawn_main" in command_line:
                found.append(int(place.parent.name))
    return found


def test_16_clients_over_two_workers_ask_once(upstream: Upstream, tmp_path: Path) -> None:
    go = threading.Event()

    def waits(wire: object, asked: object) -> None:
        go.wait(10)
        for piece in (stream_head(), *map(chunk, PIECES), b"0\r\n\r\n"):
            wire.send(piece)  # type: ignore[attr-defined]

    upstream.usual = waits
    given = (f"disk:{tmp_path / 'cache'}", "--workers", "2")
    with command(*given, upstreams={"openai": upstream.url}) as proxy:
        clients = [proxy.client() for _ in range(16)]
        for client in clients:
            client.send(request(TARGET, chat(stream=True)))
        upstream.wait_for(1)
        time.sleep(0.3)
        go.set()
        told = [client.answer() for client in clients]
        assert {one.body for one in told} == {b"".join(PIECES)}
        assert len(upstream.asked) == 1
        marks = [one.mark for one in told]
        assert marks.count("miss") == 1
        assert set(marks) <= {"miss", "joined", "hit"}
        assert proxy.end() == 0
