"""The workers of the proxy: processes that share its sockets, and the parent that keeps them.

The parent and each worker are at the two ends of a pipe: a worker tells that it accepts
connections, the parent tells it to end, and a worker whose parent is gone ends by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from cachewrap.errors import ConfigurationError
from cachewrap.proxy.providers import Upstreams
from cachewrap.proxy.service import address_of, bound, live
from cachewrap.proxy.settings import Settings
from cachewrap.proxy.siblings import Siblings
from cachewrap.urls import parse_url

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which processes put their counts together."""

_READY: Final = b"ready"
_END: Final = b"end"
_NOW: Final = b"now"

_MOST_DEATHS: Final = 5
_DEATH_SECONDS: Final = 10.0
"""Not more workers than that may die in so many seconds and be replaced."""

_LEFT_SECONDS: Final = 5.0
"""Seconds after which a worker that was to end at once is killed."""

_WAKE_SECONDS: Final = 0.5 if os.name == "nt" else None
"""On Windows a signal wakes nobody who waits."""


def serve(settings: Settings, started: Callable[[str], None]) -> int:
    """Serve until a signal ends it: the exit status.

    Args:
        settings: what it is told.
        started: is given the address, once connections are accepted.

    Raises `OSError` for an address that cannot be had, and `ConfigurationError`.
    """
    if settings.workers > 1 and parse_url(settings.url)[0] == "memory":
        raise ConfigurationError(
            "each worker would have its own cache in memory: give a folder, a file or a server, or"
            " leave --workers out"
        )
    if settings.workers == 1:
        return live(settings, started=started)
    Upstreams(settings.upstreams)  # what is wrong with them is told once, and not by each worker
    sockets = bound(settings)
    folder = tempfile.mkdtemp(prefix="cachewrap-counts-")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = folder
    try:
        for one in sockets:
            one.listen()
        return _Parent(settings, sockets, folder, started).run()
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        for one in sockets:
            one.close()
        shutil.rmtree(folder, ignore_errors=True)


class _Worker:
    """One worker, as its parent sees it."""

    def __init__(
        self, settings: Settings, sockets: Sequence[socket.socket], folder: str, index: int
    ) -> None:
        self.index = index
        self.pipe, end = multiprocessing.Pipe()
        self.ready = False
        context = multiprocessing.get_context("spawn")
        words = (settings, list(sockets), end, folder, index)
        self.process: SpawnProcess = context.Process(target=_work, args=words, daemon=True)
        self.process.start()
        end.close()

    def tell(self, word: bytes) -> None:
        """Tell it something, if it is still there."""
        with suppress(OSError):
            self.pipe.send_bytes(word)

    def hear(self) -> None:
        """Take what it tells."""
        try:
            self.ready = self.pipe.recv_bytes() == _READY or self.ready
        except (EOFError, OSError):
            self.pipe.close()


class _Parent:
    """The process that keeps the workers."""

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[socket.socket],
        folder: str,
        started: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._folder = folder
        self._started: Callable[[str], None] | None = started
        self._workers: list[_Worker] = []
        self._deaths: deque[float] = deque(maxlen=_MOST_DEATHS + 1)
        self._signals = 0
        self._told = 0
        self._until: float | None = None
        self._status = 0
        self._heard, self._wake = multiprocessing.Pipe(duplex=False)

    def run(self) -> int:
        """Keep the workers until they are told to end, and have ended."""
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            for index in range(self._settings.workers):
                self._start(index)
            while self._workers:
                self._step()
            return self._status
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for worker in self._workers:
                worker.process.kill()

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1
        self._wake.send_bytes(b"!")

    def _start(self, index: int) -> None:
        self._workers.append(_Worker(self._settings, self._sockets, self._folder, index))

    def _step(self) -> None:
        """Wait for something to happen, and do what follows from it."""
        pipes = [one.pipe for one in self._workers if not one.pipe.closed]
        ends = [one.process.sentinel for one in self._workers]
        happened = wait([self._heard, *pipes, *ends], self._seconds())
        if self._heard in happened:
            self._heard.recv_bytes()
        for worker in self._workers:
            if worker.pipe in happened:
                worker.hear()
        if self._until is None and all(one.ready for one in self._workers):
            self._tell_address()
        if self._signals > self._told:
            self._told = self._signals
            self._end(_END if self._signals == 1 else _NOW)
        for worker in [one for one in self._workers if one.process.exitcode is not None]:
            self._bury(worker)
        if self._until is not None and time.monotonic() > self._until:
            for worker in self._workers:
                worker.process.kill()

    def _tell_address(self) -> None:
        if self._started is not None:
            self._started(address_of(self._settings.host, self._sockets))
            self._started = None

    def _seconds(self) -> float | None:
        if self._until is None:
            return _WAKE_SECONDS
        return max(0.05, min(self._until - time.monotonic(), _WAKE_SECONDS or 60.0))

    def _end(self, word: bytes) -> None:
        """Tell all workers to end, and know until when they must have."""
        left = self._settings.limits.end_seconds if word == _END else 0.0
        until = time.monotonic() + left + _LEFT_SECONDS
        self._until = until if self._until is None else min(self._until, until)
        for one in self._sockets:  # else connections would wait there for somebody to accept them
            one.close()
        for worker in self._workers:
            worker.tell(word)

    def _bury(self, worker: _Worker) -> None:
        """Go on without a worker that has ended, or with another one in its place."""
        process = worker.process
        self._workers.remove(worker)
        worker.pipe.close()
        mark_process_dead(process.pid, self._folder)  # type: ignore[no-untyped-call]
        if self._until is not None:
            return
        ended = _how(process.exitcode or 0)
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) > _MOST_DEATHS and now - self._deaths[0] < _DEATH_SECONDS:
            _say(
                f"{len(self._deaths)} workers have ended in {_DEATH_SECONDS:.0f} s, the last one"
                f" {ended}: giving up"
            )
            self._status = 1
            self._end(_END)
            return
        _say(f"worker {process.pid} has ended {ended}: starting another one")
        self._start(worker.index)


def _how(code: int) -> str:
    if code >= 0:
        return f"with status {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _say(text: str) -> None:
    print(f"cachewrap: {text}", file=sys.stderr, flush=True)


# -- in a worker -------------------------------------------------------------------------------


def _work(
    settings: Settings, sockets: list[socket.socket], pipe: Connection, folder: str, index: int
) -> None:
    """Be a worker, from its start to its end."""
    # A terminal interrupts all of its processes at once: what comes of it the parent says.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orphaned = threading.Event()

    def control(end: Callable[[], None], now: Callable[[], None]) -> None:
        def listen() -> None:
            while True:
                try:
                    word = pipe.recv_bytes()
                except (EOFError, OSError):  # the parent is gone, however it went
                    orphaned.set()
                    end()
                    return
                (now if word == _NOW else end)()

        signal.signal(signal.SIGTERM, lambda *_: end())
        threading.Thread(target=listen, name="cachewrap-parent", daemon=True).start()

    def started(address: str) -> None:
        with suppress(OSError):
            pipe.send_bytes(_READY)

    siblings = Siblings(settings, folder, index)
    status = live(settings, sockets=sockets, started=started, control=control, siblings=siblings)
    if orphaned.is_set():  # nobody else is there to do it
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)
