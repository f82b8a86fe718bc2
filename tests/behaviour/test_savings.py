"""What is counted, by function and model; what hooks and the log are told."""

from __future__ import annotations

import contextlib
import html
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache, CacheWarning, Event, ReplayMissError, llm_cached, patch_openai
from cachewrap.call import stats
from cachewrap.call.stats import Stats, summary
from cachewrap.entry import Outcome
from cachewrap.same import ignore, replace
from cachewrap.telemetry import usage
from cachewrap.telemetry.usage import Usage

SAID: Any = [{"role": "user", "content": "hello there"}]


@llm_cached
def told(prompt: str, model: str) -> Any:
    usage = SimpleNamespace(prompt_tokens=3, completion_tokens=2)
    return SimpleNamespace(model=model, usage=usage, text=prompt)


@llm_cached
def detailed(prompt: str) -> Any:
    usage = {"input_tokens": 48, "cache_creation_input_tokens": 556, "output_tokens": 5}
    return {"model": "claude", "usage": {**usage, "cache_read_input_tokens": 1800}}


@llm_cached
def bare(prompt: str) -> str:
    if prompt == "fail":
        raise ConnectionError(prompt)
    return prompt


@llm_cached(version=1)
def ruled(prompt: str, *, user: str) -> str:
    return prompt


@llm_cached
def words(prompt: str) -> Iterator[str]:
    yield from prompt.split()


@pytest.fixture
def client() -> Iterator[Any]:
    with Upstream() as up, patch_openai():
        yield openai.OpenAI(base_url=up.base_url, api_key="none", max_retries=0)


def test_calls_are_counted_by_function_and_by_model() -> None:
    with Cache.memory() as cache:
        for model in ("a", "b", "a"):
            told("hi", model)
        bare("hi")
    by_model = {name: (c.hits, c.misses) for name, c in cache.stats.by_model.items()}
    assert by_model == {"a": (1, 1), "b": (0, 1), "": (0, 1)}
    by_source = {name.rpartition(":")[2]: c.calls for name, c in cache.stats.by_source.items()}
    assert by_source == {"told": 3, "bare": 1}


def test_sdk_calls_are_counted_by_the_model_that_was_asked(client: Any) -> None:
    with Cache.memory() as cache:
        for _ in range(3):
            client.chat.completions.create(model="gpt-4o", messages=SAID)
            list(client.chat.completions.create(model="gpt-4o-mini", messages=SAID, stream=True))
    counts = cache.stats.by_model
    assert {name: (c.hits, c.misses, c.stored) for name, c in counts.items()} == {
        "gpt-4o": (2, 1, 1),
        "gpt-4o-mini": (2, 1, 1),
    }
    spent = counts["gpt-4o"]
    assert spent.tokens_in_saved == 2 * spent.tokens_in_spent > 0
    assert spent.tokens_out_saved == 2 * spent.tokens_out_spent > 0
    assert spent.seconds_saved == pytest.approx(2 * spent.seconds_spent)


