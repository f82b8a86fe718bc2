"""`patch_httpx`: SDKs that speak plain httpx or httpx2 are served by the active cache."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from types import ModuleType, TracebackType
from typing import Any, Final, Self

import wrapt

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.patch import threads as carrying
from cachewrap.patch.routes import HOSTS, PATHS, Routes
from cachewrap.patch.transport import Caching

_LIBRARIES: Final = ("httpx", "httpx2")

_lock = threading.RLock()
_patches: tuple[HttpxPatch, ...] = ()
_awaited: set[str] = set()
_wrapped: list[tuple[type, str, Any, Any]] = []


class HttpxPatch:
    """One application of `patch_httpx`; use it as a block, or call `undo`."""

    def __init__(self, routes: Routes, cache: Cache | None, carries: bool) -> None:
        self.carries = carries
        self.caching = Caching(routes, lambda: cache)

    @property
    def active(self) -> bool:
        """Whether this application still holds."""
        return self in _patches

    def undo(self) -> None:
        """Undo this application; a second time does nothing."""
        _undo(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()


def patch_httpx(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    threads: bool = True,
) -> HttpxPatch:
    """Make the SDKs cacheable that speak plain httpx or httpx2: mistralai, google-genai, ollama, …

    Inside a cache's block the requests to these hosts and paths are served by that cache, sync and
    async, streamed or not, of clients that exist already as well. Only POST requests with a JSON
    body are cached, and of their answers those with status 200 that came whole and tell of no
    error. A request of an SDK that is patched by itself (`patch_openai` and its like) is left to
    that patch.

    Args:
        cache: serves the requests outside any block. Without it they go straight through.
        hosts: patterns (``"api.mistral.ai"``, ``"127.0.0.1:*"``); None are those of the known
            providers.
        paths: patterns of whole paths (``"*/chat/completions"``); None are those of the known
            providers.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block. It may be applied several times; the
    newest application that knows a request serves it.
    """
    global _patches
    if cache is not None and not isinstance(cache, Cache):
        raise ConfigurationError(
            f"cache= takes a cachewrap Cache or None, got {type(cache).__name__}"
        )
    routes = Routes(HOSTS if hosts is None else hosts, PATHS if paths is None else paths)
    patch = HttpxPatch(routes, cache, threads)
    with _lock:
        first = not _patches
        _patches = (*_patches, patch)
        if threads:
            carrying.hold()
        if first:
            for name in _LIBRARIES:
                if module := sys.modules.get(name):
                    _apply(module)
                elif name not in _awaited:
                    _awaited.add(name)
                    wrapt.register_post_import_hook(_imported, name)
    return patch


def unpatch_httpx() -> None:
    """Undo every `patch_httpx`. Without one it does nothing."""
    _undo(None)


def _undo(patch: HttpxPatch | None) -> None:
    global _patches
    with _lock:
        undone = [one for one in _patches if patch is None or one is patch]
        _patches = tuple(one for one in _patches if one not in undone)
        for one in undone:
            if one.carries:
                carrying.release()
        if _patches:
            return
        for owner, name, original, wrapped in _wrapped:
            # What somebody else wrapped around ours stays, and ours in it does nothing.
            if vars(owner).get(name) is wrapped:
                setattr(owner, name, original)
        _wrapped.clear()


def _imported(module: ModuleType) -> None:
    with _lock:
        _awaited.discard(module.__name__)
        if _patches:
            _apply(module)


def _apply(module: ModuleType) -> None:
    for owner, name, wrapper in (
        (module.HTTPTransport, "handle_request", _handle),
        (module.AsyncHTTPTransport, "handle_async_request", _ahandle),
    ):
        original = vars(owner)[name]
        wrapped = wrapt.FunctionWrapper(original, wrapper)
        setattr(owner, name, wrapped)
        _wrapped.append((owner, name, original, wrapped))


def _request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["request"]


def _handle(
    wrapped: Callable[..., Any], transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    patch = _serving(_request(args, kwargs))
    if patch is None:
        return wrapped(*args, **kwargs)
    return patch.caching.handle(_request(args, kwargs), lambda: wrapped(*args, **kwargs))


def _ahandle(
    wrapped: Callable[..., Awaitable[Any]],
    transport: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Awaitable[Any]:
    patch = _serving(_request(args, kwargs))
    if patch is None:
        return wrapped(*args, **kwargs)
    return patch.caching.ahandle(_request(args, kwargs), lambda: wrapped(*args, **kwargs))


def _serving(request: Any) -> HttpxPatch | None:
    """The newest application that knows the request."""
    return next((patch for patch in reversed(_patches) if patch.caching.knows(request)), None)
