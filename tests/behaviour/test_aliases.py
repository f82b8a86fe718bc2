"""Aliases: approved by hand, as quick and exact as any key, taken back without a trace."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from colours import COLOURS, Function, Upstream
from examples_tried import many
from hypothesis import given, settings, strategies as st
from working import work_of

from cachewrap import Cache, CacheWarning, ConfigurationError, ReplayMissError
from cachewrap.call.terms import ValueExchange
from cachewrap.entries.aliases import _TRIES
from cachewrap.entry import Facts, HttpAnswer, Kind
from cachewrap.errors import CorruptEntryError, StoreError
from cachewrap.format import codec
from cachewrap.format.aliases import Alias, unpacked
from cachewrap.format.envelope import seal, unseal
from cachewrap.request import key as keys
from cachewrap.same import replace
from cachewrap.stores.base import Store
from cachewrap.stores.memory import MemoryStore

ON = "Turn the lights on."
ALIKE = "Lights on, please!"
OFF = "Turn the lights off."


class Lights:
    """A function of one colour, its upstream, and a cache."""

    def __init__(self, colour: str, cache: Cache) -> None:
        self.up = Upstream()
        self.ask = Function(colour, self.up.answer)
        self.cache = cache

    def key(self, prompt: str) -> str:
        with self.cache:
            found: str = self.ask.decorated.cache_key(prompt)
        return found

    def alias(self, prompt: str, target: str) -> None:
        self.cache.alias(self.key(prompt), self.key(target))


@pytest.fixture(params=COLOURS)
def lights(request: pytest.FixtureRequest, cache: Cache) -> Lights:
    return Lights(request.param, cache)


@pytest.fixture
def light() -> Lights:
    return Lights("sync", Cache.memory())


# -- what is approved, and nothing else ------------------------------------------------------------


def test_an_alias_answers_also_after_a_restart_and_in_replay(lights: Lights) -> None:
    with lights.cache:
        first = lights.ask(ON)
        lights.alias(ALIKE, ON)
        assert (lights.ask(ALIKE), lights.ask(ON)) == (first, first)
    lights.cache.store.close()
    for mode in ("normal", "read_only", "replay"):
        again = Cache(lights.cache.store, mode=mode)
        with again:
            assert lights.ask(ALIKE) == first
        assert (again.stats.hits, again.stats.hits_by_alias, again.stats.misses) == (1, 1, 0)
    assert lights.up.calls == 1


def test_nothing_is_answered_so_that_nobody_has_approved(lights: Lights) -> None:
    with lights.cache:
        asked = [lights.ask(ON), lights.ask(ALIKE), lights.ask(OFF)]
        lights.alias(ALIKE, ON)
        assert [lights.ask(ON), lights.ask(ALIKE), lights.ask(OFF)] == [
            asked[0],
            asked[0],
            asked[2],
        ]
        assert lights.ask("Turn the lights on") not in asked
    assert lights.cache.stats.hits_by_alias == 1


def test_what_was_stored_before_comes_back(lights: Lights) -> None:
    with lights.cache:
        first, own = lights.ask(ON), lights.ask(ALIKE)
        before = lights.cache.store.get(lights.key(ALIKE))
        for _ in range(2):  # once more changes nothing
            lights.alias(ALIKE, ON)
        assert lights.ask(ALIKE) == first
        assert lights.cache.unalias(lights.key(ALIKE))
        assert lights.cache.store.get(lights.key(ALIKE)) == before
        assert lights.ask(ALIKE) == own
        assert not lights.cache.unalias(lights.key(ALIKE))
    assert (lights.up.calls, list(lights.cache.aliases())) == (2, [])


@pytest.mark.parametrize("mode", ["normal", "replay"])
def test_a_target_that_gets_an_alias_still_gives_its_own_answer(lights: Lights, mode: Any) -> None:
    with lights.cache:
        first, other = lights.ask(ON), lights.ask(OFF)
        own = lights.cache.get(lights.key(ON))
        lights.alias(ALIKE, ON)
        lights.alias(ON, OFF)
    cache = lights.cache.mode(mode)
    with cache:
        assert [lights.ask(ALIKE), lights.ask(ON), lights.ask(OFF)] == [first, other, other]
        assert cache.get(lights.key(ALIKE)) == own
        assert cache.explain(lights.ask.decorated, ALIKE).alias == lights.key(ON)
        lights.cache.unalias(lights.key(ON))
        assert [lights.ask(ALIKE), lights.ask(ON)] == [first, first]
    assert (lights.up.calls, cache.stats.errors) == (2, 0)


def test_an_alias_without_an_answer_of_its_own_leaves_nothing(light: Lights) -> None:
    with light.cache:
        light.ask(ON)
        light.alias(ALIKE, ON)
        assert light.cache.unalias(light.key(ALIKE))
        assert list(light.cache.store.keys()) == [light.key(ON)]


def test_who_hears_of_calls_hears_that_an_alias_led_to_the_answer(
    lights: Lights, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "cachewrap.calls")
    with lights.cache:
        lights.ask(ON)
    lights.alias(ALIKE, ON)
    with lights.cache:
        lights.ask(ALIKE)
        lights.ask(ON)
    told = [record.cachewrap["alias"] for record in caplog.records]  # type: ignore[attr-defined]
    assert told == ["", lights.key(ON), ""]
    assert [record.message.rpartition(", ")[2] for record in caplog.records][1] == "by alias"


def test_an_alias_can_be_given_another_target(light: Lights) -> None:
    with light.cache:
        light.ask(ON), light.ask(ALIKE)
        off = light.ask(OFF)
        light.alias(ALIKE, ON)
        light.alias(ALIKE, OFF)
        assert light.ask(ALIKE) == off
        light.cache.unalias(light.key(ALIKE))
        assert light.ask(ALIKE) == "Lights on, please! #2"


def test_an_alias_is_an_entry_that_says_of_what(light: Lights) -> None:
    with light.cache:
        light.ask(ON), light.ask(ALIKE)
        light.alias(ALIKE, ON)
        (alias,) = light.cache.aliases()
        told = alias.key, alias.alias_of, alias.kind, alias.prompt, alias.sample
        assert told == (light.key(ALIKE), light.key(ON), "alias", ALIKE, 0)
        assert alias.as_dict()["alias_of"] == light.key(ON)
        assert {entry.alias_of for entry in light.cache.entries()} == {"", light.key(ON)}
        with pytest.raises(CorruptEntryError, match="an alias of"):
            alias.value()


def test_a_cache_of_plain_keys_has_aliases_too(cache: Cache) -> None:
    cache.set("greeting", {"text": "hello"})
    cache.alias("salute", "greeting")
    assert cache.get("salute") == {"text": "hello"}
    assert {*cache.keys()} >= {"greeting"}
    cache.delete("greeting")
    assert cache.get("salute", "none") == "none"


def test_an_encrypted_cache_keeps_its_aliases_encrypted(tmp_path: Any) -> None:
    cache = Cache.disk(cache_path_root=tmp_path, encryption_key=os.urandom(32))
    light = Lights("sync", cache)
    with cache:
        first, own = light.ask(ON), light.ask(ALIKE)
        light.alias(ALIKE, ON)
        raw = cache.store.get(light.key(ALIKE)) or b""
        assert raw.startswith(b"cwe") and light.key(ON).encode() not in raw
        assert light.ask(ALIKE) == first
        cache.unalias(light.key(ALIKE))
        assert light.ask(ALIKE) == own


# -- what it costs ---------------------------------------------------------------------------------


def test_a_hit_by_alias_reads_twice_and_any_other_once(light: Lights) -> None:
    with light.cache:
        light.ask(ON)
        light.alias(ALIKE, ON)
        assert work_of(light.cache, lambda: light.ask(ON))[0] == 1
        assert work_of(light.cache, lambda: light.ask(ALIKE))[0] == 2


# -- what leads nowhere ----------------------------------------------------------------------------


def spoil_nothing(light: Lights) -> None:
    light.cache.store.delete(light.key(ON))


def spoil_age(light: Lights) -> None:
    facts = Facts(1.0, 0.1, expires=2.0, source="s")
    light.cache.store.set(light.key(ON), seal(Kind.TEXT, b"old", b"", facts))


def spoil_bytes(light: Lights) -> None:
    light.cache.store.set(light.key(ON), b"no entry")


def spoil_kind(light: Lights) -> None:
    kind, answer = codec.encode(HttpAnswer(200, [], [b"{}"], []))
    light.cache.store.set(light.key(ON), seal(kind, answer, b"", Facts(1.0, 0.1, source="s")))


def spoil_source(light: Lights) -> None:
    light.cache.store.set(light.key(ON), seal(Kind.TEXT, b"x", b"", Facts(1.0, 0.1, source="s:g")))


def spoil_chain(light: Lights) -> None:
    alias = Alias(light.key(OFF))
    raw = seal(Kind.ALIAS, alias.packed(), b"", Facts(1.0, 0.1, source="s"))
    light.cache.store.set(light.key(ON), raw)


NOWHERE: dict[str, tuple[Callable[[Lights], None], str]] = {
    "gone": (spoil_nothing, "is no longer stored"),
    "expired": (spoil_age, "has expired"),
    "damaged": (spoil_bytes, "not an entry"),
    "of another kind": (spoil_kind, "in place of a value"),
    "of another function": (spoil_source, "leads to an answer of s:g"),
    "an alias": (spoil_chain, "an alias itself"),
}
TOLD = {"damaged", "of another kind", "of another function", "an alias"}


@pytest.mark.parametrize("what", NOWHERE)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_leads_nowhere_is_a_miss_and_its_answer_stays(colour: str, what: str) -> None:
    lights = Lights(colour, Cache.memory())
    with lights.cache:
        lights.ask(ON), lights.ask(OFF)
        lights.alias(ALIKE, ON)
        NOWHERE[what][0](lights)
        if what in TOLD:
            with pytest.warns(CacheWarning, match=NOWHERE[what][1]):
                answer = lights.ask(ALIKE)
        else:
            answer = lights.ask(ALIKE)
        assert answer == lights.ask(ALIKE) == "Lights on, please! #3"
    assert lights.key(ALIKE) not in {alias.key for alias in lights.cache.aliases()}
    assert lights.cache.stats.hits_by_alias == 0


@pytest.mark.parametrize("what", NOWHERE)
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_what_leads_nowhere_is_as_if_it_were_none(light: Lights, what: str) -> None:
    with light.cache:
        own = light.ask(ALIKE)
        light.ask(ON), light.ask(OFF)
        light.alias(ALIKE, ON)
        NOWHERE[what][0](light)
        assert light.ask(ALIKE) == own
        if what not in ("of another kind", "of another function"):  # a key alone says of neither
            assert light.cache.get(light.key(ALIKE)) == own
    assert light.up.calls == 3


@pytest.mark.parametrize("what", [name for name in NOWHERE if name != "expired"])
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_replay_says_that_an_alias_leads_nowhere(light: Lights, what: str) -> None:
    with light.cache:
        light.ask(ON), light.ask(OFF)
        light.alias(ALIKE, ON)
        NOWHERE[what][0](light)
    with Cache(light.cache.store, mode="replay"), pytest.raises(ReplayMissError) as raised:
        light.ask(ALIKE)
    assert NOWHERE[what][1] in str(raised.value)


def test_an_alias_of_what_is_gone_gives_way_in_every_store(lights: Lights) -> None:
    with lights.cache:
        lights.ask(ON)
        lights.alias(ALIKE, ON)
        lights.cache.store.delete(lights.key(ON))
        answer = lights.ask(ALIKE)
        assert (lights.ask(ALIKE), lights.up.calls) == (answer, 2)
    assert list(lights.cache.store.keys()) == [lights.key(ALIKE)]
    assert list(lights.cache.aliases()) == []


def test_replay_follows_an_alias_to_what_has_expired(light: Lights) -> None:
    with Cache(light.cache.store, ttl=1e-9):
        first = light.ask(ON)
    light.alias(ALIKE, ON)
    with Cache(light.cache.store, mode="replay"), pytest.warns(CacheWarning, match="has expired"):
        assert light.ask(ALIKE) == first


def test_refresh_stores_over_an_alias(light: Lights) -> None:
    with light.cache:
        first = light.ask(ON)
        light.alias(ALIKE, ON)
    with Cache(light.cache.store, mode="refresh"):
        fresh = light.ask(ALIKE)
    with light.cache:
        assert (light.ask(ALIKE), light.ask(ON)) == (fresh, first)
        assert fresh == "Lights on, please! #2"


class Failing(MemoryStore):
    """A store that cannot read one key."""

    def __init__(self) -> None:
        super().__init__("41")
        self.broken = ""

    def get(self, key: str) -> bytes | None:
        if key == self.broken:
            raise StoreError("a broken disk")
        return super().get(key)


def test_a_target_that_cannot_be_read_just_now_costs_the_alias_nothing() -> None:
    store = Failing()
    light = Lights("sync", Cache(store))
    with light.cache:
        first = light.ask(ON)
        light.alias(ALIKE, ON)
        store.broken = light.key(ON)
        with pytest.warns(CacheWarning, match="a broken disk"):
            assert light.ask(ALIKE) == "Lights on, please! #2"
        store.broken = ""
        assert light.ask(ALIKE) == first


class Approving(MemoryStore):
    """A store in which somebody approves an alias while upstream is asked."""

    approve: Callable[[], None] | None = None

    def add(self, key: str, value: bytes, **given: Any) -> bytes:
        if (approve := self.approve) is not None:
            self.approve = None
            approve()
        return super().add(key, value, **given)


def test_an_alias_that_is_approved_meanwhile_stays(recwarn: pytest.WarningsRecorder) -> None:
    store = Approving("41")
    light = Lights("sync", Cache(store))
    with light.cache:
        first = light.ask(ON)
        store.approve = lambda: light.alias(ALIKE, ON)
        assert light.ask(ALIKE) == "Lights on, please! #2"
        assert light.ask(ALIKE) == first
    assert not recwarn.list


# -- what cannot be one ----------------------------------------------------------------------------


def asked(light: Lights, url: str, stream: bool, answer: Any) -> str:
    """The key of a request over HTTP that is stored."""
    request: dict[str, Any] = {"method": "POST", "url": url, "body": {"model": "m"}}
    request |= {"stream": True} if stream else {}
    encoded = keys.encode(request)
    name = keys.key_of(keys.salted(), encoded)
    source = f"POST {url.removeprefix('http://up')}"
    raw = seal(*codec.encode(answer), encoded, Facts(1.0, 0.1, source=source))
    light.cache.store.set(name, raw)
    return name


CHAT = HttpAnswer(200, [("content-type", "application/json")], [b"{}"], [])


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        pytest.param(lambda light: ("a" * 64, "a" * 64), "an alias of itself", id="itself"),
        pytest.param(lambda light: ("a" * 64, "b" * 64), "nothing is stored under", id="nothing"),
        pytest.param(lambda light: ("a" * 64, light.key(ALIKE)), "an alias itself", id="an alias"),
        pytest.param(lambda light: (light.key(ON), light.key(ALIKE)), "alias itself", id="a ring"),
        pytest.param(lambda light: ("plain", light.key(ON)), "one function or", id="functions"),
        pytest.param(
            lambda light: (asked(light, "http://up/v1/rerank", False, CHAT), light.key(ON)),
            "holds an answer over HTTP",
            id="kinds",
        ),
        pytest.param(
            lambda light: (
                asked(light, "http://up/v1/chat/completions", False, CHAT),
                asked(light, "http://up/v1/embeddings", False, CHAT),
            ),
            "one function or endpoint",
            id="endpoints",
        ),
        pytest.param(
            lambda light: (
                asked(light, "http://up/v1/chat/completions", True, CHAT),
                asked(light, "http://up/v1/chat/completions", False, CHAT),
            ),
            "asks for a stream",
            id="a stream",
        ),
    ],
)
def test_what_is_no_alias_is_refused(
    light: Lights, pair: Callable[[Lights], tuple[str, str]], told: str
) -> None:
    light.cache.set("plain", "text")
    with light.cache:
        light.ask(ON)
        light.alias(ALIKE, ON)
        before = {name: light.cache.store.get(name) for name in light.cache.store.keys()}
        given = pair(light)
        with pytest.raises(ConfigurationError, match=told):
            light.cache.alias(*given)
    after = {name: light.cache.store.get(name) for name in before}
    assert (after, light.up.calls) == (before, 1)


@pytest.mark.parametrize("options", [{"mode": "replay"}, {"mode": "read_only"}, {"mode": "off"}])
def test_a_cache_that_stores_nothing_takes_no_alias(light: Lights, options: Any) -> None:
    with light.cache:
        light.ask(ON)
    with pytest.raises(ConfigurationError, match="stores nothing"):
        Cache(light.cache.store, **options).alias(light.key(ALIKE), light.key(ON))
    with pytest.raises(ConfigurationError, match="stores nothing"):
        Cache(light.cache.store, cache_seed=None).alias(light.key(ALIKE), light.key(ON))


class Changing(MemoryStore):
    """A store in which somebody else is always quicker."""

    quicker = 0

    def add(self, key: str, value: bytes, *, over: bytes | None = None, **given: Any) -> bytes:
        if self.quicker:
            self.quicker -= 1
            self.set(key, seal(Kind.TEXT, str(self.quicker).encode(), b"", FACTS))
        return super().add(key, value, over=over, **given)


FACTS = Facts(1.0, 0.1, source="cache.set")


@pytest.mark.parametrize("quicker", [1, _TRIES])
def test_what_is_stored_meanwhile_is_kept(quicker: int) -> None:
    store = Changing("41")
    cache = Cache(store)
    cache.set("one", "1")
    cache.set("two", "2")
    store.quicker = quicker
    if quicker == _TRIES:
        with pytest.raises(StoreError, match="changes all the time"):
            cache.alias("two", "one")
        return
    cache.alias("two", "one")
    assert cache.get("two") == "1"
    cache.unalias("two")
    assert cache.get("two") == "0"


# -- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x92\xa1x\xc4\x00",
        codec.encode(["a" * 64])[1],
        Alias("A" * 64).packed(),
        Alias("a" * 64 + "\n").packed(),
        Alias("a" * 64).packed()[:-1],
        b"\x91" * 5000,
    ],
)
@pytest.mark.filterwarnings("ignore::cachewrap.CacheWarning")
def test_bytes_that_are_no_alias_are_a_miss(light: Lights, answer: bytes) -> None:
    with pytest.raises(CorruptEntryError):
        unpacked(answer)
    with light.cache:
        light.cache.store.set(light.key(ON), seal(Kind.ALIAS, answer, b"", FACTS))
        assert light.ask(ON) == light.ask(ON) == "Turn the lights on. #1"


def test_an_alias_that_keeps_an_alias_leads_nowhere_twice(light: Lights) -> None:
    inner = seal(Kind.ALIAS, Alias(light.key(ON)).packed(), b"", FACTS)
    outer = seal(Kind.ALIAS, Alias("a" * 64, inner).packed(), b"", FACTS)
    light.cache.store.set(light.key(ON), outer)
    with light.cache, pytest.warns(CacheWarning, match="an alias of"):
        assert light.ask(ON) == "Turn the lights on. #1"


def test_an_alias_that_would_take_too_much_is_not_opened(store: Store) -> None:
    kept = os.urandom(2_000_000)
    raw = seal(Kind.ALIAS, Alias("a" * 64, kept).packed(), b"", FACTS)
    assert unpacked(unseal(raw).answer).kept == kept
    with pytest.raises(CorruptEntryError, match="would take"):
        unseal(raw, 1_000_000)


# -- beside rules ----------------------------------------------------------------------------------


def test_an_alias_under_rules_is_no_hit_by_a_rule() -> None:
    light = Lights("sync", Cache.memory(same=[replace(r"#\d+", "#")]))
    with light.cache:
        first = light.ask("on #1")
        light.ask("off #1")
        light.alias("off #2", "on #2")
        assert light.ask("off #3") == first
        stats = light.cache.stats
        assert (stats.hits_by_alias, stats.hits_by_rule, stats.misses) == (1, 0, 2)
        assert light.cache.unalias(light.key("off #4"))
        assert light.ask("off #5") == "off #1 #2"
        assert stats.hits_by_rule == 1


# -- in lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_one_request_of_a_list_is_answered_by_alias(cache: Cache, colour: str) -> None:
    up = Upstream()

    def ask(*prompts: str) -> list[Any]:
        listed = [ValueExchange(cache.policy, "s", keys.encode({"p": one})) for one in prompts]

        def call(numbers: list[int]) -> list[str]:
            return [up.answer(prompts[number]) for number in numbers]

        async def acall(numbers: list[int]) -> list[str]:
            return call(numbers)

        if colour == "sync":
            replies = cache.serve_many(listed, call)
        else:
            replies = asyncio.run(cache.aserve_many(listed, acall))
        return [reply.value for reply in replies]

    on, off = ask(ON, OFF)
    one, two = (keys.key_of(keys.salted("s"), keys.encode({"p": p})) for p in (ON, ALIKE))
    cache.alias(two, one)
    assert ask(ALIKE, OFF, ALIKE, "new") == [on, off, on, "new #3"]
    assert (cache.stats.hits_by_alias, cache.stats.hits, cache.stats.misses) == (2, 3, 3)
    cache.delete(one)
    assert ask(ALIKE, OFF) == [f"{ALIKE} #4", off]


# -- whatever is done ------------------------------------------------------------------------------

PROMPTS = ("a", "b", "c")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "alias", "unalias", "delete", "refresh")),
        st.sampled_from(PROMPTS),
        st.sampled_from(PROMPTS),
    ),
    max_size=25,
)


class Oracle:
    """What is stored under each prompt: an answer, or an alias and what it keeps."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.aliases: dict[str, str] = {}

    def answer(self, prompt: str) -> str | None:
        led = self.aliases.get(prompt, "")
        if led in self.answers:
            return self.answers[led]
        return self.answers.get(prompt)

    def store(self, prompt: str, answer: str) -> None:
        self.answers[prompt] = answer
        self.aliases.pop(prompt, None)

    def alias(self, prompt: str, target: str) -> bool:
        allowed = prompt != target and target in self.answers and target not in self.aliases
        if allowed:
            self.aliases[prompt] = target
        return allowed

    def delete(self, prompt: str) -> None:
        self.answers.pop(prompt, None)
        self.aliases.pop(prompt, None)


