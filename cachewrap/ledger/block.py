"""`Cache.run`: a block whose calls belong to a run."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from cachewrap import blocks
from cachewrap.errors import ConfigurationError
from cachewrap.ledger import names, recording
from cachewrap.ledger.recorder import Section
from cachewrap.stores.base import Logs, in_thread

if TYPE_CHECKING:
    from cachewrap.ledger.recording import Recording
    from cachewrap.ledger.runs import Run


class RunBlock:
    """A block of a cache whose calls belong to a run, as `Cache.run` makes it.

    It may be entered again, also by several threads at once: what is asked is in the same run as
    long as one of its blocks goes on, and in another one of that name afterwards.

    A cache that keeps no ledger serves the calls, and nothing is kept of them.

    Args:
        cache: serves the calls.
        name: the name of the run.
    """

    def __init__(self, cache: Any, name: str) -> None:
        self._cache = cache
        self._name = names.check_name(name)
        self._keeps: bool = cache.policy.ledger
        self._entered: list[Section] = []
        if not isinstance(cache.store, Logs):
            kind = type(cache.store).__name__
            raise ConfigurationError(f"{cache.url} keeps no runs: a {kind} has no `Logs`")

    def __repr__(self) -> str:
        return f"<run {self._name!r} of {self._cache.url}>"

    def _enter(self) -> Run:
        from cachewrap.ledger.runs import Run

        store: Any = self._cache.store
        outer: Section | None = blocks.blocks.get().run
        around = outer
        if not self._keeps:
            return Run.of_block(self._cache, None, self._name)
        if around is None:
            named = recording.of_environment(store, self._cache.url)
            around = None if named is None else Section(named)
        if around is not None and around.logs_url == store.logs_url:
            path = f"{around.path}/{self._name}" if around.path else self._name
            section = Section(around.recording, path)
            recording.entered_inside(section.recording)
        else:
            section = Section(recording.entered(store, self._cache.url, self._name))
        section.outer = outer
        self._entered.append(section)
        blocks.blocks.set(blocks.blocks.get().running(section))
        return Run.of_block(self._cache, section, self._name)

    def _leave(self) -> Recording:
        stack = blocks.blocks.get()
        section: Any = stack.run
        try:
            self._entered.remove(section)  # in one step, as other threads leave it too
        except ValueError:  # it was entered in another context
            return self._entered.pop().recording
        blocks.blocks.set(stack.running(section.outer))
        left: Recording = section.recording
        return left

    def __enter__(self) -> Run:
        self._cache.__enter__()
        try:
            return self._enter()
        except BaseException as error:
            self._cache.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._keeps:
                recording.left(self._leave())()
        finally:
            self._cache.__exit__(kind, error, trace)

    async def __aenter__(self) -> Run:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._keeps:
                await in_thread(recording.left(self._leave()))
        finally:
            await self._cache.__aexit__(kind, error, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cache, self._name)
