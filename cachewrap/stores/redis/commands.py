"""Commands: sent in batches, those of an event loop's tasks in one piece; their answers, read."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any, Final, TypeAlias

import redis

from cachewrap.stores.base import Claim, of_one_process
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

    __slots__ = ("batch", "begun", "task")

    def __init__(self) -> None:
        self.begun = False
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
            self._begins = True
            self._lines += 1
            Context().run(self._start, serve, loop)  # outside of every block: it serves others too

    def _start(self, serve: Serve, loop: asyncio.AbstractEventLoop) -> None:
        line = _Line()
        line.task = loop.create_task(self._run(line, serve))
        line.task.add_done_callback(partial(self._end, line, serve))

    def _end(self, line: _Line, serve: Serve, task: asyncio.Task[None]) -> None:
        """Whoever cancels all tasks cancels lines too, also before they have begun."""
        self._lines -= 1
        if not line.begun:
            self._begins = False
        self.put_back(serve, line.batch)

    async def _run(self, line: _Line, serve: Serve) -> None:
        batch = line.batch
        line.begun, self._begins = True, False
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
    # The server has hung up, or has sent what nobody has asked for.
    if stream is not None and (stream.at_eof() or stream.exception() or stream._buffer):
        await connection.disconnect(nowait=True)

    async def attempt() -> None:
        wanted = [one for one in batch if not one.future.done()]
        if len(wanted) < len(batch):  # who is cancelled may have given up what he asks for
            batch.clear()
            batch.extend(wanted)
        await connection.send_packed_command([b"".join([one.packed for one in wanted])])
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
    data, at, mine = b"", 0, budget.get()
    while batch:
        one = batch[0]
        answers: list[Any] = []
        while len(answers) < one.count:
            found = _read(data, at, error)
            if isinstance(found, int):
                if data:  # what comes at once may be seen late
                    mine.spend()
                data, at = data[at:] + await _more(connection, found), 0
                continue
            answer, at = found
            if isinstance(answer, redis.ConnectionError):  # it is loading, or lets nobody in
                raise answer
            answers.append(answer)
        batch.popleft()
        if not one.future.done():
            one.future.set_result(answers)
    if at < len(data):  # nobody has asked for the rest, and the next one would take it for his
        await connection.disconnect(nowait=True)
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
    """The next bytes from the server, of which each wait has its time-out."""
    stream, mine, chunks = connection._reader, budget.get(), []
    while True:
        left = getattr(stream, "_left", 0)
        try:
            async with asyncio.timeout(connection.socket_timeout):
                chunk = await stream.read(_READ)
        except TimeoutError:
            if getattr(stream, "_left", 0) < left:  # it came, to a loop that was kept busy
                continue
            raise redis.TimeoutError("Timeout reading from the server") from None
        except OSError as error:
            raise redis.ConnectionError(f"Error while reading from the server: {error}") from error
        if not chunk:
            raise redis.ConnectionError("Connection closed by server.")
        chunks.append(chunk)
        least -= len(chunk)
        mine.came(len(chunk))
        if least <= 0:
            return b"".join(chunks)
        mine.spend()


_LAST = 253402300800.0  # the year 10000

OVER = """
local present = redis.pcall('GET', KEYS[1])
if type(present) == 'table' then
  if not string.find(present.err, 'WRONGTYPE', 1, true) then return present end
  present = ''
end
if present and present ~= ARGV[2] then return present end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[3]) end
return ARGV[1]
"""

_OTHER = "WRONGTYPE"
"""What the server says where a key holds something else than text."""

_FAILED = "failed"
"""What stands in the place of a lease for 2 seconds after its owner's call failed."""

RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

RELEASE_FAILED = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'failed', 'PX', 2000)
return 1
"""


def quoted(name: str) -> str:
    """The name with nothing in it that divides a key or means something in a pattern."""
    return urllib.parse.quote(name, safe="", errors="surrogatepass")


def damaged(error: Exception) -> bytes:
    """What stands for a list, a hash or the like among the entries: no entry, to be replaced."""
    if _OTHER not in str(error):
        raise error
    return b""


def plain(answer: Any) -> Any:
    """An answer of several, whose errors are given back and not raised."""
    return damaged(answer) if isinstance(answer, Exception) else answer


def raised(answer: Any) -> Any:
    """The answer to a command for which what stands there is no matter."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def put(name: bytes, value: bytes, expires: float, *when: bytes) -> Command:
    until = pxat(expires)
    return ("SET", name, value, *(() if until is None else (b"PXAT", until)), *when)


def pxat(expires: float) -> int | None:
    """The time in whole milliseconds; None is never, as is what no server counts to."""
    if not expires or expires > _LAST:
        return None
    return max(1, int(expires * 1000)) if expires > 0 else 1  # and what is no number is over


def milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def claim_of(token: str, taken: object, present: object) -> Claim:
    """What SET NX and the GET behind it say; a SET that was sent twice finds its own token.

    What is no text is no lease. PEXPIRE LT gives an end to what has none, or one far off.
    Servers before version 7 refuse it, and such a lease is waited for as long as any is.
    """
    for answer in (taken, present):
        if isinstance(answer, Exception):
            if (
                answer is present
                and isinstance(answer, redis.ResponseError)
                and _OTHER in str(answer)
            ):
                return Claim.FAILED
            raise answer
    holder = present.decode(errors="replace") if isinstance(present, bytes) else ""
    if taken or holder == token:
        return Claim.TAKEN
    return Claim.FAILED if holder == _FAILED or of_one_process(holder, token) else Claim.HELD
