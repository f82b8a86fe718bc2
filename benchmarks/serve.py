"""The proxy: what a hit costs, and what it adds to a miss, a pass-through and a stream.

Everything is beside the direct call in the same run, in turns. The client is a raw socket with
requests that are encoded before, in a process of its own; the upstream is another one.
"""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.harness import Result
from benchmarks.proxies import (
    FAULTS,
    PIECES,
    request,
    running_peer,
    running_proxy,
    running_upstream,
)
from cachewrap.testing.servers import redis_server

_PATH = "/v1/chat/completions"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_GOAL = 0.001
"""Seconds that a hit may take, and that all else may take beyond the direct call."""

_RATE = 2_000
"""Hits in a second that two processors should give."""


# -- the client --------------------------------------------------------------------------------


class _Line:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, data: bytes) -> bytes:
        """The answer, which has a length."""
        self.socket.sendall(data)
        told = self.socket.recv(262_144)
        while (end := told.find(b"\r\n\r\n")) < 0:
            told += self._more()
        found = _LENGTH.search(told, 0, end)
        if found is None:  # in chunks
            while not told.endswith(b"0\r\n\r\n"):
                told += self._more()
            return told
        size = end + 4 + int(found[1])
        while len(told) < size:
            told += self._more()
        return told

    def _more(self) -> bytes:
        if data := self.socket.recv(262_144):
            return data
        raise ConnectionError("the answer is not whole")

    def timed(self, data: bytes) -> float:
        """Seconds until the whole answer was there."""
        start = time.perf_counter()
        told = self.ask(data)
        taken = time.perf_counter() - start
        if b" 200 " not in told[:16]:
            raise RuntimeError(told[:300].decode())
        return taken

    def stream(self, data: bytes) -> tuple[float, list[float]]:
        """Seconds to the first byte of the body, and those from each event's sending to here."""
        start = time.perf_counter()
        self.socket.sendall(data)
        held, first, late = b"", 0.0, []
        while not held.endswith(b"0\r\n\r\n"):
            held += self._more()
            now = time.monotonic_ns()
            if not first and b"data:" in held:
                first = time.perf_counter() - start
            stamps = re.findall(rb'"at": (\d+)', held)
            late += [(now - int(stamp)) / 1e9 for stamp in stamps[len(late) :]]
        if len(late) != PIECES:
            raise RuntimeError(f"{len(late)} of {PIECES} events came")
        return first, late

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def _client(work: str, *given: object) -> Any:
    """What a function of this module gives, in a process of its own."""
    code = f"from benchmarks import serve; serve.told(serve.{work}, *{given!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return json.loads(done.stdout)


def told(work: Callable[..., Any], *given: object) -> None:
    """Print what a function gives, for `_client`."""
    print(json.dumps(work(*given)))