def test_counting_a_hit_reads_no_record(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = stats.model_of
    monkeypatch.setattr(stats, "model_of", lambda entry: read.append(entry) or real(entry))
    with Cache.memory():
        for _ in range(5):
            client.chat.completions.create(model="gpt-4o", messages=SAID)
            bare("hi")
            told("hi", "m")
    # Once for each source and model, and once for each key of a function whose answers have tokens.
    assert len(read) == 4


def test_money_is_what_the_prices_say(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = {"input_tokens": 2, "output_tokens": 1}
    rates = usage._Rates(lambda told: Decimal(sum(prices[k] * n for k, n in told.items())), 100)
    monkeypatch.setattr(usage, "_rates", lambda one, when: rates if one.model == "gpt-4o" else None)
    with Cache.memory() as cache:
        for _ in range(3):
            client.chat.completions.create(model="gpt-4o", messages=SAID)
            client.chat.completions.create(model="unknown", messages=SAID)
    one = cache.stats.by_model["gpt-4o"]
    money = cache.stats.money()
    assert money is not None
    assert money.spent == 2 * one.tokens_in_spent + one.tokens_out_spent
    assert money.saved == 2 * money.spent


def test_prices_are_those_of_genai_prices() -> None:
    pytest.importorskip("genai_prices")
    assert usage.cost_of(Usage("gpt-4o", 1_000_000, 0)) == Decimal("2.5")
    assert usage.cost_of(Usage("gpt-4o", 0, 1_000_000)) == 10


@pytest.mark.parametrize(("model", "tokens"), [("no-such-model", 5), ("", 5), ("gpt-4o", 0)])
def test_what_has_no_price(model: str, tokens: int) -> None:
    assert usage.cost_of(Usage(model, tokens, 0)) is None


def test_without_genai_prices_there_is_no_money(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "can_price", lambda: False)
    with Cache.memory() as cache:
        told("hi", "gpt-4o")
    assert cache.stats.money() is None


FIELDS, DAYS = ignore("user"), replace(r"day \d+", "day …")


@pytest.fixture
def by_rule() -> tuple[Cache, list[Event]]:
    """A cache with three hits, of which two needed a rule, one of them two of them; its events."""
    events: list[Event] = []
    with Cache.memory(on_event=events.append, same=[FIELDS, DAYS]) as cache:
        for prompt, user in (("day 1", "a"), ("day 1", "b"), ("day 2", "c"), ("day 1", "a")):
            ruled(prompt, user=user)
    return cache, events


def test_hits_by_rule_are_counted_among_the_hits(by_rule: tuple[Cache, list[Event]]) -> None:
    cache, events = by_rule
    found = cache.stats
    assert (found.hits, found.hits_by_rule, found.misses) == (3, 2, 1)
    assert found.by_rule == {FIELDS.label: 2, DAYS.label: 1}
    assert [event.by for event in events] == [(), (FIELDS.label,), (FIELDS.label, DAYS.label), ()]
    assert "Stats(hits=3, hits_by_rule=2, misses=1" in repr(found)
    assert summary(found, "here").startswith("3 of 4 calls answered from here, 2 of them by rule,")
    shown = html.unescape(found._repr_html_())
    assert f"2 by rule: {FIELDS.label} (2), {DAYS.label} (1)" in shown
    both = Stats()
    for _ in range(2):
        both.add(found.as_dict())
    assert (both.hits_by_rule, both.by_rule[FIELDS.label]) == (4, 4)
    found.reset()
    assert (found.hits_by_rule, found.by_rule) == (0, {})


def test_the_log_names_the_rules_of_a_hit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "cachewrap.calls"), Cache.memory(same=FIELDS):
        ruled("hi", user="a")
        ruled("hi", user="b")
    assert caplog.messages[-1].endswith(f" s, by {FIELDS.label}")
    assert caplog.records[-1].cachewrap["by"] == (FIELDS.label,)  # type: ignore[attr-defined]


def test_counts_of_another_process_are_added() -> None:
    with Cache.memory() as cache:
        told("hi", "m")
        told("hi", "m")
    cache.stats.count_bypass("mode off")
    cache.stats.count_bypass("host not known", "model.internal:8000")
    cache.stats.count_absent()
    both = Stats()
    for _ in range(2):
        both.add(cache.stats.as_dict())
    assert (both.hits, both.misses, both.tokens_saved, both.bypassed) == (2, 2, 10, 4)
    assert both.bypass_reasons == {"mode off": 2, "host not known": 2}
    assert both.unknown_hosts == {"model.internal:8000": 2}
    assert both.absent == 2


def test_so_many_hosts_are_told_apart() -> None:
    counted = Stats()
    for number in range(100):
        for _ in range(2):
            counted.count_bypass("host not known", f"host-{number}:80")
    assert len(counted.unknown_hosts) == 65
    assert counted.unknown_hosts["other hosts"] == 72
    both = Stats()
    both.add(counted.as_dict())
    both.add(counted.as_dict())
    assert (len(both.unknown_hosts), sum(both.unknown_hosts.values())) == (65, 400)


def test_a_line_for_each_host_that_is_not_known() -> None:
    counted = Stats()
    counted.count_bypass("host not known", "other.internal:80")
    for _ in range(27):
        counted.count_bypass("host not known", "model.internal:8000")
    assert summary(counted, "memory:") == "no call was cached; cache memory:"
    assert stats.unknown_hosts(counted) == [
        "27 calls to model.internal:8000 were not cached: host not known "
        "(--host model.internal:8000)",
        "1 call to other.internal:80 was not cached: host not known (--host other.internal:80)",
    ]
    counted.count_bypass("mode off")
    assert summary(counted, "memory:").startswith("no call was cached; 1 not cacheable (mode off);")
    for number in range(99):
        counted.count_bypass("host not known", f"host-{number}:80")
    *lines, others = stats.unknown_hosts(counted)
    assert (len(lines), lines[0][:9]) == (5, "27 calls ")
    assert others == "96 calls to other hosts were not cached: host not known (--host PATTERN)"


def test_an_address_of_ipv6_is_told_as_a_shell_takes_it() -> None:
    counted = Stats()
    counted.count_bypass("host not known", "[2606::1]:80")
    [line] = stats.unknown_hosts(counted)
    assert line.endswith("(--host '[2606::1]:80')")


def test_in_replay_the_line_counts_what_was_missed() -> None:
    cache = Cache.memory()
    with cache:
        bare("a")
    with cache.mode("replay") as replay:
        for call in ("a", "a", "a", "a", "b"):
            with contextlib.suppress(ReplayMissError):
                bare(call)
        replay.explain(lambda: bare("c"))
        bare.explain("d")
    assert (cache.stats.hits, cache.stats.absent) == (4, 1)
    line = summary(cache.stats, "memory:")
    assert line.startswith("4 of 6 calls answered from memory:")
    assert line.endswith("; 1 asked upstream, 1 stored; 1 not stored, in mode replay")


def test_counting_anew() -> None:
    with Cache.memory() as cache:
        bare("hi")
    cache.stats.reset()
    assert repr(cache.stats) == "Stats(no calls yet)"


@pytest.mark.parametrize(
    ("calls", "line"),
    [
        ([], "no call of a model was seen; cache memory:"),
        (["a"], "0 of 1 call answered from memory:; 1 asked upstream, 1 stored"),
        (["a", "a", "a"], "2 of 3 calls answered from memory:, which saved 0.0s; 1 asked upstream"),
    ],
)
def test_a_line_for_people(calls: list[str], line: str) -> None:
    with Cache.memory() as cache:
        for call in calls:
            bare(call)
    assert summary(cache.stats, "memory:").startswith(line)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def cache(events: list[Event]) -> Cache:
    return Cache.memory(on_event=events.append)


def test_a_hook_is_told_of_every_call(cache: Cache, events: list[Event]) -> None:
    with cache:
        told("hi", "m")
        told("hi", "m")
    miss, hit = events
    assert (miss.outcome, miss.hit, miss.stored) == (Outcome.MISS, False, True)
    assert (hit.outcome, hit.hit, hit.stored) == (Outcome.HIT, True, False)
    assert (hit.model, hit.tokens_in, hit.tokens_out, hit.seed) == ("m", 3, 2, "41")
    assert hit.key == miss.key == told.cache_key("hi", "m")
    assert hit.upstream_seconds == miss.upstream_seconds
    assert miss.started <= hit.started


def test_a_hook_is_told_of_a_call_that_failed(cache: Cache, events: list[Event]) -> None:
    with cache, pytest.raises(ConnectionError):
        bare("fail")
    (event,) = events
    assert (event.outcome, type(event.error)) == (None, ConnectionError)
    assert event.as_dict()["outcome"] == "error"


def test_a_hook_is_told_of_streams(cache: Cache, events: list[Event]) -> None:
    with cache:
        for _ in range(2):
            list(words("a b"))
    assert [event.outcome for event in events] == [Outcome.MISS, Outcome.HIT]


def test_a_hook_is_told_of_async_calls(cache: Cache, events: list[Event], client: Any) -> None:
    import asyncio

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="none") as asking:
            for _ in range(2):
                await asking.chat.completions.create(model="gpt-4o", messages=SAID)

    with cache:
        asyncio.run(ask())
    assert [(e.outcome, e.source, e.model) for e in events] == [
        (Outcome.MISS, "POST /chat/completions", "gpt-4o"),
        (Outcome.HIT, "POST /chat/completions", "gpt-4o"),
    ]


