"""`patch_httpx`: SDKs that speak plain httpx or httpx2 are served by the active cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from cachewrap.cache import Cache
from cachewrap.patch.exchange import When
from cachewrap.patch.patching import HttpPatch, HttpPatcher
from cachewrap.patch.transport import HttpxWire


def _handle(
    wrapped: Callable[..., Any], transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    wire = HttpxWire(args[0] if args else kwargs["request"])
    return HTTPX.serve(wire, lambda: wrapped(*args, **kwargs))


def _ahandle(
    wrapped: Callable[..., Awaitable[Any]],
    transport: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Awaitable[Any]:
    wire = HttpxWire(args[0] if args else kwargs["request"])
    return HTTPX.aserve(wire, lambda: wrapped(*args, **kwargs))


_TARGETS: Final = (
    ("HTTPTransport", "handle_request", _handle),
    ("AsyncHTTPTransport", "handle_async_request", _ahandle),
)
HTTPX: Final = HttpPatcher({"httpx": _TARGETS, "httpx2": _TARGETS})


def patch_httpx(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    threads: bool = True,
) -> HttpPatch:
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
        when: takes an answer and says whether to store it: `cachewrap.predicates` has some. It is
            given the JSON of a plain answer, or its bytes; of a stream the list of its events.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block. It may be applied several times; the
    newest application that knows a request serves it.
    """
    return HTTPX.patch(cache, when, hosts, paths, carry=threads)


def unpatch_httpx() -> None:
    """Undo every `patch_httpx`. Without one it does nothing."""
    HTTPX.undo()
