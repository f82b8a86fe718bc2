"""Stores that are down, full of damage or shared: a client gets its answer all the same."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cachewrap.errors import StoreError
from cachewrap.testing import servers
from proxy.conftest import Serve
from proxy.raw import eventually, request
from proxy.running import Within, command, within
from proxy.upstream import Upstream, answer, chat, completion, events, stream

TARGET = "/openai/v1/chat/completions"


class Valkey:
    """A server that can be killed, and started again where it was."""

    def __init__(self) -> None:
        self.port = servers._free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.short = f"{self.url}?store_seconds=0.5&breaker_seconds=0.3"
        self._stack = ExitStack()

    def start(self) -> None:
        """Start it, empty."""
        servers._start(self._stack, self.port)

    def kill(self) -> None:
        """End it at once."""
        self._stack.close()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    if "CACHEWRAP_TEST_REDIS_URL" in os.environ:
        pytest.skip("a server of one's own is not killed")
    valkey = Valkey()
    valkey.start()
    yield valkey
    valkey.kill()


def ask(proxy: Within, number: int, *, streamed: bool = False) -> str:
    """Ask a question: whether it was a hit. All else is a fault."""
    told = proxy.ask(request(TARGET, chat(str(number), stream=streamed)))
    assert told.status == 200
    assert told.whole
    assert told.body == (b"".join(events("a", "b")) if streamed else completion())
    return told.mark or ""


def test_a_store_that_dies_and_comes_back(serve: Serve, upstream: Upstream, valkey: Valkey) -> None:
    """While it is down each question is asked of the upstream, then they are stored again."""
    proxy = serve(valkey.short, upstreams={"openai": upstream.url})
    upstream.usual = lambda wire, asked: wire.send(
        stream(*events("a", "b")) if b'"stream"' in asked.body else answer(completion())
    )
    for streamed in (False, True):
        assert [ask(proxy, 1, streamed=streamed) for _ in range(2)] == ["miss", "hit"]
    valkey.kill()
    start = time.monotonic()
    for number in range(10):
        assert ask(proxy, 1, streamed=number % 2 == 1) in ("miss", "bypass")
    assert time.monotonic() - start < 5
    valkey.start()

    def is_stored() -> bool:
        return ask(proxy, 1) == "hit" and ask(proxy, 1, streamed=True) == "hit"

    assert eventually(is_stored, 20)


def test_a_store_that_dies_under_load(serve: Serve, upstream: Upstream, valkey: Valkey) -> None:
    """No client sees it: each has its answer, all the time."""
    proxy = serve(valkey.short, upstreams={"openai": upstream.url})
    upstream.usual = answer(completion())
    end, faults, count = threading.Event(), [], [0]

    def load(index: int) -> None:
        with proxy.client() as client:
            number = 0
            while not end.is_set():
                told = client.ask(request(TARGET, chat(f"{index} {number // 2}")))
                if (told.status, told.body) != (200, completion()):
                    faults.append(told)
                number += 1
                count[0] += 1

    threads = [threading.Thread(target=load, args=(index,), daemon=True) for index in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.3)
        valkey.kill()
        time.sleep(0.3)
        valkey.start()
    time.sleep(0.3)
    end.set()
    for thread in threads:
        thread.join(15)
    assert faults == []
    assert count[0] > 50


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_cannot_be_written(serve: Serve, upstream: Upstream, tmp_path: Path) -> None:
    upstream.usual = answer(completion())
    proxy = serve(f"disk:{tmp_path / 'cache'}", upstreams={"openai": upstream.url})
    ask(proxy, 1)
    for file in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        file.chmod(0o500 if file.is_dir() else 0o400)
    assert ask(proxy, 2) == "miss"


@pytest.mark.parametrize("damage", [b"", b"\x00" * 999])
def test_a_damaged_database(
    serve: Serve, upstream: Upstream, tmp_path: Path, damage: bytes
) -> None:
    """It is told at the start, or what cannot be read is asked anew."""
    upstream.usual = answer(completion())
    url = f"disk:{tmp_path / 'cache'}"
    with within(url, {"openai": upstream.url}) as proxy:
        ask(proxy, 1)
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert files
    for file in files:
        with open(file, "r+b") as opened:
            if damage:
                opened.write(damage)
            else:
                opened.truncate(100)
    with suppress(StoreError):
        proxy = serve(url, upstreams={"openai": upstream.url})
        for number in range(3):
            assert ask(proxy, number) in ("miss", "hit", "bypass")


@pytest.mark.parametrize("kind", ["disk", "redis"])
def test_two_proxies_ask_once(place: Callable[[str], str], upstream: Upstream, kind: str) -> None:
    """By a lease in the store: who comes second waits for what the first one gets."""
    url = place(kind)
    go = threading.Event()
    pieces = events("a", "b")

    def waits(wire: object, asked: object) -> None:
        go.wait(10)
        wire.send(stream(*pieces))  # type: ignore[attr-defined]

    upstream.usual = waits
    upstreams = {"openai": upstream.url}
    with (
        command(url, upstreams=upstreams) as first,
        command(url, upstreams=upstreams) as second,
        first.client() as one,
        second.client() as two,
    ):
        one.send(request(TARGET, chat(stream=True)))
        upstream.wait_for(1)
        two.send(request(TARGET, chat(stream=True)))
        time.sleep(0.3)
        go.set()
        told = one.answer(), two.answer()
    assert {one.body for one in told} == {b"".join(pieces)}
    assert told[0].mark == "miss"
    assert told[1].mark in ("hit", "joined")
    assert len(upstream.asked) == 1


def test_the_first_that_is_stored_wins(
    serve: Serve, place: Callable[[str], str], upstream: Upstream
) -> None:
    """Who was answered otherwise meanwhile is told so, and the next ones get what is stored."""
    url = place("disk")
    proxies = [serve(url, upstreams={"openai": upstream.url}) for _ in range(2)]
    upstream.once(answer(completion("first")), answer(completion("second")))
    refresh = request(TARGET, chat("won"))
    assert proxies[0].ask(refresh).body == completion("first")
    assert proxies[1].ask(refresh).body == completion("first")
    forced = proxies[1].ask(request(TARGET, chat("won"), "x-cachewrap-refresh: yes"))
    assert (forced.mark, forced.body) == ("miss", completion("second"))
    assert proxies[0].ask(refresh).body == completion("second")


def test_a_ttl_of_one_request(serve: Serve, upstream: Upstream) -> None:
    proxy = serve(upstreams={"openai": upstream.url})
    upstream.usual = answer(completion())
    short = request(TARGET, chat(), "x-cachewrap-ttl: 0.15")
    assert [proxy.ask(short).mark for _ in range(2)] == ["miss", "hit"]
    time.sleep(0.2)
    assert proxy.ask(short).mark == "miss"
