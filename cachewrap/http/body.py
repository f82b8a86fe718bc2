"""The body of an open response where it comes in: recorded, stored when it is whole."""

from __future__ import annotations

import atexit
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias
from weakref import WeakMethod

from cachewrap.call.lease import OpenLease
from cachewrap.entry import Entry, HttpAnswer
from cachewrap.http.encodings import BLANK, FRAMES, read_frames
from cachewrap.http.events import BROKEN_OFF, CLOSING, each_event, is_error, stop_reason
from cachewrap.http.exchange import LINES, Answered
from cachewrap.streams.recording import Recording
from cachewrap.streams.shared import hands
from cachewrap.streams.shared_async import Task, begin, finish
from cachewrap.systems import clock, in_forked_child

SECONDS: Final = 1.0
"""Seconds for which a stream is read on, at most."""

BYTES: Final = 1_048_576
"""Bytes of it that are read on, at most."""

_ENDS: Final = frozenset({*CLOSING, "message-end", "stream-end"})  # those of Cohere


Judge: TypeAlias = Callable[[Recording[bytes]], Answered]
Keep: TypeAlias = Callable[[Answered], Any]
Look: TypeAlias = Callable[[Recording[bytes]], bool]


class Body:
    """The upstream end: the stream of the response that the first caller was given.

    Attributes:
        head: status and headers of the response, once it has arrived.
        entry: what is stored of it, once it is.
        abandoned: whether the last reader was finalised in place of closing his response: that may
            happen under any lock, so nothing is stored then.
        rest: what reads on when the last reader has left at the reason to stop: a `Rest`, or an
            event of an async stream that is set when that is over.
    """

    spoiled = False

    def __init__(self) -> None:
        self.head: HttpAnswer | None = None
        self.entry: Entry | None = None
        self.abandoned = False
        self.rest: Any = None
        self._recording: Recording[bytes] = Recording(time.perf_counter())
        self._stream: Any = None
        self._chunks: Any = None
        self._judge: Judge | None = None
        self._keep: Keep | None = None
        self._fails: Look | None = None
        self._stops: Look | None = None
        self._broken_off = False
        self._lease: OpenLease | None = None
        self._arrived = 0.0
        self._pulls = False

    @property
    def exhausted(self) -> bool:
        """Whether the stream came to its own end."""
        return self._recording.ended

    def arrive(
        self,
        head: HttpAnswer,
        stream: Any,
        recording: Recording[bytes],
        judge: Judge,
        keep: Keep,
        fails: Look,
        stops: Look,
        lease: OpenLease | None = None,
    ) -> None:
        """The response has come.

        Args:
            head: its status and headers.
            stream: its own stream.
            recording: where its chunks go.
            judge: says what is to be stored of a recording.
            keep: stores that; what it gives is a `Reply`, or an awaitable of one for an async
                stream.
            fails: whether a recording tells of an error.
            stops: whether it tells the reason to stop.
            lease: under which it was asked for: what stores it gives that back.
        """
        self._recording = recording
        self._stream = stream
        self._judge, self._keep, self._fails, self._stops = judge, keep, fails, stops
        self.head = head
        if lease is not None:
            self._arrived = time.perf_counter() - recording.started
            self._lease = lease
            lease.pulse.idle_for = WeakMethod(self._idle_for)
            lease.opened = True

    def fails(self) -> bool:
        """Whether what has passed tells of an error, so that a new caller does better to ask anew.

        A reader that raised such an error may not have closed its response.
        """
        return self._fails is not None and self._fails(self._recording.passed())

    def is_broken(self) -> bool:
        """See `Source`."""
        return self.entry is None and (self._broken_off or self.fails())

    @property
    def is_kept(self) -> bool:
        """Whether nothing more will be stored of it."""
        return self._keep is None

    def rests(self) -> bool:
        """Whether all that a reader sees has come, and what makes it whole may be still to come."""
        if self._keep is None or self._recording.ended or self._stops is None:
            return False
        return self._stops(self._recording.passed())

    def _take(self, *, whole: bool) -> Callable[[], Any] | None:
        """What stores the recording; None if that is done, or if it is not whole but must be."""
        if self._judge is None or self._keep is None:
            return None
        passed = self._recording.passed()
        answered = self._judge(passed)
        self._broken_off = answered.reason in BROKEN_OFF or not passed.items
        if self._lease is not None:
            over = passed.ended or not self._broken_off or self.fails()
            self._lease.over = self._lease.over or over
        if whole and answered.answer is None:
            return None
        keep, self._keep = self._keep, None
        return partial(keep, answered)

    def _idle_for(self) -> float:
        """How many seconds ago its reader had the last piece, if he wants no other one so far."""
        if self._pulls or self._keep is None:
            return 0.0
        delays = self._recording.delays
        last = delays[-1] if delays else self._arrived
        return time.perf_counter() - self._recording.started - last

    def _broke(self) -> None:
        self._pulls = False
        if self._lease is not None:
            self._lease.over = True

    def _drop_lease(self) -> None:
        """Give up a lease that nothing which stores the body will give back."""
        if self._lease is not None and self._keep is not None:
            self._lease.drop()


