"""AutoGen 0.2 and AG2 below 1.0: our `Cache` passed as their `cache=`, and patched underneath."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

autogen = pytest.importorskip("autogen", reason="runs in `holding` and `earlier`")

from pydantic import BaseModel
from standin import Upstream

from cachewrap import Cache, CacheWarning, patch_openai

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AutoGen's own cache writes into the working directory."""
    monkeypatch.chdir(tmp_path)


def llm(upstream: Upstream, **options: Any) -> dict[str, Any]:
    one = {
        "model": "gpt-4o-mini",
        "api_key": "sk-test",
        "base_url": upstream.base_url,
        "price": [0.001, 0.002],
    }
    return {"config_list": [one], **options}


def wrapper(upstream: Upstream) -> Any:
    return autogen.OpenAIWrapper(config_list=llm(upstream)["config_list"])


def text(response: Any) -> str:
    content: str = response.choices[0].message.content
    return content


def agents(upstream: Upstream, *names: str, **options: Any) -> list[Any]:
    config = llm(upstream, **options)
    return [
        autogen.AssistantAgent(
            name, system_message="", llm_config=config, max_consecutive_auto_reply=2
        )
        for name in names
    ]


# -- one client ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True], ids=["passed alone", "inside its own block"])
def test_our_cache_as_its_cache_argument(upstream: Upstream, tmp_path: Path, block: bool) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)

    def ask() -> Any:
        return wrapper(upstream).create(messages=MESSAGES, cache=cache)

    if block:
        with cache:
            first, second = ask(), ask()
    else:
        first, second = ask(), ask()
    assert upstream.calls == 1
    assert text(first) == text(second)
    assert second.cost == first.cost > 0
    assert type(second) is type(first)
    assert cache.stats.errors == 0


def test_a_warm_cache_answers_what_a_cold_one_did(upstream: Upstream, tmp_path: Path) -> None:
    """Theirs: `test_cache` of their client."""

    def ask(seed: int) -> str:
        with Cache.disk(cache_seed=seed, cache_path_root=tmp_path / "ours") as cache:
            return text(wrapper(upstream).create(messages=MESSAGES, cache=cache))

    cold = ask(101)
    assert ask(101) == cold
    assert upstream.calls == 1
    assert ask(21) != cold
    assert {path.name for path in (tmp_path / "ours").iterdir() if path.is_dir()} == {"101", "21"}
    assert not (tmp_path / ".cache").exists()  # the cache of their own was left alone


def test_a_passed_cache_stands_above_cache_seed(upstream: Upstream, tmp_path: Path) -> None:
    """Theirs: the end of `test_cache`."""
    with Cache.disk(cache_seed=13, cache_path_root=tmp_path / "ours") as cache:
        for _ in range(2):
            wrapper(upstream).create(messages=MESSAGES, cache=cache, cache_seed=41)
    assert upstream.calls == 1
    assert not (tmp_path / ".cache").exists()


def test_tool_calls_come_back(upstream: Upstream) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
        },
    }
    cache = Cache.memory()

    def ask() -> Any:
        asked = [{"role": "user", "content": "please look"}]
        response = wrapper(upstream).create(messages=asked, tools=[tool], cache=cache)
        return response.choices[0].message.tool_calls

    first, second = ask(), ask()
    assert upstream.calls == 1
    assert second == first
    assert first[0].function.name == "look"


def test_usage_summaries_count_a_hit_as_cached(upstream: Upstream, tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path / "ours")
    cold = wrapper(upstream)
    cold.create(messages=MESSAGES, cache=cache)
    client = wrapper(upstream)
    client.create(messages=MESSAGES, cache=cache)
    assert client.actual_usage_summary is None
    assert client.total_usage_summary == cold.total_usage_summary == cold.actual_usage_summary
    assert client.total_usage_summary["total_cost"] > 0


# -- their cache tests, against ours ------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], Cache]] = {
    "disk": lambda root: Cache.disk(cache_seed=41, cache_path_root=root),
    "memory": lambda root: Cache.memory(cache_seed=41),
}


@pytest.fixture(params=MAKERS)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return MAKERS[request.param](tmp_path / "ours")


