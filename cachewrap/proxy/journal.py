"""The journal of the proxy: a line on stderr for each request that was answered.

Lines are written by a thread of their own, so that a pipe that nobody reads holds no answer up:
what there is no room for is dropped, and counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from cachewrap.errors import CacheWarning, printable
from cachewrap.proxy.settings import Served

FORMS: Final = ("json", "text", "off")
"""What a line looks like: for machines, for people, and none at all."""

_MOST: Final = 10_000
"""Lines, at most, that wait to be written."""

_PAUSE: Final = 0.02
"""Seconds for which lines are gathered before they are written together."""

_AT_ONCE: Final = 4096
"""Bytes that a system writes to a pipe in one piece, beside other processes."""

_KEY: Final = 12
_LONGEST: Final = {"path": 500, "error": 300}
_SHORT: Final = 100
_MESSAGE: Final = 1000
_LINES: Final = 60
_INDENTED: Final = "\n    "

_Line: TypeAlias = tuple[float, Served | str]


class Journal:
    """The lines about calls, and about what else is to be known.

    Args:
        form: one of `FORMS`.
        write: writes some bytes, and may wait; by default to stderr.

    Attributes:
        dropped: lines that there was no room for.
    """

    def __init__(self, form: str = "json", write: Callable[[bytes], object] | None = None) -> None:
        self.dropped = 0
        self._told = 0
        self._form = form
        self._line = _json_of if form == "json" else _text_of
        self._write = write or _write
        self._waiting: deque[_Line] = deque()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken = False

    def add(self, served: Served) -> None:
        """Write a line about an answered request, soon."""
        if self._form != "off":
            self._put((time.time(), served))

    def tell(self, message: str) -> None:
        """Write a line that is no request's, in every form."""
        self._put((time.time(), message))

    def close(self, seconds: float = 1.0) -> None:
        """Write what waits, for so many seconds at most."""
        self._closing.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _put(self, line: _Line) -> None:
        if len(self._waiting) >= _MOST or self._broken:
            self.dropped += 1
            return
        self._waiting.append(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cachewrap-log", daemon=True)
            self._thread.start()
        if not self._awake.is_set():
            self._awake.set()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._awake.wait()
                self._closing.wait(_PAUSE)
                self._awake.clear()
                self._drain()
            self._drain()
        except OSError:  # nobody will read it any more, which is no reason to answer no one
            self._broken = True

    def _drain(self) -> None:
        piece = b""
        while self._waiting:
            line = self._line(*self._waiting.popleft())
            if len(piece) + len(line) > _AT_ONCE:
                self._write(piece)
                piece = b""
            piece += line
        if (dropped := self.dropped) > self._told:
            piece += self._line(time.time(), f"{dropped - self._told} lines were dropped")
            self._told = dropped
        if piece:
            self._write(piece)


class _Faults(logging.Handler):
    """A handler that has a journal tell what is logged, of errors with where they come from."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.tell(self.format(record))


def take_over(journal: Journal) -> None:
    """Have a journal tell what this process warns of and logs, instead of stderr."""
    handler = _Faults(journal)
    for name in ("cachewrap", "asyncio"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    warnings.simplefilter("always", CacheWarning)  # each is given once for each cause
    warnings.showwarning = lambda message, *_: journal.tell(str(message))


def _json_of(at: float, what: Served | str) -> bytes:
    ts = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    if isinstance(what, str):
        return msgspec.json.encode({"ts": ts, "message": _message(what, "\n")}) + b"\n"
    facts = {
        "ts": ts,
        "client": _clean("peer", what.peer),
        "method": _clean("method", what.method),
        "upstream": _clean("upstream", what.upstream),
        "path": _clean("path", what.path),
        "status": what.status,
        "outcome": what.outcome,
        "reason": _clean("reason", what.reason),
        "model": _clean("model", what.model),
        "key": what.key[:_KEY],
        "seconds": round(what.seconds, 6),
        "first_seconds": round(what.first_seconds, 6),
        "received": what.received,
        "bytes": what.sent,
        "error": _clean("error", what.error),
    }
    return msgspec.json.encode(facts) + b"\n"


def _text_of(at: float, what: Served | str) -> bytes:
    clock = time.strftime("%H:%M:%S", time.localtime(at))
    if isinstance(what, str):
        return f"{clock} {_message(what, _INDENTED)}\n".encode()
    where = f"/{what.upstream}{what.path}" if what.upstream else what.path
    words = [
        clock,
        _clean("peer", what.peer),
        _clean("method", what.method),
        _clean("path", where),
        str(what.status or "-"),
        what.outcome,
        f"({_clean('reason', what.reason)})" if what.reason else "",
        _clean("model", what.model),
        what.key[:_KEY],
        f"{what.seconds * 1000:.1f} ms" if what.seconds < 1 else f"{what.seconds:.1f} s",
        f"{what.sent:,} bytes",
        _clean("error", what.error),
    ]
    return (" ".join(word for word in words if word) + "\n").encode()


def _message(text: str, between: str) -> str:
    """A message of several lines, none of which looks like the first of another."""
    return between.join(printable(line, _MESSAGE) for line in text.splitlines()[-_LINES:])


def _clean(name: str, text: str) -> str:
    """What a client wrote, without what would end the line or steer a terminal."""
    return printable(text, _LONGEST.get(name, _SHORT))


def _write(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(2, data) :]
        except BlockingIOError:  # whoever made the pipe wants to be asked again
            time.sleep(_PAUSE)
