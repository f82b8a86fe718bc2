"""`Cache.entries`: what is stored, as objects, in every store, with the filters of ``ls``."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, ConfigurationError, CorruptEntryError, llm_cached
from cachewrap.encryption import generate_key
from cachewrap.entries import StoredEntry
from cachewrap.entry import Facts, HttpAnswer, Kind
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key
from cachewrap.stores.base import Store

DAY = 86_400.0
KNOWN = "POST /chat/completions"


@dataclasses.dataclass
class Verdict:
    """What a judge of an evaluation returns."""

    label: str
    reasons: tuple[str, ...]


def put(
    cache: Cache,
    request: Any,
    answer: Any,
    *,
    age: float = 0.0,
    model: str = "",
    source: str = KNOWN,
    tokens: tuple[int, int] = (0, 0),
    salt: tuple[str, ...] = (),
    sample: int = 0,
) -> str:
    """Store an entry and return its key."""
    asked = key.encode(request)
    name = key.sample_key(key.key_of(key.salted(*salt), asked), sample)
    facts = Facts(time.time() - age, 0.5, 0.0, source, model, *tokens)
    raw = seal(*codec.encode(answer), asked, facts)
    cache.store.set(name, cache._guard.close(name, raw))
    return name


def chat(prompt: str, model: str = "gpt-4o") -> dict[str, Any]:
    """A request to a model."""
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    body = {"model": model, "messages": said}
    return {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}


def answer(text: str) -> HttpAnswer:
    """A model's answer."""
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    kind = [("content-type", "application/json")]
    return HttpAnswer(200, kind, [json.dumps(body).encode()], [])


@llm_cached
def ask(prompt: str, style: int = 1) -> str:
    return f"{prompt}!"


def said(cache: Cache, **filters: Any) -> set[str]:
    return {entry.prompt for entry in cache.entries(**filters)}


# -- what an entry is -------------------------------------------------------------------------


def test_an_answer_of_a_model(cache: Cache) -> None:
    name = put(cache, chat("Why?"), answer("So."), model="gpt-4o", tokens=(9, 3), age=60)
    (entry,) = cache.entries()
    assert isinstance(entry, StoredEntry)
    assert (entry.key, entry.seed, entry.source, entry.model) == (name, "41", KNOWN, "gpt-4o")
    assert (entry.prompt, entry.answer, entry.function) == ("Why?", "So.", "")
    assert (entry.tokens_in, entry.tokens_out, entry.seconds) == (9, 3, 0.5)
    assert (entry.kind, entry.sample, entry.expires) == ("http", 0, None)
    assert abs(datetime.now(UTC) - entry.created - timedelta(minutes=1)) < timedelta(seconds=20)
    assert entry.size == len(cache.store.get(name) or b"")
    assert [(turn.role, turn.text) for turn in entry.conversation] == [
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "So."),
    ]
    assert [turn.role for turn in entry.messages] == ["system", "user"]
    assert entry.request["body"]["model"] == "gpt-4o"
    assert entry.value()["choices"][0]["message"]["content"] == "So."


def test_a_call_of_a_function(cache: Cache) -> None:
    with cache:
        ask("Why?", style=2)
    (entry,) = cache.entries()
    assert (entry.prompt, entry.answer, entry.value()) == ("Why?", "Why?!", "Why?!")
    assert entry.function == entry.source == f"{__name__}:ask"
    assert entry.request["arguments"] == {"prompt": "Why?", "style": 2}


def test_a_value_is_given_in_its_type_and_told_as_text(cache: Cache) -> None:
    @llm_cached
    def judge(text: str) -> Verdict:
        return Verdict("good", ("short",))

    with cache:
        judge("a text")
    (entry,) = cache.entries()
    assert entry.value() == Verdict("good", ("short",))
    assert json.loads(entry.answer) == {"label": "good", "reasons": ["short"]}


def test_what_was_set_by_hand(cache: Cache) -> None:
    cache.set("greeting", {"a": (1, 2)})
    (entry,) = cache.entries()
    assert (entry.prompt, entry.source, entry.value()) == ("greeting", "cache.set", {"a": (1, 2)})
    assert json.loads(entry.answer) == {"a": [1, 2]}


def test_samples_have_their_numbers(cache: Cache) -> None:
    with cache.samples():
        for _ in range(3):
            ask("a die")
    put(cache, chat("Why?"), answer("So."), sample=7)
    numbers = [entry.sample for entry in cache.entries()]
    assert sorted(str(number) for number in numbers) == ["0", "1", "2", "7"]


