"""A response's stream that is kept aside while its reader consumes it."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import wrapt


@dataclass(slots=True)
class Recording:
    """The raw chunks that passed, and how the stream came to its end.

    Args:
        started: when the call began, by `time.perf_counter`.
        chunks: what passed, still encoded.
        delays: seconds from the start of the call to each chunk.
        ended: whether the stream came to its own end.
    """

    started: float
    chunks: list[bytes] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    ended: bool = False

    def add(self, chunk: bytes) -> None:
        """Keep one chunk."""
        self.chunks.append(chunk)
        self.delays.append(time.perf_counter() - self.started)


if TYPE_CHECKING:
    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy


class Recorder(Proxy):
    """A stream in whose place a response reads, closes and asks as if nothing had been changed.

    It knows nothing of its response: a reference would make a cycle, and the collector would then
    close abandoned streams wherever it happens to run, also under the lock of the connection pool.

    Args:
        stream: the response's own stream.
        recording: where the chunks go.
        done: told once, after the stream was closed; of an async stream it returns an awaitable.
    """

    def __init__(
        self, stream: Any, recording: Recording, done: Callable[[Recording], Awaitable[None] | None]
    ) -> None:
        super().__init__(stream)
        self._self_recording = recording
        self._self_done: Callable[[Recording], Awaitable[None] | None] | None = done

    def __iter__(self) -> Iterator[bytes]:
        recording = self._self_recording
        for chunk in self.__wrapped__:
            recording.add(chunk)
            yield chunk
        recording.ended = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        recording = self._self_recording
        async for chunk in self.__wrapped__:
            recording.add(chunk)
            yield chunk
        recording.ended = True

    def close(self) -> None:
        """Close the stream, then hand over what was recorded."""
        self.__wrapped__.close()
        if done := self._self_take():
            done(self._self_recording)

    async def aclose(self) -> None:
        """`close` for async readers."""
        await self.__wrapped__.aclose()
        if done := self._self_take():
            awaitable = done(self._self_recording)
            assert awaitable is not None
            await awaitable

    def settle(self) -> Awaitable[None] | None:
        """Hand over what was recorded before the stream is closed: nothing will be missing."""
        done, self._self_done = self._self_done, None
        return done(self._self_recording) if done else None

    def _self_take(self) -> Callable[[Recording], Awaitable[None] | None] | None:
        done, self._self_done = self._self_done, None
        # A generator that is being finalised closes its stream wherever the collector happened to
        # run, which may be under any lock: an abandoned stream is dropped without another step.
        return None if isinstance(sys.exception(), GeneratorExit) else done