class TestTheirCacheTests:
    VALUES = (123, "a text", [1, 2, 3], {"a": {"b": [1.5, None]}}, (1, "a"), b"bytes")

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
    def test_get_what_was_set(self, cache: Cache, value: object) -> None:
        cache.set("key", value)
        assert cache.get("key") == value

    def test_get_a_default(self, cache: Cache) -> None:
        assert cache.get("key") is None
        assert cache.get("key", "default") == "default"

    def test_set_anew(self, cache: Cache) -> None:
        cache.set("key", "one")
        cache.set("key", "two")
        assert cache.get("key") == "two"

    def test_a_block_gives_the_cache_and_closes_it(self, cache: Cache) -> None:
        with cache as entered:
            assert entered is cache
            cache.set("key", "value")
        assert cache.get("key") == "value"

    def test_an_error_in_the_block_passes(self, cache: Cache) -> None:
        def fail() -> None:
            with cache:
                raise ValueError

        with pytest.raises(ValueError):
            fail()

    def test_close(self, cache: Cache) -> None:
        cache.set("key", "value")
        cache.close()
        cache.close()
        assert cache.get("key") == "value"

    def test_a_key_as_ag2_makes_it(self, cache: Cache) -> None:
        """AG2 keys its cache by the request itself, a dictionary."""
        cache.set({"model": "m", "messages": MESSAGES}, "value")
        assert cache.get({"messages": MESSAGES, "model": "m"}) == "value"
        assert cache.get({"messages": MESSAGES, "model": "n"}) is None


# -- chats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["initiate_chat", "a_initiate_chat"])
def test_two_agents_talk_from_our_cache(upstream: Upstream, tmp_path: Path, colour: str) -> None:
    def talk() -> tuple[list[Any], Any]:
        asker, teller = agents(upstream, "asker", "teller")
        with Cache.disk(cache_path_root=tmp_path / "ours") as cache:
            if colour == "initiate_chat":
                result = asker.initiate_chat(teller, message="hi", max_turns=2, cache=cache)
            else:
                started = asker.a_initiate_chat(teller, message="hi", max_turns=2, cache=cache)
                result = asyncio.run(started)
        usage = autogen.gather_usage_summary([asker, teller])
        return [message["content"] for message in result.chat_history], usage

    first, spent = talk()
    made = upstream.calls
    assert made > 0
    second, saved = talk()
    assert second == first
    assert upstream.calls == made
    assert saved["usage_excluding_cached_inference"] == {"total_cost": 0}
    assert (
        saved["usage_including_cached_inference"]
        == spent["usage_including_cached_inference"]
        == spent["usage_excluding_cached_inference"]
    )


def test_a_summary_is_made_from_our_cache(upstream: Upstream) -> None:
    cache = Cache.memory()

    def talk() -> str:
        asker, teller = agents(upstream, "asker", "teller")
        result = asker.initiate_chat(
            teller, message="hi", max_turns=1, cache=cache, summary_method="reflection_with_llm"
        )
        summary = result.summary
        return str(summary["content"] if isinstance(summary, dict) else summary)

    first = talk()
    made = upstream.calls
    assert talk() == first
    assert upstream.calls == made


def test_a_group_chat_talks_from_our_cache(upstream: Upstream, tmp_path: Path) -> None:
    def talk() -> list[Any]:
        members = agents(upstream, "one", "two", "three")
        group = autogen.GroupChat(
            agents=members, messages=[], max_round=5, speaker_selection_method="round_robin"
        )
        manager = autogen.GroupChatManager(groupchat=group, llm_config=llm(upstream))
        with Cache.disk(cache_path_root=tmp_path / "ours") as cache:
            result = members[0].initiate_chat(manager, message="hi", cache=cache)
        return [message["content"] for message in result.chat_history]

    first = talk()
    made = upstream.calls
    assert made >= 3
    assert talk() == first
    assert upstream.calls == made


def test_agents_in_threads_share_one_cache(upstream: Upstream, tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path / "ours")

    def talk(number: int) -> list[Any]:
        asker, teller = agents(upstream, "asker", "teller")
        result = asker.initiate_chat(teller, message=f"hi {number}", max_turns=2, cache=cache)
        return [message["content"] for message in result.chat_history]

    def talk_all() -> list[Any]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(talk, range(8)))

    first = talk_all()
    made = upstream.calls
    assert talk_all() == first
    assert upstream.calls == made
    assert cache.stats.errors == 0


# -- a model client of one's own ---------------------------------------------------------------