def latencies(ports: dict[str, tuple[int, str]], kind: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of requests of a kind to each of some ports, in turns.

    Args:
        ports: port and path before the upstream's, by name.
        kind: ``hit``, ``miss`` or ``pass``.
        rounds: how many requests to each.
    """
    lines = {name: _Line(port) for name, (port, _) in ports.items()}
    taken: dict[str, list[float]] = {name: [] for name in ports}
    names = list(ports)
    unique = time.monotonic_ns()
    for turn in range(-50, rounds):
        names.append(names.pop(0))
        for name in names:
            port, before = ports[name]
            if kind == "pass":
                data = request(port, f"{before}/v1/models")
            else:
                content = "question" if kind == "hit" else f"question {unique} {turn}"
                data = request(port, before + _PATH, content)
            seconds = lines[name].timed(data)
            if turn >= 0:
                taken[name].append(seconds)
    return taken


def streams(ports: dict[str, tuple[int, str]], rounds: int) -> dict[str, list[Any]]:
    """First bytes and delays of streams, in turns."""
    lines = {name: _Line(port) for name, (port, _) in ports.items()}
    found: dict[str, list[Any]] = {name: [[], []] for name in ports}
    unique = time.monotonic_ns()
    for turn in range(-3, rounds):
        for name, (port, before) in ports.items():
            data = request(port, before + _PATH, f"stream {unique} {turn}", stream=True)
            first, late = lines[name].stream(data)
            if turn >= 0:
                found[name][0].append(first)
                found[name][1] += late
    return found


def rate(port: int, connections: int, seconds: float, distinct: int) -> float:
    """Hits in a second, of so many connections that each ask again as soon as they are answered."""
    asked = [request(port, f"/openai{_PATH}", f"hit {n}") for n in range(distinct)]
    first = _Line(port)
    sizes = []
    for data in asked:
        first.ask(data)
        told = first.ask(data)
        if b"x-cachewrap: hit" not in told:
            raise RuntimeError(told[:300].decode())
        sizes.append(len(told))
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    poll = select.epoll()
    state: dict[int, list[Any]] = {}
    for index, line in enumerate(lines):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(line, select.EPOLLIN)
        number = index % distinct
        state[line.fileno()] = [line, number, sizes[number]]
        line.sendall(asked[number])
    done, start = 0, time.perf_counter()
    end, begun = start + seconds + 0.5, 0
    while (now := time.perf_counter()) < end:
        if now < start + 0.5:  # to get used to it
            begun = done
        for number, _ in poll.poll(0.1):
            one = state[number]
            data = one[0].recv(65_536)
            if not data:
                raise ConnectionError("a connection was closed")
            one[2] -= len(data)
            if not one[2]:
                done += 1
                one[1] = (one[1] + 1) % distinct
                one[2] = sizes[one[1]]
                one[0].sendall(asked[one[1]])
    return (done - begun) / seconds


def many(port: int, kind: str, number: int) -> int:
    """Ask so many times, and count what was no answer."""
    line, faults, unique = _Line(port), 0, time.monotonic_ns()
    for index in range(number):
        content = f"hit {index % 50}" if kind == "hit" else f"miss {unique} {index}"
        told = line.ask(request(port, f"/openai{_PATH}", content))
        faults += b" 200 " not in told[:16]
    return faults


def faulty(port: int, number: int) -> dict[str, int]:
    """What clients see of an upstream that fails in every way, by what it is.

    A fault of the proxy's is an answer of 500 that the upstream did not give, a whole answer that
    the upstream did not send, or none.
    """
    seen: dict[str, int] = {"of the upstream": 0, "of the proxy": 0, "none": 0}
    unique = time.monotonic_ns()
    line = _Line(port)
    for index in range(number):
        kind = index % (FAULTS + 1)
        data = request(port, f"/openai{_PATH}", f"{unique} {index} fault {kind:02}")
        try:
            told = line.ask(data)
        except OSError:
            told = b""
            line.close()
            line = _Line(port)
        status = int(told[9:12]) if told else 0
        ended = b"connection: close" in told[: told.find(b"\r\n\r\n")].lower()
        if ended:
            line.close()
            line = _Line(port)
        wanted = {4: {429}, 5: {500}, 9: {200}}.get(kind, {502, 504, 0})
        if status not in wanted:
            seen["of the proxy"] += 1
        else:
            seen["none" if status == 200 else "of the upstream"] += 1
    return seen


# -- what is measured --------------------------------------------------------------------------


def _beyond(
    group: str, times: dict[str, list[float]], goals: dict[str, float | None]
) -> Iterator[Result]:
    """Rows beside the direct call; goals are seconds beyond it.

    What is added is the median of the differences within a turn.
    """
    direct = times["direct"]
    for name, own in times.items():
        added = median(mine - its for mine, its in zip(own, direct, strict=True))
        goal = goals.get(name)
        target = None if goal is None else (median(direct) + goal) / median(direct)
        yield Result(
            group,
            name,
            median(own) * 1e6,
            (median(direct) + added) / median(direct),
            target,
            min(own) / min(direct),
        )
        if name != "direct":
            yield Result(f"{group}, added", name, added * 1e6, added / _GOAL, 1.0 if goal else None)


def latency(rounds: int) -> list[Result]:
    """Hits, misses and pass-throughs of one client, beside the direct call and other proxies."""
    found: list[Result] = []
    with ExitStack() as stack:
        ports = _started(stack)
        for kind, title in (("hit", "a hit"), ("miss", "a miss"), ("pass", "a pass-through")):
            times = _client("latencies", ports, kind, max(200, rounds * 10))
            goals = {"cachewrap serve": _GOAL}
            if kind == "hit":
                own = times["cachewrap serve"]
                found += _beyond(f"serve: {title}", {k: times[k] for k in ("direct",)}, {})
                share = median(own) / median(times["direct"])
                target = _GOAL / median(times["direct"])
                found.append(Result(f"serve: {title}", "median", median(own) * 1e6, share, target))
                late = quantiles(own, n=100)[98]
                found.append(
                    Result(
                        f"serve: {title}",
                        "of 100 the slowest",
                        late * 1e6,
                        late / median(times["direct"]),
                        None,
                    )
                )
            else:
                found += _beyond(f"serve: {title}", times, goals)
        times = _client("streams", ports, max(10, rounds // 4))
        firsts = {name: one[0] for name, one in times.items()}
        found += _beyond("serve: first byte of a stream", firsts, {"cachewrap serve": _GOAL})
        delays = {name: one[1] for name, one in times.items()}
        found += _beyond("serve: an event of it", delays, {"cachewrap serve": _GOAL})
    return found


def _started(stack: ExitStack) -> dict[str, tuple[int, str]]:
    """Port, and path before the upstream's, of what answers."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    up = stack.enter_context(running_upstream(folder))
    base = f"http://127.0.0.1:{up.port}"
    ports = {"direct": (up.port, "")}
    proxy = stack.enter_context(running_proxy(folder, base))
    ports["cachewrap serve"] = (proxy.port, "/openai")
    for name, title in (("starlette", "Starlette, uvicorn, httpx"), ("aiohttp", "aiohttp")):
        peer = stack.enter_context(running_peer(name, folder, base))
        if peer is not None:
            ports[title] = (peer.port, "/openai")
    return ports


def throughput(seconds: float = 4.0) -> list[Result]:
    """Microseconds for each hit where many ask, beside those that the goal allows."""
    allowed = 1e6 / _RATE
    found = [Result("serve: hits by many", f"the goal, {_RATE:,}/s", allowed, 1.0, None)]
    for workers in (1, 2):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            up = stack.enter_context(running_upstream(folder))
            base = f"http://127.0.0.1:{up.port}"
            proxy = stack.enter_context(running_proxy(folder, base, workers))
            each = 1e6 / _client("rate", proxy.port, 32, seconds, 20)
        title = f"{workers} {'worker' if workers == 1 else 'workers'}, {1e6 / each:,.0f}/s"
        target = 1.0 if workers == 2 else None
        found.append(Result("serve: hits by many", title, each, each / allowed, target))
    return found


def memory(hits: int = 100_000, misses: int = 20_000) -> list[Result]:
    """Resident kilobytes over many requests, without what is a part of a file.

    Misses go to Redis: SQLite keeps pages of what it wrote in memory, up to 32 MB of them.
    """
    found = []
    for kind, number in (("hit", hits), ("miss", misses)):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            up = stack.enter_context(running_upstream(folder))
            cache = stack.enter_context(redis_server()).url if kind == "miss" else ""
            base = f"http://127.0.0.1:{up.port}"
            proxy = stack.enter_context(running_proxy(folder, base, 1, cache))
            faults = _client("many", proxy.port, kind, 2_000)
            first = proxy.resident()[1]
            faults += _client("many", proxy.port, kind, number)
            last = proxy.resident()[1]
        what = "hits" if kind == "hit" else "misses"
        group = f"serve: resident KB, {what}"
        found.append(Result(group, "after 2,000", first, 1.0, None))
        found.append(Result(group, f"after {number:,} more", last, last / first, 1.05))
        if faults:
            raise RuntimeError(f"{faults} of {number} requests were not answered")
    return found


def faults(number: int = 1_000) -> list[Result]:
    """How many of the answers are faults of the proxy's, where the upstream fails in all ways."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        up = stack.enter_context(running_upstream(folder))
        proxy = stack.enter_context(
            running_proxy(folder, f"http://127.0.0.1:{up.port}", 1, "", "--timeout", "1s")
        )
        seen = _client("faulty", proxy.port, number)
        said = proxy.said.read_text(encoding="utf-8")
    traced = said.count("Traceback")
    group = "serve: faults, count"
    return [
        Result(group, "of the upstream", seen["of the upstream"], 1.0, None),
        Result(group, "none", seen["none"], 1.0, None),
        Result(group, "of the proxy", seen["of the proxy"], float(seen["of the proxy"]), 0.0),
        Result(group, "tracebacks in its log", traced, float(traced), 0.0),
    ]
