"""The blocks that are active in the current context, and inside an upstream call of its own."""

from __future__ import annotations

import heapq
import threading
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
)
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Self, TypeAlias

from cachewrap import systems

OFF: Final = object()
"""Stands in the stack of blocks for `no_cache`."""

_lock = threading.Lock()
systems.renew_in_child(globals(), _lock=threading.Lock)


class Numbering:
    """The count of the occurrences of each request: from one entering of a block to its end."""

    __slots__ = ("_free", "_next")

    def __init__(self) -> None:
        self._next: dict[Hashable, int] = {}
        self._free: dict[Hashable, list[int]] = {}

    def take(self, request: Hashable) -> int:
        """The number of this occurrence, from 0: the lowest one that is not taken."""
        with _lock:
            if free := self._free.get(request):
                return heapq.heappop(free)
            number = self._next.get(request, 0)
            self._next[request] = number + 1
            return number

    def give_back(self, request: Hashable, number: int) -> None:
        """Let the next occurrence have the number: the call that took it has failed."""
        with _lock:
            heapq.heappush(self._free.setdefault(request, []), number)


class Stack(tuple[object, ...]):
    """The active blocks, outermost first.

    Attributes:
        numberings: one for each block, of its entering.
        salt: the key of the sampled call that the current code runs inside of, or "".
        inside: counts in that call where there is no block; None outside any sampled call.
        before: the blocks that the context was in when it activated one, outside of these.
        run: the innermost run whose block the context is in, as `ledger.recorder` has it.
    """

    numberings: tuple[Numbering, ...] = ()
    salt: str = ""
    inside: Numbering | None = None
    before: Stack | None = None
    run: Any = None

    def _with(self, blocks: Iterable[object], numberings: Iterable[Numbering]) -> Self:
        other = type(self)(blocks)
        other.numberings = tuple(numberings)
        other.salt, other.inside, other.before = self.salt, self.inside, self.before
        other.run = self.run
        return other

    def entered(self, block: object) -> Self:
        """The stack inside a block that is entered now."""
        return self._with((*self, block), (*self.numberings, Numbering()))

    def running(self, run: Any) -> Self:
        """The stack in another run, or with None in none."""
        other = self._with(self, self.numberings)
        other.run = run
        return other

    def left(self, block: object) -> Self:
        """The stack without the innermost occurrence of a block, if there is one."""
        for at in range(len(self) - 1, -1, -1):
            if self[at] is block:
                numberings = self.numberings[:at] + self.numberings[at + 1 :]
                return self._with(self[:at] + self[at + 1 :], numberings)
        if self.before is None:
            return self
        other = self._with(self, self.numberings)
        other.before = self.before.left(block)
        return other

    def emptied(self) -> Stack:
        """The stack without any block, in the same sampled call; `filled` has them again."""
        if not self:
            return self
        other = self._with((), ())
        other.before = self.filled()
        return other

    def filled(self) -> Stack:
        """The stack with the blocks that `emptied` has left out, outside of these."""
        if (before := self.before) is None:
            return self
        other = self._with((*before, *self), (*before.numberings, *self.numberings))
        other.before = None
        return other

    def within(self, salt: str) -> Self:
        """The stack in the upstream call of a sample: what is asked there counts for itself."""
        inside = Numbering()
        other = self._with(self, (inside,) * len(self))
        other.salt, other.inside = salt, inside
        return other

    def inside_of(self, outermost: Self) -> Self:
        """This stack, if it is empty, with other blocks around."""
        if self or (self.inside is None and self.run is None):
            return self or outermost
        if self.inside is None:
            return self._with(outermost, outermost.numberings)
        return self._with(outermost, (self.inside,) * len(outermost))

    def numbering(self, block: object) -> Numbering | None:
        """The numbering of the innermost entering of a block; None if it was not entered."""
        for at in range(len(self) - 1, -1, -1):
            if self[at] is block:
                return self.numberings[at]
        return None


OUTSIDE: Final = Stack()
"""No block is active."""

# A tuple, never a token: the same cache is entered from many threads and left in other contexts.
blocks: ContextVar[Stack] = ContextVar("cachewrap", default=OUTSIDE)

program: Callable[[], Stack] | None = None
"""Gives the blocks that stand around everything in this process, see `serve_program`."""

