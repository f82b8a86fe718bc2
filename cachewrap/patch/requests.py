"""`patch_requests`: SDKs and programs that speak requests are served by the active cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from cachewrap.cache import Cache
from cachewrap.patch.adapter import RequestsWire
from cachewrap.patch.exchange import When
from cachewrap.patch.patching import HttpPatch, HttpPatcher


def _send(
    wrapped: Callable[..., Any], adapter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    request = args[0] if args else kwargs["request"]
    stream = args[1] if len(args) > 1 else kwargs.get("stream", False)
    wire = RequestsWire(adapter, request, stream=bool(stream))
    return REQUESTS.serve(wire, lambda: wrapped(*args, **kwargs))


REQUESTS: Final = HttpPatcher({"requests.adapters": (("HTTPAdapter", "send", _send),)})


def patch_requests(
    cache: Cache | None = None,
    *,
    hosts: Iterable[str] | None = None,
    paths: Iterable[str] | None = None,
    when: When | None = None,
    threads: bool = True,
) -> HttpPatch:
    """Make cacheable what speaks requests, as `patch_httpx` does for httpx.

    Inside a cache's block the requests to these hosts and paths are served by that cache, streamed
    or not, of sessions that exist already as well, below the retries of urllib3. Only POST requests
    with a JSON body are cached, and of their answers those with status 200 that came whole and tell
    of no error. A hit sets no cookies: they are credentials, and not stored. What `patch_httpx`
    has stored of the same request serves here too.

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

    Raises `ConfigurationError` if the installed version lacks what is to be wrapped (where
    ``requests`` is imported later, its import raises it).
    """
    return REQUESTS.patch(cache, when, hosts, paths, carry=threads)


def unpatch_requests() -> None:
    """Undo every `patch_requests`. Without one it does nothing."""
    REQUESTS.undo()
