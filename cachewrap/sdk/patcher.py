"""The patcher of an SDK: it puts the seam in and takes it out, before or after the import."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.http.capture import aprocess_response, process_response
from cachewrap.http.exchange import Endpoint, When
from cachewrap.http.patcher import Application, Applications, finish_imports, version_of
from cachewrap.options import Default
from cachewrap.policy import Same, check_flag, rules_of
from cachewrap.sdk.carried import carry_options
from cachewrap.sdk.front.door import Door
from cachewrap.sdk.front.inner import InnerDoor
from cachewrap.sdk.gate import GATE, LIBRARIES, Sessions, openings
from cachewrap.sdk.seam import Seam
from cachewrap.telemetry import hints
from cachewrap.urls import wrong_cache

if TYPE_CHECKING:
    from cachewrap.same.applied import Rules

# What the seam leans on beside the methods that it wraps.
_NEEDED: Final = (
    "_maybe_override_cast_to",
    "_prepare_url",
    "default_headers",
    "default_query",
    "qs",
)


_LAZY: Final = frozenset({"stream", "tool_runner"})
"""The methods that return before they send anything."""


@dataclass(frozen=True, slots=True)
class Sdk:
    """One SDK: what there is to know of it.

    Args:
        name: its top-level module.
        client_module: where ``SyncAPIClient`` and ``AsyncAPIClient`` are.
        endpoints: what may be cached, by path.
        methods: for each module of resources the classes (their async twins are called
            ``Async…``) and the methods that take ``cache=`` and ``cache_seed=``. The first method
            of a class is always there; the others as far as this version of the SDK has them. A
            module that this version does not have is never imported, and costs nothing.
        path: gives the path to which a request goes, of its client, options and JSON body, where a
            client changes it on its way out.
        prepare: gets a request's options ready, where the SDK does so only inside ``request``.
        refuse: says why a client's request of this JSON body is not cached, None where it may be.
        sockets: modules with what opens sessions over WebSockets.
        front: whether its ``create`` and ``parse`` methods get a front door.
        inner: whether its clients get an inner one, at their ``post``.
    """

    name: str
    client_module: str
    endpoints: Mapping[str, Endpoint]
    methods: Mapping[str, Mapping[str, tuple[str, ...]]]
    path: Callable[[Any, Any, Any], str] = lambda client, options, body: str(options.url)
    prepare: Callable[[Any], None] = lambda options: None
    refuse: Callable[[Any, Any], str | None] = lambda client, body: None
    sockets: tuple[str, ...] = ()
    front: bool = False
    inner: bool = False


class Patch(Application):
    """One application of the patch. The seam stays in place until the last one is undone.

    Use it as a block, or call `undo`.
    """

    def __init__(
        self,
        patcher: Patcher,
        cache: Cache | None,
        when: When | None = None,
        split: bool = False,
        same: Rules | None = None,
    ) -> None:
        super().__init__(patcher)
        self.cache = cache
        self.when = when
        self.split = split
        self.same = same


class Patcher(Applications[Patch]):
    """The seam of one SDK, put in with the first `Patch` and taken out with the last."""

    def __init__(self, sdk: Sdk) -> None:
        super().__init__()
        self._sdk = sdk
        self._default = Default()
        self._when: When | None = None
        seam = Seam(
            sdk.endpoints,
            sdk.path,
            self._default,
            self._active,
            lambda: self._when,
            prepare=sdk.prepare,
            refuse=sdk.refuse,
        )
        self._client_wrappers: dict[str, dict[str, Callable[..., Any]]] = {
            "SyncAPIClient": {"request": seam.request, "_process_response": process_response},
            "AsyncAPIClient": {"request": seam.arequest, "_process_response": aprocess_response},
        }
        self._carrying = carry_options(self._active, self._default)
        self._lazy = carry_options(self._active, lazy=True)
        self._sessions = Sessions(self._default)
        door = sdk.name, sdk.path, self._default, self._active, self._carrying
        plain = dict.fromkeys(("create", "generate", "count", "count_tokens"), Door(*door))
        self._doors = {**plain, "parse": Door(*door, parses=True)}
        if sdk.inner:
            inner = InnerDoor(sdk.name, sdk.path, self._default, self._active, sdk.refuse)
            self._client_wrappers["SyncAPIClient"]["post"] = inner.post
            self._client_wrappers["AsyncAPIClient"]["post"] = inner.apost

    @property
    def libraries(self) -> tuple[str, ...]:
        return (self._sdk.name,)

    def _active(self) -> bool:
        return bool(self.patches)

    def _decide(self) -> None:
        self._default.cache = self._newest("cache")
        self._when = self._newest("when")
        self._default.declare(split=bool(self._newest("split")), same=self._newest("same"))
        hints.seen.used = hints.seen.used or self._default.cache is not None
        hints.seen.patched(self._sdk.name, bool(self.patches))
        if self.patches:
            GATE.hold(self._sdk.name, self._default)
        else:
            GATE.release(self._sdk.name)

    def patch(
        self,
        cache: Cache | None,
        when: When | None = None,
        *,
        split: bool = False,
        same: Same = None,
        carry: bool = True,
    ) -> Patch:
        """Put the seam in, now or when the SDK is imported.

        Args:
            cache: serves calls outside any block; the newest application that has one decides.
            when: takes an answer and says whether to store it; the newest one decides.
            split: whether lists are told apart, where the cache does not say; one that says so is
                enough.
            same: rules of equality, behind those of the cache; the newest that has some decides.
            carry: whether active blocks reach worker threads while this application holds.

        Raises `ConfigurationError` where the SDK lacks what the seam needs.
        """
        if cache is not None and not isinstance(cache, Cache):
            raise ConfigurationError(wrong_cache(cache))
        if when is not None and not callable(when):
            raise ConfigurationError(f"when= takes a function, got {when!r}")
        check_flag("split", split)
        rules = rules_of(same)
        sdk = self._sdk
        names = dict.fromkeys((sdk.client_module, *sdk.methods, *sdk.sockets))
        finish_imports((*LIBRARIES, *names))
        with self._lock:
            patch = Patch(self, cache, when, split, rules)
            said: dict[Hashable, Any] = {
                "cache": cache,
                "when": when,
                "split": check_flag("split", split) or None,
                "same": rules,
            }
            self._add(patch, said, carries=carry)
            try:
                # Every time: since the last one the SDK may have been imported anew, or another
                # tool may have taken something out.
                for module in self._modules(names):
                    self._arrived(module)
            except BaseException:
                self.undo(patch)
                raise
            return patch

    def _arrived(self, module: ModuleType) -> None:
        name = module.__name__
        if name == self._sdk.client_module:
            for cls, wrappers in self._client_wrappers.items():
                owner = self._class(module, cls)
                for needed in (*_NEEDED, *wrappers):
                    if not hasattr(owner, needed):
                        raise self._missing(f"{name}.{cls}.{needed}")
                for method, wrapper in wrappers.items():
                    # Before a method of somebody else's no door may answer.
                    self._put(owner, method, wrapper, _pass if method == "post" else None)
        # In newer versions some of these are packages, whose modules are in the table as well.
        elif not hasattr(module, "__path__"):
            for cls, (first, *others) in self._sdk.methods.get(name, {}).items():
                for owner in (self._class(module, cls), self._class(module, f"Async{cls}")):
                    if first not in vars(owner):
                        raise self._missing(f"{name}.{owner.__name__}.{first}")
                    for method in (first, *(m for m in others if m in vars(owner))):
                        around = self._lazy if method in _LAZY else self._carrying
                        self._put(owner, method, self._wrapper(owner, method), around)
        if name in self._sdk.sockets:
            for owner, method in openings(module):
                self._put(owner, method, self._sessions.open)

    def _wrapper(self, owner: type, method: str) -> Callable[..., Any]:
        if method in _LAZY:
            return self._lazy
        door = self._doors.get(method) if self._sdk.front else None
        if door is None:
            return self._carrying
        return door.acreate if owner.__name__.startswith("Async") else door.create

    def _class(self, module: ModuleType, name: str) -> type:
        found = vars(module).get(name)
        if not isinstance(found, type):
            raise self._missing(f"{module.__name__}.{name}")
        return found

    def _missing(self, target: str) -> ConfigurationError:
        name = self._sdk.name
        return ConfigurationError(
            f"{name} {version_of(name)} has no {target}, which the cache needs to step in; "
            "this version of the SDK is not supported"
        )


def _pass(
    wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return wrapped(*args, **kwargs)
