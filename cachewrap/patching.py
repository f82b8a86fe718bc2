"""Applications of a patch: a handle for each, and what is wrapped while one of them holds."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Generic, Self, TypeVar

import wrapt

from cachewrap import threads


class Handle(ABC):
    """The handle of an applied patch; use it as a block, or call `undo`."""

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether this application still holds."""

    @abstractmethod
    def undo(self) -> None:
        """Undo this application; a second time does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


class Application(Handle):
    """One application of the patch of one library.

    Args:
        patcher: what it is an application of.
        carries: whether active blocks reach worker threads while it holds.
    """

    def __init__(self, patcher: Applications[Any], *, carries: bool) -> None:
        self._patcher = patcher
        self.carries = carries

    @property
    def active(self) -> bool:
        return self in self._patcher.patches

    def undo(self) -> None:
        self._patcher.undo(self)


A = TypeVar("A", bound=Application)


class Applications(ABC, Generic[A]):
    """The applications of one patch. Its wrappers are in place until the last one is undone."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._awaited: set[str] = set()
        self._wrapped: list[tuple[type, str, Any, Any, list[bool]]] = []
        self.patches: tuple[A, ...] = ()

    def undo(self, patch: A | None = None) -> None:
        """Undo one application, or all of them."""
        with self._lock:
            undone = [one for one in self.patches if patch is None or one is patch]
            self._hold(*(one for one in self.patches if one not in undone))
            for one in undone:
                if one.carries:
                    threads.release()
            if self.patches:
                return
            for owner, name, original, wrapped, enabled in reversed(self._wrapped):
                if vars(owner).get(name) is wrapped:
                    setattr(owner, name, original)
                else:
                    # What somebody else wrapped around ours stays, and ours in it does nothing,
                    # not even when the next application wraps the method again.
                    enabled.clear()
            self._wrapped.clear()

    def _add(self, patch: A) -> None:
        """One more application holds."""
        self._hold(*self.patches, patch)
        if patch.carries:
            threads.hold()

    def _hold(self, *patches: A) -> None:
        """From now on these are the applications that hold, the newest one last."""
        self.patches = patches

    def _await(self, name: str) -> None:
        """Wrap what a module will have, as soon as it is imported."""
        if name not in self._awaited:
            self._awaited.add(name)
            wrapt.register_post_import_hook(self._imported, name)

    def _imported(self, module: ModuleType) -> None:
        with self._lock:
            self._awaited.discard(module.__name__)
            if self.patches:
                self._arrived(module)

    @abstractmethod
    def _arrived(self, module: ModuleType) -> None:
        """A module is there in which something is to be wrapped."""

    def _put(self, owner: type, name: str, original: Any, wrapper: Any) -> None:
        """Wrap a method."""
        enabled = [True]  # until it is emptied
        wrapped = wrapt.FunctionWrapper(original, wrapper, partial(bool, enabled))
        setattr(owner, name, wrapped)
        self._wrapped.append((owner, name, original, wrapped, enabled))


def version_of(library: str) -> str:
    """The version of a library that is imported, as messages tell it."""
    return getattr(sys.modules.get(library), "__version__", None) or "of an unknown version"
