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
    from cachewrap.ledger.runs import Run


class RunBlock:
    """A block of a cache whose calls belong to a run, as `Cache.run` makes it.

    It may be entered again, also by several threads at once: what is asked is in the same run as
    long as one of its blocks goes on, and in another one of that name afterwards.

    Args:
        cache: serves the calls.
        name: the name of the run.
    """

    def __init__(self, cache: Any, name: str) -> None:
        self._cache = cache
        self._name = names.check_name(name)
        self._entered: list[tuple[Section, Section | None]] = []
        if not isinstance(cache.store, Logs):
            kind = type(cache.store).__name__
            raise ConfigurationError(f"{cache.url} keeps no runs: a {kind} has no `Logs`")

    def __repr__(self) -> str:
        return f"<run {self._name!r} of {self._cache.url}>"

    def _enter(self) -> Run:
        from cachewrap.ledger.runs import Run

        store: Any = self._cache.store
        outer: Section | None = blocks.blocks.get().run
        around, told = outer, self._cache.policy.ledger
        if around is None and told:
            named = recording.of_environment(store)
            around = None if named is None else Section(named)
        if around is not None and around.logs_url == store.logs_url:
            path = f"{around.path}/{self._name}" if around.path else self._name
            section = Section(around.recording, path)
            section.recording.users += 1
            section.recording.announced |= told
        else:
            url = self._cache.url
            section = Section(recording.entered(store, url, self._name, announced=told))
        self._entered.append((section, outer))
        blocks.blocks.set(blocks.blocks.get().running(section))
        return Run.of_block(self._cache, section)

    def _leave(self) -> Section:
        stack = blocks.blocks.get()
        at = next(
            (n for n in reversed(range(len(self._entered))) if self._entered[n][0] is stack.run), -1
        )
        section, outer = self._entered.pop(at)
        if stack.run is section:
            blocks.blocks.set(stack.running(outer))
        return section

    def __enter__(self) -> Run:
        self._cache.__enter__()
        return self._enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            recording.left(self._leave().recording)
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
            await in_thread(recording.left, self._leave().recording)
        finally:
            await self._cache.__aexit__(kind, error, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cache, self._name)
