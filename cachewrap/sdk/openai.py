"""The patch of the OpenAI SDK: every call is served by the active cache."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from cachewrap.cache import Cache
from cachewrap.http.exchange import Endpoint, When
from cachewrap.policy import Same
from cachewrap.sdk.patcher import Patch, Patcher, Sdk

_COMPLETIONS: Final = {"Completions": ("create", "parse", "stream")}
_RESPONSES: Final = {"Responses": ("create", "parse", "stream")}
_CREATE: Final = ("create",)

ENDPOINTS: Final = (
    Endpoint("chat/completions"),
    Endpoint("completions"),
    Endpoint("responses"),
    Endpoint("responses/input_tokens"),
    Endpoint("embeddings"),
    Endpoint("moderations"),
    Endpoint("images/generations"),
    Endpoint("images/edits"),
    Endpoint("images/variations"),
    Endpoint("audio/speech", media=True),
    Endpoint("audio/transcriptions", media=True),
    Endpoint("audio/translations", media=True),
)
_SOCKETS: Final = tuple(
    f"openai.resources.{name}"
    for name in (
        *("beta.realtime.realtime", "realtime.realtime", "realtime.translations.translations"),
        *("beta.responses.responses", "responses.responses"),
        *("live.live", "live.forks", "live.sideband"),
    )
)


def _path(client: Any, options: Any, body: Any) -> str:
    """Where a request goes: Azure's clients put the deployment, which is the model, in front."""
    url: str = options.url
    azure = sys.modules.get("openai.lib.azure")
    if azure is None or not isinstance(client, azure.BaseAzureClient):
        return url
    model = body.get("model") if isinstance(body, Mapping) else None
    if model is None or url not in azure._deployments_endpoints:
        return url
    if "/deployments" in client.base_url.path:
        return url
    return f"/deployments/{quote(str(model), safe='')}{url}"


OPENAI: Final = Patcher(
    Sdk(
        name="openai",
        client_module="openai._base_client",
        endpoints={endpoint.path: endpoint for endpoint in ENDPOINTS},
        methods={
            "openai.resources.chat.completions": _COMPLETIONS,
            "openai.resources.chat.completions.completions": _COMPLETIONS,
            "openai.resources.beta.chat.completions": {"Completions": ("parse", "stream")},
            "openai.resources.responses.responses": _RESPONSES,
            "openai.resources.beta.responses.responses": {"Responses": _CREATE},
            "openai.resources.responses.input_tokens": {"InputTokens": ("count",)},
            "openai.resources.beta.responses.input_tokens": {"InputTokens": ("count",)},
            "openai.resources.completions": {"Completions": _CREATE},
            "openai.resources.embeddings": {"Embeddings": _CREATE},
            "openai.resources.moderations": {"Moderations": _CREATE},
            "openai.resources.images": {"Images": ("generate", "edit", "create_variation")},
            "openai.resources.audio.speech": {"Speech": _CREATE},
            "openai.resources.audio.transcriptions": {"Transcriptions": _CREATE},
            "openai.resources.audio.translations": {"Translations": _CREATE},
        },
        path=_path,
        sockets=_SOCKETS,
        front=True,
        inner=True,
    )
)


def patch_openai(
    cache: Cache | None = None,
    *,
    when: When | None = None,
    split: bool = False,
    same: Same = None,
    threads: bool = True,
) -> Patch:
    """Make the OpenAI SDK cacheable: inside a cache's block its calls are served by that cache.

    It works before and after ``openai`` is imported, on clients that exist already, on the
    clients of Azure and of third parties, sync and async. ``create(..., cache=cache)`` gives one
    call a cache of its own, ``create(..., cache_seed=None)`` leaves one call uncached; ``mode=``,
    ``ttl=`` and ``sample=`` on one call hold for that call.

    While it is patched, the active block also reaches the threads that are started inside it, by
    `threading.Thread` or a `ThreadPoolExecutor`.

    Args:
        cache: serves the calls outside any block. Without it they are not cached.
        when: takes what a call returned and says whether to store it: `cachewrap.predicates` has
            some. Of a stream it is the list of its events, as dictionaries; of an open response
            the JSON in it, or its bytes. By default every whole answer is stored. Of several
            handles the newest that has one decides.
        split: whether requests for embeddings or moderations of several texts are served text by
            text, see `CacheOptions`, of every cache that does not say ``split=False`` itself. Of
            several handles one that says so is enough.
        same: rules of equality for these calls, see `CacheOptions`, behind the rules of whatever
            cache serves them. Of several handles the newest that has some decides.
        threads: False leaves threads alone, see `patch_threads`.

    Returns a handle with `undo`, which also works as a block. Patching again is harmless: the SDK
    is wrapped once, and unwrapped when the last handle is undone, or all of them by
    `unpatch_openai`.

    Raises `ConfigurationError` if the installed version of the SDK lacks what is to be wrapped
    (where ``openai`` is imported later, its import raises it).
    """
    return OPENAI.patch(cache, when, split=split, same=same, carry=threads)


def unpatch_openai() -> None:
    """Undo every `patch_openai`: the SDK is what it was. Without one it does nothing."""
    OPENAI.undo()
