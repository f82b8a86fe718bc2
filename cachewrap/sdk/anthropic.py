"""The patch of the Anthropic SDK: every call is served by the active cache."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from cachewrap.cache import Cache
from cachewrap.http.exchange import Endpoint, When
from cachewrap.policy import Same
from cachewrap.sdk.patcher import Patch, Patcher, Sdk

_MESSAGES: Final = {"Messages": ("create", "stream", "parse", "count_tokens")}
_BETA: Final = {"Messages": ("create", "stream", "parse", "count_tokens", "tool_runner")}

_PLATFORMS: Final = {"bedrock": "BaseBedrockClient", "vertex": "BaseVertexClient"}
_ENDPOINTS: Final = (
    Endpoint("v1/messages"),
    Endpoint("v1/messages/count_tokens"),
    Endpoint("v1/complete"),
)


def _path(client: Any, options: Any, body: Any) -> str:
    """Where a request goes: the clients of Bedrock and Vertex put the model into the path."""
    url: str = options.url
    kind: Any = type(client)
    platform = _platform(kind)
    if not platform:
        return url
    what = url.partition("?")[0].rpartition("/")[2]
    stream = bool(body and body.get("stream"))
    model = str(body.get("model")) if body else ""
    if platform == "bedrock":
        call = "invoke-with-response-stream" if stream else "invoke"
        return f"/model/{quote(model, safe=':;')}/{call}"
    if platform == "vertex":
        if what == "count_tokens":
            model, call = "count-tokens", "rawPredict"
        else:
            call = "streamRawPredict" if stream else "rawPredict"
        # Without a project of its own a client learns it from its credentials, at its first call.
        place = f"/projects/{client.project_id or '-'}/locations/{client.region}"
        return f"{place}/publishers/anthropic/models/{quote(model, safe='@:;')}:{call}"
    return url


@lru_cache(maxsize=64)
def _platform(client: Any) -> str:
    """The platform whose kind of client it is; "" for Anthropic's own."""
    for name, base in _PLATFORMS.items():
        module = sys.modules.get(f"anthropic.lib.{name}._client")
        found = getattr(module, base, None)
        if found is not None and issubclass(client, found):
            return name
    return ""


def _prepare(options: Any) -> None:
    """Put plain data in place of iterators and files, which can be read once."""
    # Older versions have done so before.
    prepare = getattr(sys.modules["anthropic._utils"], "prepare_request_data", None)
    if prepare is not None and options.method.lower() != "get":
        options.json_data = prepare(options.json_data, location="body")
        options.extra_json = prepare(options.extra_json, location="body")


def _refuse(client: Any, body: Any) -> str | None:
    """A middleware may change requests and answers; what is in a container changes."""
    if getattr(client, "_middleware", ()):
        return "middleware"
    if not isinstance(body, Mapping):
        return None
    container = body.get("container")
    named = container.get("id") if isinstance(container, Mapping) else container
    return "container" if named else None


ANTHROPIC: Final = Patcher(
    Sdk(
        name="anthropic",
        client_module="anthropic._base_client",
        endpoints={endpoint.path: endpoint for endpoint in _ENDPOINTS},
        methods={
            "anthropic.resources.messages": _MESSAGES,
            "anthropic.resources.messages.messages": _MESSAGES,
            "anthropic.resources.beta.messages": _BETA,
            "anthropic.resources.beta.messages.messages": _BETA,
            "anthropic.resources.completions": {"Completions": ("create",)},
            "anthropic.lib.bedrock._beta_messages": _BETA,
            "anthropic.lib.vertex._beta_messages": _BETA,
        },
        path=_path,
        prepare=_prepare,
        refuse=_refuse,
        inner=True,
    )
)


def patch_anthropic(
    cache: Cache | None = None,
    *,
    when: When | None = None,
    same: Same = None,
    threads: bool = True,
) -> Patch:
    """Make the Anthropic SDK cacheable: inside a cache's block its calls are served by that cache.

    Messages (plain, streamed, parsed, the stream helper and the tool runner), beta messages and the
    counting of tokens are cached, on the clients of Bedrock and Vertex as well, sync and async,
    whether they are made before or after. It works before and after ``anthropic`` is imported.
    ``create(..., cache=cache)`` gives one call a cache of its own, ``create(..., cache_seed=None)``
    leaves one call uncached. Calls that go on with a container, and those of clients with a
    middleware, are not cached.

    While it is patched, the active block also reaches the threads that are started inside it.

    Args:
        cache: serves the calls outside any block. Without it they are not cached.
        when: takes what a call returned and says whether to store it, see `patch_openai`.
        same: rules of equality for these calls, see `patch_openai`.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block; see `patch_openai`.

    Raises `ConfigurationError` if the installed version of the SDK lacks what is to be wrapped
    (where ``anthropic`` is imported later, its import raises it).
    """
    return ANTHROPIC.patch(cache, when, same=same, carry=threads)


def unpatch_anthropic() -> None:
    """Undo every `patch_anthropic`: the SDK is what it was. Without one it does nothing."""
    ANTHROPIC.undo()
