"""`patch_aiohttp`: SDKs and programs that speak aiohttp are served by the active cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

from cachewrap.cache import Cache
from cachewrap.patch.exchange import When
from cachewrap.patch.middleware import AiohttpWire
from cachewrap.patch.patching import HttpPatch, HttpPatcher


def _request(
    wrapped: Callable[..., Awaitable[Any]],
    session: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Awaitable[Any]:
    method = args[0] if args else kwargs["method"]
    if not AIOHTTP.patches or method.upper() != "POST":
        return wrapped(*args, **kwargs)
    given, decompressed = kwargs.get("middlewares"), kwargs.get("auto_decompress")
    if decompressed is None:
        decompressed = session.auto_decompress
    # The last one, next to the connection: whatever else is there sees hits and misses alike.
    ours = partial(_serve, decompressed)
    outer = session._middlewares if given is None else given
    return wrapped(*args, **{**kwargs, "middlewares": (*outer, ours)})


async def _serve(decompressed: bool, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    wire = AiohttpWire(request, decompressed=decompressed)
    return await AIOHTTP.aserve(wire, lambda: handler(request))


AIOHTTP: Final = HttpPatcher(
    {"aiohttp.client": (("ClientSession", "_request", _request),)},
    needs={"aiohttp.client": "build_client_middlewares"},
)


def patch_aiohttp(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    threads: bool = True,
) -> HttpPatch:
    """Make cacheable what speaks aiohttp (3.12 and later), as `patch_httpx` does for httpx.

    Inside a cache's block the requests to these hosts and paths are served by that cache, streamed
    or not, of sessions that exist already as well, below their other middlewares. Only POST
    requests with a JSON body are cached, and of their answers those with status 200 that came whole
    and tell of no error. A hit sets no cookies: they are credentials, and not stored. What
    `patch_httpx` has stored of the same request serves here too.

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

    Raises `ConfigurationError` if the installed version has no middlewares; where ``aiohttp`` is
    imported later, a `CacheWarning` says so.
    """
    return AIOHTTP.patch(cache, when, hosts, paths, carry=threads)


def unpatch_aiohttp() -> None:
    """Undo every `patch_aiohttp`. Without one it does nothing."""
    AIOHTTP.undo()