@settings(max_examples=many(200), deadline=None)
@given(STEPS)
def test_an_answer_is_a_requests_own_or_that_of_its_alias(
    steps: list[tuple[str, str, str]],
) -> None:
    light, oracle = Lights("sync", Cache.memory()), Oracle()
    by_key = {light.key(prompt): prompt for prompt in PROMPTS}
    with light.cache, warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        for step, prompt, target in steps:
            expected, asked = oracle.answer(prompt), light.up.calls
            if step == "ask":
                answer = light.ask(prompt)
                assert (answer == expected) is (light.up.calls == asked)
                if expected is None:
                    oracle.store(prompt, answer)
            elif step == "refresh":
                with light.cache.mode("refresh"):
                    oracle.store(prompt, light.ask(prompt))
            elif step == "alias":
                if oracle.alias(prompt, target):
                    light.alias(prompt, target)
                else:
                    with pytest.raises(ConfigurationError):
                        light.alias(prompt, target)
            elif step == "unalias":
                there = oracle.aliases.pop(prompt, None)
                assert light.cache.unalias(light.key(prompt)) is (there is not None)
            else:
                oracle.delete(prompt)
                light.cache.delete(light.key(prompt))
        found = {by_key[one.key]: by_key[one.alias_of] for one in light.cache.aliases()}
        assert found == oracle.aliases
