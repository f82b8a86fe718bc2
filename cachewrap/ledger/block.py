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

    A cache that keeps no ledger serves the calls, and nothing is kept of them.

    Args:
        cache: serves the calls.
        name: the name of the run.
    """

    def __init__(self, cache: Any, name: str) -> None:
        self._cache = cache
        self._name = names.check_name(name)
        self._entered: list[tuple[Section | None, Section | None]] = []
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
        if not self._cache.policy.ledger:
            self._entered.append((None, outer))
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
        self._entered.append((section, outer))
        blocks.blocks.set(blocks.blocks.get().running(section))
        return Run.of_block(self._cache, section, self._name)

    def _leave(self) -> None:
        """Leave the innermost block of this context, and write what is to be written."""
        if (section := self._left()) is not None:
            recording.left(section.recording)

    def _left(self) -> Section | None:
        stack = blocks.blocks.get()
        at = next(
            (n for n in reversed(range(len(self._entered))) if self._entered[n][0] is stack.run), -1
        )
        section, outer = self._entered.pop(at)
        if section is not None and stack.run is section:
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
            self._leave()
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
            if (section := self._left()) is not None:
                await in_thread(recording.left, section.recording)
        finally:
            await self._cache.__aexit__(kind, error, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cache, self._name)
