"""Batches: what the tasks of an event loop ask, sent in one piece and answered one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from typing import Any, Final, TypeAlias

import redis

from cachewrap.stores.redis.budget import LARGE, TooLargeError, budget

Command: TypeAlias = tuple[bytes | str | int, ...]
"""A command, and what it is told."""

_MOST: Final = 100
"""Operations of one batch, at most."""

_LINES: Final = 4
"""Batches that are under way at one time, unless they take long."""

_LONG: Final = 0.05
"""Seconds after which those who wait for a batch of others have one more."""

_READ: Final = 2**16
_PLUS, _MINUS, _COLON, _DOLLAR = b"+-:$"


def pack(commands: Iterable[Command]) -> bytes:
    """Commands as they go over the wire."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            text = word if type(word) is bytes else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


class Operation:
    """The commands of one task, and the future of their answers."""

    __slots__ = ("alone", "count", "future", "line", "packed")

    def __init__(self, packed: bytes, count: int, future: asyncio.Future[list[Any]]) -> None:
        self.packed = packed
        self.count = count
        self.future = future
        self.alone = False
        self.line: _Line | None = None


Serve: TypeAlias = Callable[[deque[Operation]], Awaitable[None]]
"""Answers the operations of a batch, and takes out of it what has an answer."""


class _Line:
    """A task that sends one batch after another, and the operations that it has under way."""

    __slots__ = ("batch", "task")

    def __init__(self) -> None:
        self.batch: deque[Operation] = deque()
        self.task: asyncio.Task[None] | None = None


class Batches:
    """The operations of an event loop: those that wait, and those under way.

    What tasks ask in one turn of their loop goes over one connection in one piece. An answer goes
    to whoever asked; what befalls the connection, to all who still wait for theirs. Who is
    cancelled disturbs nobody, and the last one to wait for a batch ends it.

    Args:
        limit: how many batches may be under way at one time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Operation] = deque()
        self._lines = 0
        self._begins = False
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, serve: Serve, packed: bytes, count: int) -> list[Any]:
        """The answers to so many commands; an error that the server answers is one of them.

        Raises what befell the connection.
        """
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        mine = Operation(packed, count, future)
        self._waiting.append(mine)
        if not self._begins:
            self._begin(serve)
        try:
            return await future
        except asyncio.CancelledError:
            line = mine.line
            if line is not None and line.task and all(one.future.done() for one in line.batch):
                line.task.cancel()
                await asyncio.wait((line.task,))
            raise

    def put_back(self, serve: Serve, batch: deque[Operation], keep: int = 0) -> None:
        """Let the operations of a batch wait again, but for the first ones."""
        while len(batch) > keep:
            one = batch.pop()
            one.line = None
            self._waiting.appendleft(one)
        if self._waiting and not self._begins:
            self._begin(serve)

    def _begin(self, serve: Serve) -> None:
        """Begin a line, or when the others take too long."""
        loop = asyncio.get_running_loop()
        if self._lines < _LINES:
            self._hurry(serve, loop)
        elif self._timer is None and self._lines < self._limit:
            self._timer = loop.call_later(_LONG, self._hurry, serve, loop)

    def _hurry(self, serve: Serve, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiting and not self._begins:
            line = _Line()
            self._begins = True
            self._lines += 1
            # Outside of every block: it serves others too.
            line.task = Context().run(loop.create_task, self._run(line, serve))

    async def _run(self, line: _Line, serve: Serve) -> None:
        batch = line.batch
        self._begins = False
        try:
            while self._take(line, serve):
                try:
                    await serve(batch)
                except TooLargeError as error:
                    if len(batch) == 1:
                        _fail(batch, error)
                    for one in batch:  # each by itself, as one alone is to blame
                        one.alone = True
                    self.put_back(serve, batch)
                except Exception as error:
                    _fail(batch, error)
        finally:
            self._lines -= 1
            self.put_back(serve, batch)

    def _take(self, line: _Line, serve: Serve) -> bool:
        waiting, batch, size = self._waiting, line.batch, 0
        while waiting and len(batch) < _MOST:
            one = waiting[0]
            size += len(one.packed)
            if batch and (one.alone or batch[0].alone or size >= LARGE):
                break
            waiting.popleft()
            if not one.future.done():
                one.line = line
                batch.append(one)
        if waiting and not self._begins:
            self._begin(serve)
        return bool(batch)


def _fail(batch: deque[Operation], error: Exception) -> None:
    while batch:
        future = batch.popleft().future
        if not future.done():
            future.set_exception(error)


async def exchange(connection: Any, batch: deque[Operation]) -> None:
    """Send the operations of a batch over a connection, and give each its answers."""
    stream = connection._reader
    if stream is not None and (stream.at_eof() or stream.exception()):  # the server has hung up
        await connection.disconnect(nowait=True)

    async def attempt() -> None:
        await connection.send_packed_command([b"".join([one.packed for one in batch])])
        await _answer(connection, batch)

    try:
        await connection.retry.call_with_retry(
            attempt, lambda error: connection.disconnect(nowait=True)
        )
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _answer(connection: Any, batch: deque[Operation]) -> None:
    error = connection._parser.parse_error
    data, at = b"", 0
    while batch:
        one = batch[0]
        answers: list[Any] = []
        while len(answers) < one.count:
            found = _read(data, at, error)
            if isinstance(found, int):
                data, at = data[at:] + await _more(connection, found), 0
                continue
            answer, at = found
            if isinstance(answer, redis.ConnectionError):  # it is loading, or lets nobody in
                raise answer
            answers.append(answer)
        batch.popleft()
        if not one.future.done():
            one.future.set_result(answers)
    if connection.health_check_interval:
        now = asyncio.get_running_loop().time()
        connection.next_health_check = now + connection.health_check_interval


def _read(data: bytes, at: int, error: Callable[[str], Exception]) -> tuple[Any, int] | int:
    """The answer that begins there and where it ends; else how many bytes are missing at least."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return 1
    kind, line, start = data[at], data[at + 1 : end], end + 2
    if kind == _MINUS:
        return error(line.decode(errors="replace")), start
    if kind == _PLUS:
        return line, start
    if kind not in (_COLON, _DOLLAR):
        raise redis.InvalidResponse(f"Protocol Error: {data[at:end]!r}")
    try:
        number = int(line)
    except ValueError:
        raise redis.InvalidResponse(f"Protocol Error: {data[at:end]!r}") from None
    if kind == _COLON:
        return number, start
    if number < 0:
        return None, start
    missing = start + number + 2 - len(data)
    return missing if missing > 0 else (data[start : start + number], start + number + 2)


async def _more(connection: Any, least: int) -> bytes:
    """The next bytes from the server. Each wait has its time-out, all together have the budget."""
    stream, spend, chunks = connection._reader, budget.get().spend, []
    while least > 0:
        try:
            async with asyncio.timeout(connection.socket_timeout):
                chunk = await stream.read(_READ)
        except TimeoutError:
            raise redis.TimeoutError("Timeout reading from the server") from None
        except OSError as error:
            raise redis.ConnectionError(f"Error while reading from the server: {error}") from error
        if not chunk:
            raise redis.ConnectionError("Connection closed by server.")
        spend(len(chunk))
        chunks.append(chunk)
        least -= len(chunk)
    return b"".join(chunks)
