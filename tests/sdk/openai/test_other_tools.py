"""Other tools that wrap the SDK's methods see every call, hit or miss, whichever came first."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
import wrapt
from openai._base_client import AsyncAPIClient, SyncAPIClient
from openai.resources.chat.completions import AsyncCompletions, Completions
from standin import Upstream

from cachewrap import Cache, patch_openai, unpatch_openai
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, INSTALLED, chat

pytestmark = pytest.mark.usefixtures("unpatched")

CALLS = 5
Wrap = Callable[[Any, list[str]], Any]


@pytest.fixture
def unpatched() -> Iterator[None]:
    """Each test patches for itself."""
    unpatch_openai()
    yield
    unpatch_openai()


# -- the ways in which tools wrap -----------------------------------------------------------------


def by_wrapt(method: Any, seen: list[str]) -> Any:
    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("call")
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(method, note)


def by_wraps(method: Any, seen: list[str]) -> Any:
    @functools.wraps(method)
    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append("call")
        return method(*args, **kwargs)

    return noting


def by_closure(method: Any, seen: list[str]) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append("call")
        return method(*args, **kwargs)

    return noting


WRAPS = [by_wrapt, by_wraps, by_closure]
METHODS = [
    "create",
    "request",
    "post",
    "_process_response",
    "_maybe_override_cast_to",
    "request of the class itself",
]


def place(colour: Colour, method: str) -> tuple[Any, str]:
    """The class that has a method, or is given it, and the method's name."""
    is_async = colour.name == "async"
    if method == "create":
        return (AsyncCompletions if is_async else Completions), "create"
    if method.endswith("itself"):
        return (openai.AsyncOpenAI if is_async else openai.OpenAI), "request"
    return (AsyncAPIClient if is_async else SyncAPIClient), method


@contextmanager
def wrapping(owner: Any, name: str, wrap: Wrap, seen: list[str]) -> Iterator[None]:
    """A tool that wraps a method, and takes its wrapper out as tools do."""
    own = vars(owner).get(name)
    setattr(owner, name, wrap(own or getattr(owner, name), seen))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


@contextmanager
def posts() -> Iterator[list[str]]:
    """The calls that go through the SDK's own ``post``, which the door spares."""
    seen: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == "post" and "_base_client" in code.co_filename:
            seen.append("post")

    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("order", ["tool first", "patch first", "after some calls"])
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("method", METHODS)
def test_a_tool_sees_every_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache, method: str, wrap: Wrap, order: str
) -> None:
    seen: list[str] = []
    owner, name = place(colour, method)
    if order != "tool first":
        patch_openai()
    if order == "after some calls":
        with cache:
            for _ in range(3):
                colour.ask(client, BY_NAME["chat"])
    with wrapping(owner, name, wrap, seen):
        patch_openai()
        with cache:
            # Resources keep the `post` that was there when they were made.
            client = client.with_options()
            asked = [colour.ask(client, BY_NAME["chat"]) for _ in range(CALLS)]
    assert (up.calls, len(seen)) == (1, CALLS)
    assert all(one["value"] == asked[0]["value"] for one in asked)


@pytest.mark.skipif(INSTALLED < (1, 109), reason="this version's models are left to the SDK")
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("method", METHODS[1:])
def test_when_it_has_gone_the_door_is_used_again(
    up: Upstream, cache: Cache, method: str, wrap: Wrap
) -> None:
    seen: list[str] = []
    client, colour = openai.OpenAI(api_key="k", base_url=up.base_url), Colour("sync")
    with wrapping(*place(colour, method), wrap, seen):
        patch_openai()
        with cache, posts() as long:
            for _ in range(3):
                client.chat.completions.create(**chat(1))
        assert len(long) == 3
    client = client.with_options()
    with cache:
        client.chat.completions.create(**chat(1))
        with posts() as long:
            client.chat.completions.create(**chat(1))
    assert (long, up.calls) == ([], 1)


@pytest.mark.parametrize("method", ["request", "post", "_process_response"])
def test_what_is_set_on_a_client_sees_every_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache, method: str
) -> None:
    patch_openai()
    seen: list[str] = []
    with cache:
        for _ in range(3):
            colour.ask(client, BY_NAME["chat"])
        setattr(client, method, by_closure(getattr(client, method), seen))
        if method == "post":
            client.chat.completions._post = client.post
        for _ in range(CALLS):
            colour.ask(client, BY_NAME["chat"])
    assert (up.calls, len(seen)) == (1, CALLS)


def test_what_is_set_on_a_resource_sees_every_call(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    patch_openai()
    seen: list[str] = []
    with cache:
        for _ in range(3):
            colour.ask(client, BY_NAME["chat"])
        client.chat.completions._post = by_closure(client.chat.completions._post, seen)
        for _ in range(CALLS):
            colour.ask(client, BY_NAME["chat"])
    assert (up.calls, len(seen)) == (1, CALLS)


@pytest.mark.parametrize("shape", ["chat-stream", "responses", "embeddings"])
@pytest.mark.parametrize("order", ["tool first", "patch first"])
def test_other_calls_are_seen_as_well(
    up: Upstream, client: Any, colour: Colour, cache: Cache, shape: str, order: str
) -> None:
    if shape not in BY_NAME:
        pytest.skip("this version has no such call")
    seen: list[str] = []
    if order == "patch first":
        patch_openai()
    with wrapping(*place(colour, "request"), by_wrapt, seen), cache:
        patch_openai()
        for _ in range(CALLS):
            colour.ask(client, BY_NAME[shape])
    assert (up.calls, len(seen)) == (1, CALLS)