class SyncBody(Body):
    """`Body` of a sync response.

    Attributes:
        wake: ends a read that waits in another thread.
    """

    wake: Callable[[], object] = staticmethod(bool)

    def __init__(self) -> None:
        super().__init__()
        self.land_in_child()

    def land_in_child(self) -> None:
        """In a forked child the thread that stores, and would release the lock, does not exist."""
        # An abandoned reader is finalised wherever the collector runs, perhaps in what stores.
        self._storing = threading.RLock()

    def pull(self) -> bytes:
        if self._chunks is None:
            self._chunks = iter(self._stream)
        self._pulls = True
        try:
            chunk: bytes = next(self._chunks)
            self._pulls = False
        except StopIteration:
            self._pulls = False
            self._recording.ended = True
            self.close()
            raise
        except Exception:
            self._broke()
            raise
        self._recording.add(chunk)
        return chunk

    def close(self) -> None:
        if self._stream is not None:
            try:
                self._stream.close()
                if not self.abandoned:
                    self.store(whole=False)
            finally:
                self._drop_lease()

    def give_up(self) -> None:
        """Let nobody wait for more."""
        if self._pulls:
            self.wake()

    def store(self, *, whole: bool) -> None:
        """Store what has passed; with ``whole`` only if nothing of it is missing.

        Whoever comes while it is being stored waits until that is done.
        """
        with self._storing:
            if keep := self._take(whole=whole):
                self.entry = keep().entry


class AsyncBody(Body):
    """`Body` of an async response."""

    def __init__(self) -> None:
        super().__init__()
        self._storing: Task | None = None

    async def pull(self) -> bytes:
        if self._chunks is None:
            self._chunks = aiter(self._stream)
        self._pulls = True
        try:
            chunk: bytes = await anext(self._chunks)
            self._pulls = False
        except StopAsyncIteration:
            self._recording.ended = True
            await self.close()
            raise
        except Exception:
            self._broke()
            raise
        self._recording.add(chunk)
        return chunk

    async def close(self) -> None:
        if self._stream is not None:
            try:
                await self._stream.aclose()
                if not self.abandoned:
                    await self.store(whole=False)
            finally:
                self._drop_lease()

    async def store(self, *, whole: bool) -> None:
        """See `SyncBody.store`. Whoever is cancelled meanwhile does not cut it short."""
        if keep := self._take(whole=whole):
            self._storing = begin(partial(self._store, keep))
        if self._storing is not None:
            await finish(self._storing, mine=keep is not None)

    async def _store(self, keep: Callable[[], Any]) -> None:
        self.entry = (await keep()).entry


# -- the rest of a body that its reader leaves at the reason to stop -----------------------------