class Part:
    """As the responses of clients that people write: a class with attributes."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class Reply(BaseModel):
    model: str
    choices: list[Any]
    cost: float = 0.0
    message_retrieval_function: Any = None
    config_id: int | None = None
    pass_filter: bool | None = None


class OwnClient:
    """A model client as AutoGen's documentation shows one."""

    calls = 0
    made: Callable[..., Any] = SimpleNamespace

    def __init__(self, config: dict[str, Any], **options: Any) -> None:
        self._model = config["model"]

    def create(self, params: dict[str, Any]) -> Any:
        type(self).calls += 1
        part = type(self).made
        inner = SimpleNamespace if part is Reply else part
        message = inner(content=f"answer {self.calls}", function_call=None, tool_calls=None)
        return part(choices=[inner(message=message)], model=self._model)

    def message_retrieval(self, response: Any) -> list[str]:
        return [choice.message.content for choice in response.choices]

    def cost(self, response: Any) -> float:
        return 0.25

    @staticmethod
    def get_usage(response: Any) -> dict[str, Any]:
        tokens = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {**tokens, "cost": response.cost, "model": response.model}


def own_client(part: Callable[..., Any]) -> tuple[Any, type[OwnClient]]:
    kind = type("Client", (OwnClient,), {"calls": 0, "made": staticmethod(part)})
    config = {"model": "local", "model_client_cls": "Client"}
    client = autogen.OpenAIWrapper(config_list=[config])
    client.register_model_client(model_client_cls=kind)
    return client, kind


@pytest.mark.parametrize("part", [SimpleNamespace, Reply])
def test_what_a_client_of_ones_own_returns_is_stored(
    cache: Cache, part: Callable[..., Any]
) -> None:
    client, kind = own_client(part)
    first = client.create(messages=MESSAGES, cache=cache)
    second = client.create(messages=MESSAGES, cache=cache)
    assert (kind.calls, text(first), text(second)) == (1, "answer 1", "answer 1")
    assert type(second) is part
    assert second.cost == 0.25
    assert client.extract_text_or_completion_object(second) == ["answer 1"]


def test_what_cannot_be_stored_is_answered_with_one_warning(cache: Cache) -> None:
    client, kind = own_client(Part)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", CacheWarning)
        answers = [text(client.create(messages=MESSAGES, cache=cache)) for _ in range(3)]
    assert answers == ["answer 1", "answer 2", "answer 3"]
    assert kind.calls == 3
    (warning,) = [str(one.message) for one in told if one.category is CacheWarning]
    assert "Part, which no codec takes: hand over what is needed of it" in warning


def test_agents_of_a_client_whose_answers_cannot_be_stored_talk(cache: Cache) -> None:
    kind = type("Client", (OwnClient,), {"calls": 0, "made": Part})
    config = {"config_list": [{"model": "local", "model_client_cls": "Client"}]}
    asker, teller = (
        autogen.AssistantAgent(name, system_message="", llm_config=config) for name in ("a", "b")
    )
    for agent in (asker, teller):
        agent.register_model_client(model_client_cls=kind)
    with pytest.warns(CacheWarning, match="the value is not stored"):
        result = asker.initiate_chat(teller, message="hi", max_turns=2, cache=cache)
    said = [message["content"] for message in result.chat_history]
    assert said == ["hi", "answer 1", "answer 2", "answer 3"]


# -- patched --------------------------------------------------------------------------------


def test_patched_underneath_with_its_own_cache_off(upstream: Upstream) -> None:
    with patch_openai(), Cache.memory() as cache:
        answers = {
            text(wrapper(upstream).create(messages=MESSAGES, cache_seed=None)) for _ in range(2)
        }
    assert (len(answers), upstream.calls, cache.stats.hits) == (1, 1, 1)


def test_patched_a_stream_is_repeated_as_well(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # AutoGen counts a stream's tokens by tables that it would fetch from the network.
    counter = "autogen.oai.client.count_token"
    monkeypatch.setattr(counter, lambda *given, **named: 1, raising=False)
    with patch_openai(), Cache.memory():
        answers = {
            text(wrapper(upstream).create(messages=MESSAGES, cache_seed=None, stream=True))
            for _ in range(2)
        }
    assert (len(answers), upstream.calls) == (1, 1)


def test_patched_a_model_that_picks_the_speaker_is_cached_too(upstream: Upstream) -> None:
    """Their `cache=` never reaches the calls that select a speaker; the patch does."""

    def talk() -> list[Any]:
        members = agents(upstream, "one", "two", "three", cache_seed=None)
        group = autogen.GroupChat(
            agents=members, messages=[], max_round=4, speaker_selection_method="auto"
        )
        manager = autogen.GroupChatManager(
            groupchat=group, llm_config=llm(upstream, cache_seed=None)
        )
        result = members[0].initiate_chat(manager, message="hi")
        return [message["content"] for message in result.chat_history]

    with patch_openai(), Cache.memory():
        first = talk()
        made = upstream.calls
        assert made > 3
        assert talk() == first
    assert upstream.calls == made
