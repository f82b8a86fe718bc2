"""Other tools that wrap what SDKs of OpenAI's family have: they see each call, we are reached."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import wrapt
from standin import Upstream

import cachewrap
from cachewrap import Cache
from sdk.openai.asking import Colour

CLIENTS = {
    "anthropic": ("Anthropic", "AsyncAnthropic"),
    "groq": ("Groq", "AsyncGroq"),
    "together": ("Together", "AsyncTogether"),
}
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Question 1"}]}

packages = pytest.mark.parametrize("package", CLIENTS)
orders = pytest.mark.parametrize("order", ["tool first", "patch first"])


def saved(colour: Colour, package: str, up: Upstream) -> Any:
    """The bound method of a client that asks its model."""
    module = pytest.importorskip(package)
    cls = getattr(module, CLIENTS[package][colour.name == "async"])
    client = cls(api_key="k", base_url=up.root_url, max_retries=0)
    colour._clients.append(client)
    if package != "anthropic":
        return client.chat.completions.create
    return lambda **more: client.messages.create(max_tokens=5, **more)


def noting(calls: list[Any]) -> Any:
    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        calls.append(instance)
        return wrapped(*args, **kwargs)

    return note


@packages
@orders
@pytest.mark.parametrize("place", ["base class", "class of the client"])
def test_a_tool_sees_every_call(
    up: Upstream,
    colour: Colour,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    order: str,
    place: str,
) -> None:
    create, calls = saved(colour, package, up), []
    is_async = colour.name == "async"
    base = importlib.import_module(f"{package}._base_client")
    owner = base.AsyncAPIClient if is_async else base.SyncAPIClient
    if place == "class of the client":
        owner = getattr(importlib.import_module(package), CLIENTS[package][is_async])
    if order == "patch first":
        cachewrap.patch(package)
    monkeypatch.setattr(owner, "request", wrapt.FunctionWrapper(owner.request, noting(calls)))
    cachewrap.patch(package)
    with cache:
        for _ in range(5):
            colour.wait(create(**ASK))
    assert (up.calls, len(calls), cache.stats.hits) == (1, 5, 4)


@packages
def test_a_method_that_was_saved_before_takes_the_keywords(
    up: Upstream, colour: Colour, cache: Cache, package: str
) -> None:
    create = saved(colour, package, up)
    cachewrap.patch(package)
    for more in ({"cache_seed": 7}, {"cache_seed": 7}, {"cache_seed": 8}, {"mode": "refresh"}):
        colour.wait(create(**ASK, cache=cache, **more))
    assert up.calls == 3
    assert not [name for sent in up.requests for name in sent.headers if "cachewrap" in name]
