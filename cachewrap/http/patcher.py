"""Patchers: they put the cache into a library and take it out, before or after its import."""

from __future__ import annotations

import importlib
import itertools
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import wrapt

from cachewrap import threads
from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.hooks import Hook, Wrapper
from cachewrap.http.exchange import When
from cachewrap.http.response import Wire
from cachewrap.http.routes import Routes, known
from cachewrap.http.serve import Caching
from cachewrap.policy import Same
from cachewrap.telemetry import events


class Handle(ABC):
    """The handle of an applied patch; use it as a block, or call `undo`.

    Attributes:
        cache: serves the calls outside any block; None where they are not cached.
    """

    cache: Cache | None = None

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether this application still holds."""

    @property
    @abstractmethod
    def libraries(self) -> tuple[str, ...]:
        """The packages that it is for, imported or not."""

    @abstractmethod
    def undo(self) -> None:
        """Undo this application; a second time does nothing."""

    def __repr__(self) -> str:
        named = self.libraries
        if not self.active:
            return f"<patch of {', '.join(named)}: undone>"
        there = [name for name in named if name in sys.modules]
        later = [name for name in named if name not in sys.modules]
        parts = [f"{', '.join(there)}: cached in blocks" if there else ""]
        if there and self.cache is not None:
            parts[0] += f", outside of them in {self.cache.url}"
        parts.append(f"{', '.join(later)}: not imported yet" if later else "")
        return f"<patch of {'; '.join(filter(None, parts))}>"

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_line(repr(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


class Application(Handle):
    """One application of the patch of one library.

    Args:
        patcher: what it is an application of.
    """

    def __init__(self, patcher: Applications[Any]) -> None:
        self._patcher = patcher
        self._record: Record | None = None

    @property
    def active(self) -> bool:
        return self._record in self._patcher.patches

    @property
    def libraries(self) -> tuple[str, ...]:
        return self._patcher.libraries

    def undo(self) -> None:
        self._patcher.undo(self)


class Record:
    """A record of what an application says, kept as long as it holds.

    Args:
        says: what is to be done, by topic. On each the newest application decides.
    """

    __slots__ = ("handle", "number", "reigns", "says")

    def __init__(self, says: Mapping[Hashable, Any]) -> None:
        self.says = says
        self.number = next(_numbers)
        self.handle: weakref.ref[Application] | None = None
        self.reigns = 0  # the topics on which it is the newest that nobody can undo


_numbers: Final = itertools.count()

PATCHED: Final = "patched"
"""The topic of every application: that it holds."""
THREADS: Final = "threads"
"""The topic of those that let active blocks reach worker threads."""

A = TypeVar("A", bound=Application)


class Applications(ABC, Generic[A]):
    """The applications of one patch. Its hooks are in place until the last one is undone.

    An application whose handle is gone cannot be undone by itself any more. It is forgotten once
    newer ones of that kind say something on all of its topics, so that programs may patch at every
    request.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._awaited: set[str] = set()
        self._hooks: dict[tuple[type, str], Hook] = {}
        self._topics: dict[Hashable, dict[Record, None]] = {}
        self._dropped: deque[Record] = deque()  # filled while anything is going on
        self._permanent: dict[Hashable, Record] = {}
        self._in_threads = False
        self.patches: dict[Record, None] = {}

    def undo(self, patch: A | None = None) -> None:
        """Undo one application, or all of them."""
        with self._lock:
            for record in list(self.patches) if patch is None else [patch._record]:
                if record is not None and record in self.patches:
                    self._forget(record)
            self._settle()
            if not self.patches:
                for hook in self._hooks.values():
                    hook.take()
                # Of a module that was imported anew this would keep the older classes.
                self._hooks = {key: hook for key, hook in self._hooks.items() if _is_there(key[0])}

    def _add(self, patch: A, says: Mapping[Hashable, Any], *, carries: bool) -> None:
        """One more application holds, of which ``None`` says nothing."""
        said = {topic: what for topic, what in says.items() if what is not None}
        record = Record({**said, PATCHED: True, **({THREADS: True} if carries else {})})
        patch._record = record
        dropped = self._dropped.append
        record.handle = weakref.ref(patch, lambda _: dropped(record))
        self.patches[record] = None
        for topic in record.says:
            self._topics.setdefault(topic, {})[record] = None
        if carries and self._in_threads:  # another tool may have taken it out
            threads.hold()
            threads.release()
        self._settle()

    def _forget(self, record: Record) -> None:
        del self.patches[record]
        record.handle = None
        for topic in record.says:
            del self._topics[topic][record]
            if not self._topics[topic]:
                del self._topics[topic]
            if self._permanent.get(topic) is record:
                del self._permanent[topic]

    def _settle(self) -> None:
        """Make what holds now the state of things."""
        while self._dropped:
            record = self._dropped.popleft()
            if record in self.patches:
                self._stay(record)
        if self._in_threads is not (THREADS in self._topics):
            self._in_threads = not self._in_threads
            (threads.hold if self._in_threads else threads.release)()
        self._decide()

    def _stay(self, record: Record) -> None:
        """Nobody can undo it any more: it takes the place of older ones like that."""
        for topic in record.says:
            older = self._permanent.get(topic)
            if older is not None:
                if older.number > record.number:
                    continue
                older.reigns -= 1
            self._permanent[topic] = record
            record.reigns += 1
            if older is not None and not older.reigns:
                self._forget(older)
        if not record.reigns:
            self._forget(record)

    def _newest(self, topic: Hashable) -> Any:
        """What the newest application says that says something on it; None where none does."""
        said = self._topics.get(topic)
        return next(reversed(said)).says[topic] if said else None

    @property
    @abstractmethod
    def libraries(self) -> tuple[str, ...]:
        """The packages that it patches, imported or not."""

    @abstractmethod
    def _decide(self) -> None:
        """Other applications hold than before."""

    def _modules(self, names: Iterable[str]) -> Iterator[ModuleType]:
        """The modules that are imported; in the others it is wrapped as soon as they are."""
        for name in names:
            module = sys.modules.get(name)
            if module is not None:
                if name not in self._awaited or not _is_half(module):
                    yield module
            elif name not in self._awaited:
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

    def _put(self, owner: type, name: str, wrapper: Wrapper, around: Wrapper | None = None) -> None:
        """Wrap a method, unless its wrapper is in place. See `Hook`."""
        hook = self._hooks.get((owner, name))
        if hook is None:
            hook = Hook(owner, name, wrapper, around)
            function = hook.function()
            # Classes take methods of others.
            known = (one for one in self._hooks.values() if one.name == name and function)
            hook = next((one for one in known if one.function() is function), hook)
            self._hooks[owner, name] = hook
        hook.put()


