"""A caller's place in a shared stream, whatever that is a stream of."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from cachewrap.call.terms import Absent, Exchange, Reply
from cachewrap.entry import Entry
from cachewrap.errors import CachewrapError

R = TypeVar("R")


class StreamCache(Protocol):
    """What a stream needs of a cache."""

    @property
    def shared_place(self) -> str | None:
        """Where callers of one request at one time share its stream; None if they do not."""

    def look(self, exchange: Exchange[R]) -> Reply[R] | Absent: ...

    async def alook(self, exchange: Exchange[R]) -> Reply[R] | Absent: ...

    def keep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]: ...

    async def akeep(
        self, exchange: Exchange[R], result: R, seconds: float, absent: Absent
    ) -> Reply[R]: ...

    def count_joined(self, entry: Entry | None) -> None: ...

    def survive(self, error: CachewrapError, source: str) -> None: ...


class StreamReader:
    """One caller of a shared stream, for either colour.

    Args:
        cache: the cache that serves the call.
        stream: a `SharedStream` or an `AsyncSharedStream`; None for a caller who goes alone.

    Attributes:
        source: the upstream end of what it reads.
    """

    def __init__(self, cache: StreamCache, stream: Any) -> None:
        self.source: Any = None if stream is None else stream.source
        self._cache = cache
        self._stream: Any = stream
        self._joined = False
        self._passed = 0
        self._left = False

    def drop(self) -> None:
        """Leave without closing anything, where nothing can be waited for any more."""
        if not self._left:
            self._left = True
            self._stream.drop()

    def _count(self) -> None:
        if self._joined:
            self._cache.count_joined(self.source.entry)
