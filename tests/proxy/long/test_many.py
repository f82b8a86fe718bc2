"""Many requests: no more memory, sockets or tasks than after the first few."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.long.test_large import resident
from proxy.raw import Client, request
from proxy.running import Process, command
from proxy.upstream import Upstream, answer, chat, completion, events, stream

TARGET = "/openai/v1/chat/completions"


def ask_many(proxy: Process, number: int, kind: str, first: int = 0) -> None:
    """Ask so often, on four connections at once."""
    faults: list[object] = []

    def run(index: int) -> None:
        with Client(proxy.port, 30) as client:
            for each in range(index, number, 4):
                content = str(each % 20) if kind == "hits" else f"{first} {each}"
                path = TARGET if kind != "passed" else "/openai/v1/models"
                body = chat(content, stream=each % 10 == 0) if kind != "passed" else None
                told = client.ask(request(path, body))
                if told.status != 200 or not told.whole:
                    faults.append(told)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert faults == []


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "number"), [("hits", 100_000), ("misses", 20_000), ("passed", 20_000)]
)
def test_memory_is_flat(
    upstream: Upstream, place: Callable[[str], str], kind: str, number: int
) -> None:
    """Misses go to Redis: SQLite has pages of what it wrote in memory, up to 32 MB of them."""
    upstream.usual = lambda wire, asked: wire.send(
        stream(*events("a", "b")) if b'"stream"' in asked.body else answer(completion())
    )
    url = place("redis" if kind == "misses" else "disk")
    with command(url, "--log", "off", upstreams={"openai": upstream.url}) as proxy:
        ask_many(proxy, 4_000, kind)
        upstream.asked.clear()
        memory, files = resident(proxy.process.pid), descriptors(proxy.process.pid)
        for part in range(1, 6):
            ask_many(proxy, number // 5, kind, part)
            upstream.asked.clear()
        assert resident(proxy.process.pid) < 1.05 * memory + 1_000
        assert descriptors(proxy.process.pid) <= files + 4
        assert proxy.end() == 0