made: Callable[[Any, str, Any], None] | None = None
"""Told of each cache that is made: the cache, its URL and its counts."""

_outermost: Callable[[], Stack] | None = None


def serve_program(outermost: Callable[[], Stack] | None) -> None:
    """Let blocks stand around the whole program: in every context of this process.

    Args:
        outermost: gives them whenever a context has no block of its own; None for none.
    """
    global program, _outermost
    program = _outermost = outermost


def activate(block: object) -> None:
    """Let a block stand around everything in this process, inside those of `serve_program`.

    It is entered now and never left: the calling context is inside it from now on, whatever blocks
    it was in, and every other context that has no block of its own. One that was activated before
    is no more.
    """
    global program
    stack = (OUTSIDE if _outermost is None else _outermost()).entered(block)
    program = lambda: stack  # noqa: E731
    blocks.set(blocks.get().emptied())


def deactivate() -> None:
    """Let nothing stand around this process any more but the blocks of `serve_program`.

    The calling context is inside the blocks again that it was in when it activated something, as
    far as it has not left them since.
    """
    global program
    program = _outermost
    blocks.set(blocks.get().filled())


def active() -> Stack:
    """The blocks of this context, the innermost last; outside any, those of the whole program."""
    stack = blocks.get()
    if stack or program is None:
        return stack
    return program() if stack is OUTSIDE else stack.inside_of(program())


def push(block: object) -> None:
    """Make the block the innermost one of this context."""
    blocks.set(blocks.get().entered(block))


def pop(block: object) -> None:
    """Leave the block: its innermost occurrence goes; a context without it stays as it is."""
    blocks.set(blocks.get().left(block))


@contextmanager
def no_cache() -> Iterator[None]:
    """A block in which nothing is cached, not even a call with a ``cache=`` of its own.

    A cache's block inside it is the innermost again, and caches.
    """
    push(OFF)
    try:
        yield
    finally:
        pop(OFF)


Enter: TypeAlias = Callable[[Stack], Stack]
"""Makes the blocks inside a call of those around it. Every attempt of a call enters anew."""


class Scope:
    """The blocks inside one attempt of a call, kept from one step of it to the next."""

    def __init__(self, enter: Enter) -> None:
        self._inside = enter(active())

    @contextmanager
    def step(self) -> Iterator[None]:
        """Run one step of the call inside; what it enters or leaves is there at its next step."""
        outside = blocks.get()
        blocks.set(self._inside)
        try:
            yield
        finally:
            self._inside = blocks.get()
            # Set back, not reset: a loop may close its tasks from another context.
            blocks.set(outside)


def scoped(enter: Enter, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call of a function."""

    def run() -> Any:
        with Scope(enter).step():
            return call()

    return run


def ascoped(enter: Enter, call: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """The call of a coroutine function."""

    async def run() -> Any:
        with Scope(enter).step():
            return await call()

    return run


def scoped_generator(
    enter: Enter, start: Callable[[], Generator[Any, Any, Any]]
) -> Callable[[], Generator[Any, Any, Any]]:
    """The call of a generator function: its consumer's own calls stay outside."""

    def run() -> Generator[Any, Any, Any]:
        scope = Scope(enter)
        generator, sent, error = start(), None, None
        while True:
            try:
                with scope.step():
                    item = generator.send(sent) if error is None else generator.throw(error)
            except StopIteration as stop:
                return stop.value
            sent, error = None, None
            try:
                sent = yield item
            except GeneratorExit:
                with scope.step():
                    generator.close()
                raise
            except BaseException as thrown:
                error = thrown

    return run


def scoped_async_generator(
    enter: Enter, start: Callable[[], AsyncGenerator[Any, Any]]
) -> Callable[[], AsyncGenerator[Any, Any]]:
    """The call of an async generator function."""

    async def run() -> AsyncGenerator[Any, Any]:
        scope = Scope(enter)
        generator, sent, error = start(), None, None
        while True:
            try:
                with scope.step():
                    item = await (
                        generator.asend(sent) if error is None else generator.athrow(error)
                    )
            except StopAsyncIteration:
                return
            sent, error = None, None
            try:
                sent = yield item
            except GeneratorExit:
                with scope.step():
                    await generator.aclose()
                raise
            except BaseException as thrown:
                error = thrown

    return run