def test_a_sample_that_cannot_be_told(cache: Cache) -> None:
    put(cache, {"function": "m:f", "arguments": {}}, "x", source="m:f", salt=("a draft",))
    assert [entry.sample for entry in cache.entries()] == [None]


def test_an_entry_without_its_request() -> None:
    with Cache.memory(store_requests=False) as cache:
        ask("Why?")
    (entry,) = cache.entries()
    assert (entry.prompt, entry.messages, entry.request, entry.sample) == ("", [], None, None)
    assert entry.answer == "Why?!"


def test_when_it_expires() -> None:
    with Cache.memory(ttl=3600) as cache:
        ask("Why?")
    (entry,) = cache.entries()
    assert entry.expires is not None
    assert round((entry.expires - entry.created).total_seconds()) == 3600


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(-1e18, id="before the calendar"),
        pytest.param(1e18, id="behind the calendar"),
    ],
)
def test_a_time_that_is_none(moment: float) -> None:
    cache = Cache.memory()
    cache.store.set("0" * 64, seal(Kind.TEXT, b"x", b"", Facts(moment, 0.0, float("inf"))))
    (entry,) = cache.entries()
    assert (entry.created.year, entry.expires) == (1970, None)


def test_a_row_of_a_table(cache: Cache) -> None:
    put(cache, chat("Why?"), answer("So."), model="gpt-4o", tokens=(9, 3))
    (row,) = (entry.as_dict() for entry in cache.entries())
    assert {name: row[name] for name in ("seed", "model", "sample", "prompt", "answer")} == {
        "seed": "41",
        "model": "gpt-4o",
        "sample": 0,
        "prompt": "Why?",
        "answer": "So.",
    }


def test_a_credential_is_not_shown(cache: Cache) -> None:
    body = {"url": "http://up", "body": {"prompt": "hello", "api_key": "sk-" + "a1" * 20}}
    put(cache, body, answer("So."))
    (entry,) = cache.entries()
    assert "a1a1a1" not in repr(entry.request)


# -- which ------------------------------------------------------------------------------------


@pytest.fixture
def filled(cache: Cache) -> Cache:
    put(cache, chat("new"), answer("x" * 400), model="gpt-4o")
    put(cache, chat("old"), answer("Rain."), model="gpt-3.5-turbo", age=40 * DAY)
    call = {"function": "agents.plan:summarise", "arguments": {"text": "a story"}}
    put(cache, call, "SHORT", source="agents.plan:summarise", salt=("41",), age=2 * DAY)
    return cache


FILTERS: list[Any] = [
    pytest.param({}, {"new", "old", "a story"}, id="none"),
    pytest.param({"model": "gpt-4*"}, {"new"}, id="a model"),
    pytest.param({"source": "chat/completions"}, {"new", "old"}, id="an endpoint"),
    pytest.param({"source": "summarise"}, {"a story"}, id="a source that is a function"),
    pytest.param({"function": "summarise"}, {"a story"}, id="a function"),
    pytest.param({"function": "*"}, {"a story"}, id="every function"),
    pytest.param({"function": "chat/*"}, set(), id="no function"),
    pytest.param({"text": "RAIN"}, {"old"}, id="text of the answer"),
    pytest.param({"text": "story"}, {"a story"}, id="text of the request"),
    pytest.param({"newer_than": "1d"}, {"new"}, id="an age as text"),
    pytest.param({"newer_than": 3 * DAY}, {"new", "a story"}, id="an age in seconds"),
    pytest.param({"newer_than": timedelta(days=3)}, {"new", "a story"}, id="a timedelta"),
    pytest.param({"older_than": "30d"}, {"old"}, id="older"),
    pytest.param({"older_than": "1d", "newer_than": "30d"}, {"a story"}, id="between"),
    pytest.param({"min_size": 300, "model": "gpt-4o"}, set(), id="a size: compressed"),
    pytest.param({"max_size": "1k"}, {"new", "old", "a story"}, id="a size as text"),
    pytest.param({"model": "gpt-*", "text": "x"}, {"new"}, id="two of them"),
]


@pytest.mark.parametrize(("filters", "found"), FILTERS)
def test_filters(filled: Cache, filters: dict[str, Any], found: set[str]) -> None:
    assert said(filled, **filters) == found


