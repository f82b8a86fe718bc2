"""Operations on several keys of a server: their commands are sent in one piece, and so answered."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from cachewrap.errors import StoreError
from cachewrap.loops import running_trio
from cachewrap.stores.base import Many, Operation, in_thread
from cachewrap.stores.redis.budget import LARGE, TooLargeError
from cachewrap.stores.redis.commands import Command
from cachewrap.stores.redis.connections import Connections

M = TypeVar("M", bound=Callable[..., Any])
T = TypeVar("T")

Steps: TypeAlias = Generator[Sequence[Command], list[Any], T]
"""An operation: it gives commands that are sent together, and is sent their answers."""

_MOST: Final = 100
"""Operations that are sent together, at most."""

_WRITES: Final = {"add": 1, "set": 1, "add_and_release": 2}
"""Where an operation that writes has its value among its arguments."""


def in_asyncio(method: M) -> M:
    """An async operation of redis-py, which knows asyncio alone; elsewhere the sync one's."""
    sync = method.__name__.removeprefix("a")

    @functools.wraps(method)
    async def either(store: Any, *args: Any, **options: Any) -> Any:
        if running_trio() is not None:
            return await in_thread(getattr(store, sync), *args, **options)
        return await method(store, *args, **options)

    return cast(M, either)


class RedisMany(Many):
    """The segment `Many` of a store on a server; on a cluster tasks do one operation each."""

    _connections: Connections

    def _steps(self, name: str) -> Callable[..., Steps[Any]]:
        """What makes the steps of an operation, from its arguments."""
        raise NotImplementedError

    def _do(self, steps: Steps[T], size: int = 0) -> T:
        raise NotImplementedError

    async def _ado(self, steps: Steps[T], size: int = 0) -> T:
        raise NotImplementedError

    def do_many(self, operations: Sequence[Operation]) -> list[Any]:
        done: list[Any] = []
        for batch, size in self._batches(operations):
            found = self._together(batch, size)
            if found is None:  # which nobody could know before
                for one in batch:
                    done += self._together([one], _size(one)) or ()
            else:
                done += found
        return done

    def _together(self, batch: list[Operation], size: int) -> list[Any] | None:
        """What the operations give; None where that is too large for one answer."""
        try:
            return self._do(self._merged(batch), size)
        except StoreError as error:
            return _failed(batch, error)

    @in_asyncio
    async def ado_many(self, operations: Sequence[Operation]) -> list[Any]:
        done: list[Any] = []
        batches = list(self._batches(operations))
        if self._connections.server.is_spread:
            for found in await asyncio.gather(*[self._atogether(*one) for one in batches]):
                done += found or ()
            return done
        for batch, size in batches:
            found = await self._atogether(batch, size)
            if found is None:
                for one in batch:
                    done += await self._atogether([one], _size(one)) or ()
            else:
                done += found
        return done

    async def _atogether(self, batch: list[Operation], size: int) -> list[Any] | None:
        try:
            return await self._ado(self._merged(batch), size)
        except StoreError as error:
            return _failed(batch, error)

    def _batches(self, operations: Sequence[Operation]) -> Iterator[tuple[list[Operation], int]]:
        """Operations that are sent together, and how large a value that is written is."""
        most = 1 if self._connections.server.is_spread else _MOST
        batch: list[Operation] = []
        total = 0
        for one in operations:
            size = _size(one)
            if batch and (len(batch) >= most or total + size >= LARGE):
                yield batch, 0
                batch, total = [], 0
            batch.append(one)
            total += size
            if total >= LARGE:  # it is alone
                yield batch, total
                batch, total = [], 0
        if batch:
            yield batch, 0

    def _merged(self, operations: Sequence[Operation]) -> Steps[list[Any]]:
        """The steps of several operations as those of one."""
        done: list[Any] = [None] * len(operations)
        going: list[tuple[int, Steps[Any], list[Any] | None]] = [
            (at, self._steps(name)(*args, **options), None)
            for at, (name, args, options) in enumerate(operations)
        ]
        while going:
            sent: list[tuple[int, Steps[Any], int]] = []
            commands: list[Command] = []
            for at, steps, answers in going:
                try:
                    more = next(steps) if answers is None else steps.send(answers)
                except StopIteration as stop:
                    done[at] = stop.value
                except Exception as error:
                    done[at] = self._connections.error(error)
                    done[at].__cause__ = error.with_traceback(None)
                else:
                    sent.append((at, steps, len(more)))
                    commands += more
            going = []
            if sent:
                answers, begin = (yield commands), 0
                for at, steps, count in sent:
                    going.append((at, steps, answers[begin : begin + count]))
                    begin += count
        return done


def _failed(batch: list[Operation], error: StoreError) -> list[Any] | None:
    if len(batch) > 1 and isinstance(error.__cause__, TooLargeError):
        return None
    # Each has an error of its own, without the frames that hold what holds it.
    cause = error.__cause__
    ahead = [cause]
    while ahead:
        if (one := ahead.pop()) is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            ahead += (one.__cause__, one.__context__)
    copies = [StoreError(*error.args) for _ in batch]
    for copy in copies:
        copy.__cause__ = cause
    return list(copies)


def _size(operation: Operation) -> int:
    name, args, _ = operation
    return len(args[_WRITES[name]]) if name in _WRITES else 0