def stopped(body: bytes, content_type: str, results: int = 1) -> bool:
    """Whether a stream has told why it stopped, so that all that a reader sees has come.

    Args:
        body: the decoded bytes that have passed.
        content_type: of the response.
        results: how many choices were asked for, at least.
    """
    told = False
    reasons: dict[Any, bool] = {}
    try:
        for name, event in _whole_events(body, content_type.partition(";")[0].strip().lower()):
            if not isinstance(event, Mapping):
                continue
            if name == "error" or is_error(event):
                return False
            kind = event.get("type") or event.get("event_type") or name
            told = told or kind in _ENDS or bool(stop_reason(event))
            # Ollama's and llama.cpp's own last lines.
            told = told or event.get("done") is True or event.get("stop") is True
            for many, reason in (("choices", "finish_reason"), ("candidates", "finishReason")):
                for one in event.get(many) or ():
                    place = many, one.get("index", 0)
                    reasons[place] = reasons.get(place, False) or bool(one.get(reason))
    except (AttributeError, TypeError, ValueError, RecursionError):
        return False
    return told or (len(reasons) >= max(results, 1) and all(reasons.values()))


def _whole_events(body: bytes, kind: str) -> Iterator[tuple[str, Any]]:
    """The name and JSON of each event that has come whole."""
    if kind == FRAMES:
        yield from (("error" if event is None else "", event or {}) for event in read_frames(body))
    elif kind in LINES:
        whole = body[: body.rfind(b"\n") + 1]
        yield from (("", json.loads(line)) for line in whole.splitlines() if line.strip())
    else:
        whole = body[: max(body.rfind(blank) for blank in BLANK) + 1]
        for name, data in each_event(whole):
            if not data.startswith("[DONE]"):
                yield name, json.loads(data)


def is_interrupted() -> bool:
    """Whether the caller is on his way out of what was cancelled, stopped or finalised.

    He waits for nothing that has not come: a finaliser may run under any lock.
    """
    error = sys.exception()
    return error is not None and not isinstance(error, Exception)


def waker(response: Any) -> Callable[[], object]:
    """What ends a read of a response that waits in another thread, where that can be ended."""
    if (wake := getattr(response.stream, "wake", None)) is not None:
        return wake  # type: ignore[no-any-return]
    network = getattr(response, "extensions", {}).get("network_stream")
    # A connection of HTTP/2 is not the response's own.
    if network is None or not response.http_version.startswith("HTTP/1"):
        return bool
    return partial(_shut, network)


def _shut(network: Any) -> None:
    with suppress(Exception):
        network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class Rest:
    """The rest of a sync stream, which a thread of ours reads on.

    Args:
        pull: reads the next piece: how many bytes that are; None where there is nothing to read.
        leave: leaves the stream for good.
        give_up: ends a pull that waits.
    """

    def __init__(
        self,
        pull: Callable[[], int | None],
        leave: Callable[[], None],
        give_up: Callable[[], object],
    ) -> None:
        self._pull, self._leave, self._give_up = pull, leave, give_up
        self._end = clock.now() + SECONDS
        self._over = threading.Event()
        self._error: BaseException | None = None

    def begin(self) -> bool:
        """Have it read. False where there is no thread for it; then nobody has left the stream."""
        _under_way.add(self)
        if hands.offer(self._read_on):
            return True
        _under_way.discard(self)
        return False

    def finish(self) -> None:
        """Wait until it is read or given up; who is interrupted has a thread wait for it."""
        if not is_interrupted():
            self.wait()
            if self._error is not None:
                raise self._error
        elif not hands.offer(self.wait):
            self._end = 0.0

    def wait(self) -> None:
        """Wait until it is read, or give it up in time."""
        if not self.is_over():
            self._end = 0.0
            self._give_up()

    def is_over(self) -> bool:
        """Whether it is read, which is waited for as long as that may take."""
        return self._over.wait(max(self._end - clock.now(), 0.0))

    def _read_on(self) -> None:
        read = 0
        try:
            try:
                while read < BYTES and clock.now() < self._end:
                    size = self._pull()
                    if size is None:
                        break
                    read += size
            finally:
                self._leave()
        except BaseException as error:
            self._error = error
        finally:
            _under_way.discard(self)
            self._over.set()


_under_way: Final[set[Rest]] = set()


@atexit.register
def _finish() -> None:
    """An interpreter that ends waits for what is still read on, for as long as that is."""
    for rest in list(_under_way):
        rest.wait()


in_forked_child(_under_way.clear)