MOMENTS: list[Any] = [
    pytest.param(lambda then: then, id="a datetime"),
    pytest.param(lambda then: then.astimezone().replace(tzinfo=None), id="local time"),
    pytest.param(lambda then: then.isoformat(), id="ISO with a zone"),
    pytest.param(lambda then: then.strftime("%Y-%m-%dT%H:%M"), id="ISO, in UTC"),
    pytest.param(lambda then: then.strftime("%Y-%m-%dT%H:%MZ"), id="ISO with a Z"),
    pytest.param(lambda then: then.strftime("%Y-%m-%d %H:%M:%S"), id="as ls shows it"),
    pytest.param(lambda then: then.date(), id="a date"),
    pytest.param(lambda then: then.date().isoformat(), id="a date as text"),
]


@pytest.mark.parametrize("given", MOMENTS)
def test_moments(given: Callable[[datetime], Any]) -> None:
    cache = Cache.memory()
    put(cache, chat("new"), answer("x"))
    put(cache, chat("old"), answer("x"), age=4 * DAY)
    then = given(datetime.now(UTC) - timedelta(days=2))
    assert said(cache, newer_than=then) == {"new"}
    assert said(cache, older_than=then) == {"old"}


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        pytest.param({"newer_than": "soon"}, "newer_than: 'soon' is neither an age nor", id="text"),
        pytest.param({"older_than": "2026-13-01"}, "neither an age nor a date", id="no date"),
        pytest.param({"older_than": "20261101"}, "neither an age nor a date", id="no dashes"),
        pytest.param({"newer_than": -1}, "newer_than must be positive", id="the future"),
        pytest.param({"newer_than": []}, "newer_than must be seconds", id="a list"),
        pytest.param({"min_size": "big"}, "min_size: 'big' is no size", id="a size"),
        pytest.param({"max_size": -1}, "max_size: -1 is no size", id="a size below nothing"),
        pytest.param({"model": 4}, "model must be a str", id="a model"),
    ],
)
def test_a_filter_that_is_none(filters: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Cache.memory().entries(**filters)


def test_one_seed_alone(cache: Cache) -> None:
    cache.set("a", 1)
    other = cache.reseed(7)
    other.set("b", 1)
    assert (said(cache), said(other)) == ({"a"}, {"b"})
    other.clear()


@pytest.mark.parametrize("mode", ["normal", "refresh", "replay", "read_only", "off"])
def test_in_every_mode(mode: Any) -> None:
    cache = Cache.memory()
    cache.set("a", 1)
    assert said(cache.mode(mode)) == {"a"}


def test_a_cache_that_caches_nothing() -> None:
    assert list(Cache.memory(None).entries()) == []


def test_they_are_read_one_by_one(store: Store) -> None:
    cache = Cache(store)
    for i in range(5):
        cache.set(f"{i}", i)
    entries = cache.entries()
    assert next(entries).kind == "value"
    cache.clear()
    list(entries)  # what is gone is left out


# -- what cannot be read ----------------------------------------------------------------------


def test_what_is_damaged_is_left_out_and_warned_of_once(cache: Cache) -> None:
    cache.set("a", 1)
    cache.store.set("0" * 64, b"no entry")
    cache.store.set("1" * 64, b"no entry")
    with pytest.warns(CacheWarning, match="cache.entries: an entry in .* cannot be read") as told:
        assert said(cache) == {"a"}
    assert len(told) == 1


def test_what_is_damaged_raises_where_errors_do() -> None:
    cache = Cache.memory(on_error="raise")
    cache.store.set("0" * 64, b"no entry")
    with pytest.raises(CorruptEntryError):
        list(cache.entries())


def test_a_request_that_cannot_be_read() -> None:
    cache = Cache.memory()
    raw = seal(Kind.TEXT, b"x", b"\xc1 no MessagePack", Facts(1.0, 1.0))
    cache.store.set("0" * 64, raw)
    (entry,) = cache.entries()
    assert entry.answer == "x"
    with pytest.raises(CorruptEntryError, match="its request cannot be read"):
        _ = entry.prompt


def test_encrypted_entries_are_read_with_the_keys_of_the_cache(store: Store) -> None:
    old, new = generate_key(), generate_key()
    Cache(store, encryption_key=old).set("a", 1)
    assert said(Cache(store, encryption_key=[new, old])) == {"a"}
    with pytest.warns(CacheWarning):
        assert said(Cache(store)) == set()


def test_a_class_that_the_cache_does_not_allow_is_left_out() -> None:
    cache = Cache.memory()
    cache.set("a", Verdict("good", ()))
    narrow = Cache(cache.store, types=["elsewhere.*"])
    with pytest.warns(CacheWarning, match="not among the types="):
        assert said(narrow) == set()


def test_dates_of_a_naive_day_are_in_utc() -> None:
    cache = Cache.memory()
    put(cache, chat("now"), answer("x"))
    assert said(cache, newer_than=date(2020, 1, 1)) == {"now"}