def test_a_call_that_goes_past_the_cache_says_why(client: Any) -> None:
    events: list[Event] = []
    with Cache.memory(on_event=events.append) as cache:
        client.files.create(file=b"x", purpose="batch")
        with cache.mode("off"):
            bare("hi")
    assert [(e.outcome, e.source, e.reason, e.hit, e.stored) for e in events] == [
        (Outcome.BYPASSED, "POST /files", "endpoint", False, False),
        (Outcome.BYPASSED, "", "mode off", False, False),
    ]
    assert cache.stats.bypass_reasons == {"endpoint": 1, "mode off": 1}
    assert events[0].as_dict()["reason"] == "endpoint"


def test_a_hook_that_fails_costs_a_warning() -> None:
    def hook(event: Event) -> None:
        raise ValueError("it broke")

    with Cache.memory(on_event=hook), pytest.warns(CacheWarning, match="on_event= raised") as seen:
        assert [bare("hi"), bare("hi")] == ["hi", "hi"]
    assert len(seen) == 1


def test_the_log_has_structured_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="cachewrap.calls"), Cache.memory():
        told("hi", "m")
        told("hi", "m")
    records = [record for record in caplog.records if record.name == "cachewrap.calls"]
    facts: list[Any] = [vars(record)["cachewrap"] for record in records]
    assert [(f["outcome"], f["model"], f["tokens_in"]) for f in facts] == [
        ("miss", "m", 3),
        ("hit", "m", 3),
    ]
    assert records[1].getMessage().startswith("hit ")


