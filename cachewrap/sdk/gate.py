"""The gate: the last place before the wire, by which requests and sessions of patched SDKs come.

What a seam has decided on passes. A client that sends by a way of its own never came to the seam;
here it still leaves no header of ours behind it, and in mode replay it does not leave at all. The
sessions that SDKs hold over WebSockets are never stored: they are counted, or refused as well.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import wrapt

from cachewrap import blocks
from cachewrap.hooks import Hook
from cachewrap.http.capture import decided
from cachewrap.http.routes import reaches_model
from cachewrap.options import NONE, Default, choose_cache
from cachewrap.sdk.carried import OPTIONS_HEADER, Expectation, expected, named

_stack_here: Final = blocks.blocks.get

_LIBRARIES: Final = ("httpx", "httpx2")
_CLIENTS: Final = ("Client", "AsyncClient")
_VERSION: Final = "x-stainless-package-version"


class Gate:
    """The hooks on what sends the requests of httpx, in place while any SDK is patched."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._hooks: dict[type, Hook] = {}
        self._awaited: set[str] = set()
        self._sdks: dict[str, Default] = {}
        self._replays = False  # whether the default of any of them is in mode replay

    def hold(self, sdk: str, default: Default) -> None:
        """An SDK is patched; ``default`` gives the cache of its calls outside any block, now."""
        with self._lock:
            self._sdks = {**self._sdks, sdk: default}
            self._decide()
            for name in _LIBRARIES:
                if module := sys.modules.get(name):
                    self._arrived(module)
                elif name not in self._awaited:
                    self._awaited.add(name)
                    wrapt.register_post_import_hook(self._arrived, name)

    def release(self, sdk: str) -> None:
        """An SDK is patched no more."""
        with self._lock:
            self._sdks = {name: default for name, default in self._sdks.items() if name != sdk}
            self._decide()
            if not self._sdks:
                for hook in self._hooks.values():
                    hook.take()
                self._hooks.clear()

    def _decide(self) -> None:
        caches = [default.cache for default in self._sdks.values()]
        self._replays = any(cache and cache.policy.mode == "replay" for cache in caches)

    def _arrived(self, module: ModuleType) -> None:
        with self._lock:
            self._awaited.discard(module.__name__)
            for name in _CLIENTS if self._sdks else ():
                cls = getattr(module, name)
                if cls not in self._hooks:
                    self._hooks[cls] = Hook(cls, "send", self._send)
                self._hooks[cls].put()

    def _send(
        self,
        wrapped: Callable[..., Any],
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        # In one piece: every request comes by here.
        request = args[0] if args else kwargs["request"]
        stack = _stack_here() if blocks.program is None else blocks.active()
        policy = getattr(stack[-1], "policy", None) if stack else None
        replays = self._replays if not stack else policy is not None and policy.mode == "replay"
        awaited = expected.get()
        if replays or awaited is not None or OPTIONS_HEADER in request.headers:
            self._look(request, awaited)
        return wrapped(*args, **kwargs)

    def _look(self, request: Any, awaited: Expectation | None) -> None:
        """Take our header off a request, and let none go in mode replay that nobody decided on."""
        headers = request.headers
        own = NONE
        if OPTIONS_HEADER in headers:
            own = named(headers[OPTIONS_HEADER]) or NONE
            del headers[OPTIONS_HEADER]
        default = self._default(headers.get(_VERSION))
        if decided():
            return
        if default is not None:
            cache = choose_cache(own.cache, own.cache_seed, default, own.mode, counted=False)
        elif awaited is not None and not awaited.arrived and _is_below(request, awaited.client):
            cache = awaited.cache
        else:
            return
        if cache is None or cache.policy.mode != "replay":
            return
        path = request.url.path
        below = path.rpartition("/v1/")[2]  # also of a gateway
        asks = reaches_model(request.method, below)
        cache.bypass(f"{request.method} {path}", "own request", asks_model=asks)

    def _default(self, version: str | None) -> Default | None:
        """The default of the patched SDK of this version, by which its requests are known."""
        if version is not None:
            for name, default in self._sdks.items():
                if getattr(sys.modules.get(name), "__version__", None) == version:
                    return default
        return None


def _is_below(request: Any, client: Any) -> bool:
    """Whether a request goes where those of a client go, whatever headers it has."""
    base = str(getattr(client, "base_url", None) or "")
    return bool(base) and str(request.url).startswith(base)


GATE: Final = Gate()


# -- sessions over WebSockets --------------------------------------------------------------------

_MANAGER: Final = "ConnectionManager"
_OPENING: Final = ("connect", "__enter__", "__aenter__")


def openings(module: ModuleType) -> Iterator[tuple[type, str]]:
    """The classes of a module that open sessions, and of each the method that does."""
    for name, cls in vars(module).items():
        if name.endswith(_MANAGER) and isinstance(cls, type) and cls.__module__ == module.__name__:
            yield cls, next(method for method in _OPENING if method in vars(cls))


class Sessions:
    """The wrappers of what opens a session.

    Args:
        default: gives the cache of sessions that are opened outside any block.
    """

    def __init__(self, default: Default) -> None:
        self._default = default

    def open(
        self,
        wrapped: Callable[..., Any],
        manager: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Count the session as a bypass. Raises `ReplayMissError` in mode replay."""
        cache = choose_cache(default=self._default)
        if cache is not None:
            kind = type(manager).__name__.removesuffix(_MANAGER).removeprefix("Async")
            cache.bypass(f"WebSocket {kind}", "websocket")
        return wrapped(*args, **kwargs)
