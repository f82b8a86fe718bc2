"""``cache=`` and ``cache_seed=`` on one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import wrapt
from openai import AsyncOpenAI, OpenAI
from standin import Upstream

from cachewrap.cache import Cache
from cachewrap.errors import ConfigurationError
from cachewrap.sdk.carried import CarriedOptions, carry_options, take_carried
from cachewrap.sdk.openai import patch_openai, unpatch_openai

MESSAGES: Any = [{"role": "user", "content": "hello"}]
CHAT: dict[str, Any] = {"model": "m", "messages": MESSAGES}
SPEECH: dict[str, Any] = {"model": "m", "voice": "alloy", "input": "x"}
PICTURE: dict[str, Any] = {"image": ("a.png", b"1", "image/png")}
SOUND: dict[str, Any] = {"model": "m", "file": ("a.wav", b"1")}


def helper(path: str) -> Callable[..., None]:
    def ask(client: Any, **more: Any) -> None:
        with method(client, path)(**CHAT, **more) as events:
            for _ in events:
                pass

    return ask


def open_response(client: Any, **more: Any) -> None:
    with client.chat.completions.with_streaming_response.create(**CHAT, **more) as response:
        response.read()


def method(client: Any, path: str) -> Any:
    for name in path.split("."):
        client = getattr(client, name)
    return client


def call(path: str, **given: Any) -> Callable[..., Any]:
    return lambda client, **more: method(client, path)(**given, **more)


ASKS: dict[str, Callable[..., Any]] = {
    "chat": call("chat.completions.create", **CHAT),
    "stream": lambda c, **more: list(c.chat.completions.create(**CHAT, stream=True, **more)),
    "raw": call("chat.completions.with_raw_response.create", **CHAT),
    "open": open_response,
    "client raw": call("with_raw_response.chat.completions.create", **CHAT),
    "with_options": lambda c, **more: c.with_options(timeout=9).embeddings.create(
        model="m", input="x", **more
    ),
    "copy": lambda c, **more: c.copy().completions.create(model="m", prompt="x", **more),
    "completions": call("completions.create", model="m", prompt="x"),
    "embeddings": call("embeddings.create", model="m", input="x"),
    "moderations": call("moderations.create", input="x"),
    "images": call("images.generate", prompt="x"),
    "image edit": call("images.edit", prompt="x", **PICTURE),
    "speech": call("audio.speech.create", **SPEECH),
    "transcription": call("audio.transcriptions.create", **SOUND),
    "translation": call("audio.translations.create", **SOUND),
    "with headers": call("chat.completions.create", **CHAT, extra_headers={"X-A": "1"}),
}
if hasattr(openai.resources.chat.completions.Completions, "parse"):
    ASKS["parse"] = call("chat.completions.parse", **CHAT)
    ASKS["helper"] = helper("chat.completions.stream")
else:
    ASKS["parse"] = call("beta.chat.completions.parse", **CHAT)
    ASKS["helper"] = helper("beta.chat.completions.stream")
if hasattr(OpenAI, "responses"):
    ASKS["responses"] = call("responses.create", model="m", input="x")


@pytest.fixture
def own() -> Cache:
    return Cache.memory()


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_calls_own_cache(
    up: Upstream, client: OpenAI, cache: Cache, own: Cache, ask: Callable[..., Any]
) -> None:
    with cache:
        for _ in range(2):
            ask(client, cache=own)
    assert (up.calls, own.stats.hits, cache.stats.misses) == (1, 1, 0)
    assert not [name for name in up.last.headers if "cachewrap" in name]


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_call_with_the_seed_none_is_not_cached(
    up: Upstream, client: OpenAI, cache: Cache, ask: Callable[..., Any]
) -> None:
    with cache:
        for _ in range(2):
            ask(client, cache_seed=None)
    assert (up.calls, cache.stats.hits, cache.stats.misses) == (2, 0, 0)
    assert not [name for name in up.last.headers if "cachewrap" in name]


def test_a_call_with_its_own_seed(up: Upstream, client: OpenAI, cache: Cache) -> None:
    ask = ASKS["chat"]
    with cache:
        seeds = [41, 7, "7", 8, None, 7]
        answers = [ask(client, cache_seed=seed).id for seed in seeds]
        assert ask(client).id == answers[0]
    assert answers[1] == answers[2] == answers[5]
    assert len(set(answers)) == 4


def test_a_seed_outside_any_block_is_not_sent(up: Upstream, client: OpenAI) -> None:
    ASKS["chat"](client, cache_seed=7)
    assert "cache_seed" not in up.last.json()
    assert not [name for name in up.last.headers if "cachewrap" in name]


def test_an_async_call(up: Upstream, own: Cache) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(api_key="k", base_url=up.base_url) as client:
            create: Any = client.chat.completions.create
            raw: Any = client.chat.completions.with_raw_response.create
            opened: Any = client.chat.completions.with_streaming_response.create
            await create(**CHAT, cache=own)
            await raw(**CHAT, cache=own)
            async with opened(**CHAT, cache=own) as response:
                await response.read()
            async for _ in await create(**CHAT, stream=True, cache=own):
                pass

    asyncio.run(ask())
    asyncio.run(ask())
    assert up.calls == 2


@pytest.fixture
def module(up: Upstream) -> Iterator[Any]:
    openai.api_key, openai.base_url = "k", f"{up.base_url}/"
    yield openai
    openai.api_key = openai.base_url = None
    openai._reset_client()


def test_the_module_level_client(up: Upstream, module: Any, own: Cache) -> None:
    ask = ASKS["chat"]
    assert ask(module, cache=own).id == ask(module, cache=own).id


def test_the_callers_headers_are_left_alone(client: OpenAI, own: Cache) -> None:
    headers = {"X-A": "1"}
    ASKS["chat"](client, cache=own, extra_headers=headers)
    assert headers == {"X-A": "1"}


def test_a_lazy_helper_keeps_its_choice_after_the_block(
    up: Upstream, client: OpenAI, cache: Cache, own: Cache
) -> None:
    make = client.chat.completions if hasattr(client.chat.completions, "stream") else None
    if make is None:
        make = client.beta.chat.completions
    stream: Any = make.stream
    for _ in range(2):
        with cache:
            manager = stream(**CHAT, cache=own)
        with manager as events:
            list(events)
    assert (up.calls, own.stats.hits) == (1, 1)


def test_what_is_no_cache_is_an_error(client: OpenAI) -> None:
    with pytest.raises(ConfigurationError, match="got dict"):
        ASKS["chat"](client, cache={})


def test_a_seed_that_cannot_be_is_an_error(client: OpenAI, cache: Cache) -> None:
    with cache, pytest.raises(ConfigurationError, match="seed"):
        ASKS["chat"](client, cache_seed=1.5)


def test_an_unpatched_method_refuses_the_keywords(client: OpenAI, own: Cache) -> None:
    unpatch_openai()
    with pytest.raises(TypeError, match="cache"):
        ASKS["chat"](client, cache=own)


def test_a_raw_method_kept_from_before_unpatching_sends_no_choice(
    up: Upstream, client: OpenAI, own: Cache
) -> None:
    kept: Any = client.chat.completions.with_raw_response.create
    unpatch_openai()
    with pytest.raises(TypeError, match="cache"):
        kept(**CHAT, cache=own)
    assert up.calls == 0


def test_a_raw_method_kept_from_before_patching_is_cached_by_blocks(
    up: Upstream, client: OpenAI, cache: Cache
) -> None:
    unpatch_openai()
    kept: Any = client.chat.completions.with_raw_response.create
    patch_openai()
    with cache:
        assert kept(**CHAT).parse().id == kept(**CHAT).parse().id


class Manager:
    """A lazy result: it sends its request, whose headers kept only their text, when it is read."""

    def __init__(self, **kwargs: Any) -> None:
        self.headers = {name: str(value) for name, value in kwargs["extra_headers"].items()}

    def read(self) -> CarriedOptions | None:
        return take_carried(SimpleNamespace(headers=self.headers))


def test_a_choice_is_found_by_its_text_while_its_lazy_result_lives(cache: Cache) -> None:
    manager = wrapt.FunctionWrapper(Manager, carry_options(lambda: True, lazy=True))(cache=cache)
    choice = manager.read()
    assert choice is not None
    assert choice.cache is cache
    late = Manager(extra_headers=manager.headers)
    del manager, choice
    assert late.read() is None


def test_a_choice_is_forgotten_with_a_call_that_fails_or_gives_plain_text(cache: Cache) -> None:
    seen: list[dict[str, str]] = []

    def call(fails: bool, **kwargs: Any) -> str:
        seen.append({name: str(value) for name, value in kwargs["extra_headers"].items()})
        if fails:
            raise ZeroDivisionError
        return "text"

    wrapped = wrapt.FunctionWrapper(call, carry_options(lambda: True))
    assert wrapped(False, cache=cache) == "text"
    with pytest.raises(ZeroDivisionError):
        wrapped(True, cache=cache)
    assert [take_carried(SimpleNamespace(headers=headers)) for headers in seen] == [None, None]