class Refused(Exception):
    """An error that cannot be copied, as those of SDKs."""

    def __init__(self, message: str, *, body: str) -> None:
        super().__init__(message)


@llm_cached
def refuses(prompt: str) -> str:
    raise Refused(prompt, body="")


def test_a_call_that_failed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    told = caplog.at_level(logging.DEBUG, "cachewrap.calls")
    with told, Cache.memory(), pytest.raises(Refused):
        refuses("hi")
    (facts,) = [vars(r)["cachewrap"] for r in caplog.records if r.name == "cachewrap.calls"]
    assert (facts["outcome"], facts["error"]) == ("error", "Refused")


def test_a_joined_stream_counts_with_the_calls_of_its_kind() -> None:
    with Cache.memory() as cache:
        first, second = words("a b"), words("a b")
        assert [next(first), next(second), *first, *second] == ["a", "a", "b", "b"]
    ((name, counts),) = cache.stats.by_source.items()
    assert (name.rpartition(":")[2], counts.misses, counts.joined) == ("words", 1, 1)


class TestOpenTelemetry:
    @pytest.fixture
    def spans(self) -> Any:
        pytest.importorskip("opentelemetry.sdk")
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        return InMemorySpanExporter()

    @pytest.fixture
    def reader(self, spans: Any) -> Any:
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        return InMemoryMetricReader()

    @pytest.fixture
    def traced(self, spans: Any, reader: Any) -> Cache:
        """A cache whose calls become spans and measures in memory."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        from cachewrap.integrations.opentelemetry import telemetry

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        hook = telemetry(provider, MeterProvider([reader]))
        return Cache.memory(on_event=hook)

    def test_a_span_for_each_call(self, traced: Cache, spans: Any, client: Any) -> None:
        with traced:
            for _ in range(2):
                client.chat.completions.create(model="gpt-4o", messages=SAID)
        miss, hit = spans.get_finished_spans()
        assert miss.name == hit.name == "chat gpt-4o"
        told = dict(hit.attributes)
        assert (miss.attributes["cachewrap.hit"], told["cachewrap.hit"]) == (False, True)
        assert told["gen_ai.operation.name"] == "chat"
        assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "gpt-4o"
        assert told["gen_ai.usage.input_tokens"] > 0 < told["gen_ai.usage.output_tokens"]
        assert hit.start_time < hit.end_time

    def test_a_span_names_the_rules_that_a_hit_needed(self, traced: Cache, spans: Any) -> None:
        rule = ignore("user")
        with Cache.memory(on_event=traced.policy.on_event, same=rule):
            ruled("hi", user="a")
            ruled("hi", user="b")
        miss, hit = spans.get_finished_spans()
        assert "cachewrap.by_rule" not in miss.attributes
        assert hit.attributes["cachewrap.by_rule"] is True
        assert hit.attributes["cachewrap.rules"] == (rule.label,)

    def test_a_span_tells_what_the_tokens_were(self, traced: Cache, spans: Any) -> None:
        with traced:
            detailed("hi")
        [span] = spans.get_finished_spans()
        found = {name.removeprefix("gen_ai.usage."): n for name, n in span.attributes.items()}
        assert found["input_tokens"] == 2404
        assert found["cache_read.input_tokens"] == 1800
        assert found["cache_creation.input_tokens"] == 556
        assert "reasoning.output_tokens" not in found

    def test_a_span_of_a_call_that_failed(self, traced: Cache, spans: Any) -> None:
        with traced, pytest.raises(ConnectionError):
            bare("fail")
        (span,) = spans.get_finished_spans()
        assert span.attributes["error.type"] == "ConnectionError"
        assert not span.status.is_ok

    def test_a_call_that_goes_past_the_cache_is_counted(
        self, traced: Cache, spans: Any, reader: Any
    ) -> None:
        with traced.mode("off"):
            bare("hi")
        (resource,) = reader.get_metrics_data().resource_metrics
        ((calls,),) = [scope.metrics for scope in resource.scope_metrics]
        (point,) = calls.data.data_points
        assert (calls.name, point.value) == ("cachewrap.calls", 1)
        assert point.attributes["cachewrap.bypass_reason"] == "mode off"
        assert spans.get_finished_spans() == ()

    def test_metrics(self, traced: Cache, reader: Any) -> None:
        with traced:
            for _ in range(3):
                told("hi", "m")
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        points = {metric.name: metric.data.data_points for metric in scope.metrics}
        calls = {p.attributes["cachewrap.outcome"]: p.value for p in points["cachewrap.calls"]}
        assert calls == {"miss": 1, "hit": 2}
        saved = {
            p.attributes["gen_ai.token.type"]: p.value for p in points["cachewrap.tokens.saved"]
        }
        assert saved == {"input": 6, "output": 4}
        used = {
            p.attributes["gen_ai.token.type"]: p.sum for p in points["gen_ai.client.token.usage"]
        }
        assert used == {"input": 3, "output": 2}
        assert [p.count for p in points["gen_ai.client.operation.duration"]] == [1]


@dataclass
class Told:
    """A hook that compares by value, and so has no hash."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)


def test_a_hook_need_not_have_a_hash() -> None:
    told = Told()
    cache = Cache.memory(on_event=told)
    with cache.mode("refresh"), cache.samples():
        bare("hi")
    assert len(told.events) == 1


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        pytest.param(0.0, "$0.0000", id="nothing"),
        pytest.param(0.00000123, "<$0.0001", id="next-to-nothing"),
        pytest.param(0.00016, "$0.0002", id="little"),
        pytest.param(12.5, "$12.5000", id="some"),
        pytest.param(Decimal("-0.25"), "-$0.2500", id="less-than-nothing"),
        pytest.param(Decimal("0.01975"), "$0.0198", id="exact"),
        pytest.param(1234.567, "$1,234.57", id="much"),
    ],
)
def test_money_is_rounded_where_it_is_shown(amount: float, text: str) -> None:
    assert usage.money_text(amount) == text
