"""Putting the cache into an HTTP library and taking it out again, before or after its import."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType, TracebackType
from typing import Any, Self, TypeAlias

import wrapt

from cachewrap import faults
from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.patch import threads as carrying
from cachewrap.patch.caching import Caching
from cachewrap.patch.exchange import When
from cachewrap.patch.routes import HOSTS, PATHS, Routes
from cachewrap.patch.wire import Wire

Targets: TypeAlias = Iterable[tuple[str, str, Callable[..., Any]]]
"""The classes of a library's module, the method of each, and its wrapper for `wrapt`."""


class HttpPatch:
    """One application of a patch of an HTTP library; use it as a block, or call `undo`."""

    def __init__(self, patcher: HttpPatcher, caching: Caching, carries: bool) -> None:
        self._patcher = patcher
        self.caching = caching
        self.carries = carries

    @property
    def active(self) -> bool:
        """Whether this application still holds."""
        return self in self._patcher.patches

    def undo(self) -> None:
        """Undo this application; a second time does nothing."""
        self._patcher.undo(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


class HttpPatcher:
    """The wrappers in one library or several alike, put in with the first application.

    Args:
        targets: what is wrapped, by the module that has it.
        needs: a name that a module has to have beside that.
    """

    def __init__(
        self, targets: Mapping[str, Targets], needs: Mapping[str, str] | None = None
    ) -> None:
        self._targets = targets
        self._needs = needs or {}
        self._lock = threading.RLock()
        self._awaited: set[str] = set()
        self._wrapped: list[tuple[type, str, Any, Any]] = []
        self.patches: tuple[HttpPatch, ...] = ()

    def patch(
        self,
        cache: Cache | None,
        when: When | None,
        hosts: Iterable[str] | None,
        paths: Iterable[str] | None,
        *,
        carry: bool,
        strict: bool = True,
    ) -> HttpPatch:
        """Put the wrappers in, now or when a library is imported. See `patch_httpx`.

        Raises `ConfigurationError` for a library that lacks what is to be wrapped; not ``strict``
        it warns.
        """
        routes = Routes(HOSTS if hosts is None else hosts, PATHS if paths is None else paths)
        patch = HttpPatch(self, Caching(routes, cache, when), carry)
        with self._lock:
            first = not self.patches
            self.patches = (*self.patches, patch)
            if carry:
                carrying.hold()
            if first:
                try:
                    for name in self._targets:
                        if module := sys.modules.get(name):
                            (self._apply if strict else self._try)(module)
                        elif name not in self._awaited:
                            self._awaited.add(name)
                            wrapt.register_post_import_hook(self._imported, name)
                except BaseException:
                    self.undo(patch)
                    raise
        return patch

    def undo(self, patch: HttpPatch | None = None) -> None:
        """Undo one application, or all of them."""
        with self._lock:
            undone = [one for one in self.patches if patch is None or one is patch]
            self.patches = tuple(one for one in self.patches if one not in undone)
            for one in undone:
                if one.carries:
                    carrying.release()
            if self.patches:
                return
            for owner, name, original, wrapped in self._wrapped:
                # What somebody else wrapped around ours stays, and ours in it does nothing.
                if vars(owner).get(name) is wrapped:
                    setattr(owner, name, original)
            self._wrapped.clear()

    def serving(self, wire: Wire) -> Caching | None:
        """The newest application that knows the request."""
        return next(
            (one.caching for one in reversed(self.patches) if one.caching.knows(wire)), None
        )

    def _imported(self, module: ModuleType) -> None:
        with self._lock:
            self._awaited.discard(module.__name__)
            if self.patches:
                # Its import is not to fail: most of what it is used for is none of the cache's.
                self._try(module)

    def _try(self, module: ModuleType) -> None:
        try:
            self._apply(module)
        except ConfigurationError as error:
            faults.warn_once((ConfigurationError, module.__name__), str(error))

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
            wrapped = wrapt.FunctionWrapper(original, wrapper)
            setattr(owner, name, wrapped)
            self._wrapped.append((owner, name, original, wrapped))


def _missing(library: str, target: str) -> ConfigurationError:
    version = getattr(sys.modules.get(library), "__version__", None) or "of an unknown version"
    return ConfigurationError(
        f"{library} {version} has no {target}, which the cache needs to step in; its requests are "
        "not cached"
    )
