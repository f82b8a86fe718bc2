"""Patchers: they put the cache into a library and take it out, before or after its import."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import wrapt

from cachewrap import threads
from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.http.exchange import When
from cachewrap.http.response import Wire
from cachewrap.http.routes import Routes, known
from cachewrap.http.serve import Caching
from cachewrap.telemetry import events


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

    def __exit__(self, *error: object) -> None:
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


Targets: TypeAlias = Iterable[tuple[str, str, Callable[..., Any]]]
"""The classes of a library's module, the method of each, and its wrapper.

A wrapper is one for `wrapt` that is given the patcher before the rest.
"""


class HttpPatch(Application):
    """One application of a patch of an HTTP library; use it as a block, or call `undo`."""

    def __init__(self, patcher: HttpPatcher, caching: Caching, *, carries: bool) -> None:
        super().__init__(patcher, carries=carries)
        self.caching = caching


class HttpPatcher(Applications[HttpPatch]):
    """The wrappers in one library or several alike, put in with the first application.

    Args:
        targets: what is wrapped, by the module that has it.
        needs: a name that a module has to have beside that.
    """

    def __init__(
        self, targets: Mapping[str, Targets], needs: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._targets = targets
        self._needs = needs or {}

    def patch(
        self,
        cache: Cache | None,
        when: When | None,
        hosts: Iterable[str] | None,
        paths: Iterable[str] | None,
        *,
        more_hosts: Iterable[str] = (),
        carry: bool,
        strict: bool = True,
    ) -> HttpPatch:
        """Put the wrappers in, now or when a library is imported. See `patch_httpx`.

        Where ``hosts`` is None, ``more_hosts`` are served beside those that are known.

        Raises `ConfigurationError` for a library that lacks what is to be wrapped; not ``strict``
        it warns.
        """
        routes = known(paths, more_hosts) if hosts is None else Routes(hosts, paths)
        patch = HttpPatch(self, Caching(routes, cache, when), carries=carry)
        with self._lock:
            first = not self.patches
            self._add(patch)
            if first:
                try:
                    for name in self._targets:
                        if module := sys.modules.get(name):
                            (self._apply if strict else self._arrived)(module)
                        else:
                            self._await(name)
                except BaseException:
                    self.undo(patch)
                    raise
        return patch

    def serving(self, wire: Wire) -> Caching | None:
        """The newest application that knows the request; what none of them knows is counted."""
        patches = self.patches
        for one in reversed(patches):
            if one.caching.knows(wire):
                return one.caching
        if patches:
            patches[-1].caching.leave(wire)
        return None

    def _arrived(self, module: ModuleType) -> None:
        # Its import is not to fail: most of what it is used for is none of the cache's.
        try:
            self._apply(module)
        except ConfigurationError as error:
            events.warn_once((ConfigurationError, module.__name__), str(error))

    def _apply(self, module: ModuleType) -> None:
        library = module.__name__.partition(".")[0]
        needed = self._needs.get(module.__name__)
        if needed is not None and not hasattr(module, needed):
            raise _missing(library, f"{module.__name__}.{needed}")
        for cls, name, wrapper in self._targets[module.__name__]:
            owner = getattr(module, cls)
            original = vars(owner).get(name)
            if original is None:
                raise _missing(library, f"{module.__name__}.{cls}.{name}")
            self._put(owner, name, original, partial(wrapper, self))


def stepping_in(wire: Callable[..., Wire], *, is_async: bool = False) -> Callable[..., Any]:
    """The wrapper of a method that sends a request, which is answered from the cache in its place.

    Args:
        wire: makes the request's `Wire` of the object and the arguments.
        is_async: whether the method is async.
    """

    def step_in(
        patcher: HttpPatcher,
        wrapped: Callable[..., Any],
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        asked = wire(owner, *args, **kwargs)
        caching = patcher.serving(asked)
        if caching is None:
            return wrapped(*args, **kwargs)
        handle = caching.ahandle if is_async else caching.handle
        return handle(asked, partial(wrapped, *args, **kwargs))

    return step_in


def _missing(library: str, target: str) -> ConfigurationError:
    return ConfigurationError(
        f"{library} {version_of(library)} has no {target}, which the cache needs to step in; its "
        "requests are not cached"
    )