def _is_half(module: ModuleType) -> bool:
    """Whether the import of a module is under way."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def finish_imports(names: Iterable[str]) -> None:
    """Wait until no other thread is in the midst of importing a module.

    No lock may be held that is wanted at the end of an import.
    """
    for name in names:
        module = sys.modules.get(name)
        if module is not None and _is_half(module):
            importlib.import_module(name)


def _is_there(owner: type) -> bool:
    return getattr(sys.modules.get(owner.__module__), owner.__name__, None) is owner


def version_of(library: str) -> str:
    """The version of a library that is imported, as messages tell it."""
    return getattr(sys.modules.get(library), "__version__", None) or "of an unknown version"


Targets: TypeAlias = Iterable[tuple[str, str, Callable[..., Any]]]
"""The classes of a library's module, the method of each, and its wrapper.

A wrapper is one for `wrapt` that is given the patcher before the rest.
"""


class HttpPatch(Application):
    """One application of a patch of an HTTP library; use it as a block, or call `undo`."""

    def __init__(self, patcher: HttpPatcher, caching: Caching, cache: Cache | None) -> None:
        super().__init__(patcher)
        self.caching = caching
        self.cache = cache


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
        self._serving: tuple[Caching, ...] = ()

    def patch(
        self,
        cache: Cache | None,
        when: When | None,
        hosts: Iterable[str] | None,
        paths: Iterable[str] | None,
        *,
        more_hosts: Iterable[str] = (),
        split: bool = False,
        same: Same = None,
        carry: bool,
        strict: bool = True,
    ) -> HttpPatch:
        """Put the wrappers in, now or when a library is imported. See `patch_httpx`.

        Where ``hosts`` is None, ``more_hosts`` are served beside those that are known.

        Raises `ConfigurationError` for a library that lacks what is to be wrapped; not ``strict``
        it warns.
        """
        routes = known(paths, more_hosts) if hosts is None else Routes(hosts, paths)
        patch = HttpPatch(self, Caching(routes, cache, when, split=split, same=same), cache)
        finish_imports(self._targets)
        with self._lock:
            self._add(patch, {routes: True, "caching": patch.caching}, carries=carry)
            try:
                # Every time: since the last one another tool may have taken something out.
                for module in self._modules(self._targets):
                    (self._apply if strict else self._arrived)(module)
            except BaseException:
                self.undo(patch)
                raise
        return patch

    @property
    def libraries(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(module.partition(".")[0] for module in self._targets))

    def serving(self, wire: Wire) -> Caching | None:
        """The newest application that knows the request; what none of them knows is counted."""
        serving = self._serving
        for caching in serving:
            if caching.knows(wire):
                return caching
        if serving:
            serving[0].leave(wire)
        return None

    def _decide(self) -> None:
        # Of those with the same routes the newest alone is ever asked.
        routes = [topic for topic in self._topics if isinstance(topic, Routes)]
        newest = [next(reversed(self._topics[topic])) for topic in routes]
        newest.sort(key=lambda record: -record.number)
        self._serving = tuple(record.says["caching"] for record in newest)

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
            if name not in vars(owner):
                raise _missing(library, f"{module.__name__}.{cls}.{name}")
            self._put(owner, name, partial(wrapper, self))


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

        def send(other: Any = None) -> Any:
            if other is None:
                return wrapped(*args, **kwargs)
            if args:
                return wrapped(other, *args[1:], **kwargs)
            return wrapped(**{**kwargs, "request": other})

        handle = caching.ahandle if is_async else caching.handle
        return handle(asked, send)

    return step_in


def _missing(library: str, target: str) -> ConfigurationError:
    return ConfigurationError(
        f"{library} {version_of(library)} has no {target}, which the cache needs to step in; its "
        "requests are not cached"
    )
