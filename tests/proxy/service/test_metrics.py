"""The counts, as Prometheus reads them."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cachewrap import Cache
from cachewrap.proxy import metrics as shown
from cachewrap.proxy.metrics import Label, Metrics
from cachewrap.proxy.settings import Served
from cachewrap.stores.breaker import breaker_of


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a page says, by name and labels."""
    metrics.update()
    status, kind, body = metrics.page()
    assert status == 200
    assert kind.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"cachewrap_{name}", tuple(sorted(labels.items()))))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Cache.memory())


def served(**more: Any) -> Served:
    given = {"upstream": "openai", "outcome": "hit", "status": 200, "seconds": 0.002}
    return Served(**{**given, **more})


def test_requests_are_counted_by_upstream_outcome_and_status(metrics: Metrics) -> None:
    for one in (served(), served(), served(outcome="miss"), served(outcome="miss", status=429)):
        metrics.add(one)
    name = "requests_total"
    assert value(metrics, name, upstream="openai", outcome="hit", status="200") == 2
    assert value(metrics, name, upstream="openai", outcome="miss", status="200") == 1
    assert value(metrics, name, upstream="openai", outcome="miss", status="429") == 1


def test_seconds_are_in_buckets(metrics: Metrics) -> None:
    metrics.add(served(seconds=0.002, first_seconds=0.0004))
    of = {"upstream": "openai", "outcome": "hit"}
    assert value(metrics, "request_seconds_count", **of) == 1
    assert value(metrics, "request_seconds_bucket", **of, le="0.001") == 0
    assert value(metrics, "request_seconds_bucket", **of, le="0.0025") == 1
    assert value(metrics, "first_byte_seconds_bucket", **of, le="0.0005") == 1


def test_bytes_and_errors(metrics: Metrics) -> None:
    metrics.add(served(received=10, sent=20, error="client left"))
    assert value(metrics, "received_bytes_total", upstream="openai") == 10
    assert value(metrics, "sent_bytes_total", upstream="openai") == 20
    assert value(metrics, "errors_total", upstream="openai", error="client left") == 1


def test_what_is_under_way(metrics: Metrics) -> None:
    assert value(metrics, "requests_under_way") == 0
    metrics.under_way.inc()
    assert value(metrics, "requests_under_way") == 1


def test_a_store_that_is_left_alone(metrics: Metrics) -> None:
    assert value(metrics, "store_up") == 1
    breaker_of("read a place").failed(OSError("down"), 30)
    assert value(metrics, "store_up") == 0


def test_what_the_cache_counts(metrics: Metrics) -> None:
    metrics._cache.stats.count_error()
    metrics._cache.stats.count_rules(('ignore("user")', "renumber()"))
    metrics.update(dropped=3)
    metrics.update(dropped=3)
    assert value(metrics, "store_errors_total") == 1
    assert value(metrics, "hits_by_rule_total") == 1
    assert value(metrics, "log_lines_dropped_total") == 3


def test_savings_by_model() -> None:
    cache = Cache.memory()
    metrics = Metrics(cache)
    group = cache.stats._group("POST /v1/chat/completions", "gpt-4o", None)
    group.told.append((1000, 100, 2.5, ()))
    assert value(metrics, "tokens_saved_total", model="gpt-4o", kind="in") == 1000
    assert value(metrics, "tokens_saved_total", model="gpt-4o", kind="out") == 100
    assert value(metrics, "seconds_saved_total", model="gpt-4o") == 2.5
    group.told.append((1000, 100, 2.5, ()))
    assert value(metrics, "tokens_saved_total", model="gpt-4o", kind="in") == 2000
    assert (value(metrics, "dollars_saved_total", model="gpt-4o") or 0) > 0


def test_versions_and_no_time_of_creation(metrics: Metrics) -> None:
    metrics.add(served())
    names = {name for name, _ in samples(metrics)}
    assert "cachewrap_build_info" in names
    assert not [name for name in names if name.endswith("_created")]


# -- bounds ----------------------------------------------------------------------------------------


def test_a_label_tells_the_first_values_apart() -> None:
    label = Label(2)
    assert [label.of(value) for value in "abcabc"] == ["a", "b", "other", "a", "b", "other"]


def test_clients_make_no_end_of_series(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_REMEMBERED", 100)
    for n in range(500):
        one = served(upstream=f"u{n}", outcome=f"o{n}", status=n, error=f"e{n}")
        metrics.add(one)
        metrics._cache.stats._group("POST /x", f"model-{n}", None).told.append((1, 1, 1.0, ()))
    found = samples(metrics)
    models = {dict(labels)["model"] for _, labels in found if "model" in dict(labels)}
    assert len(models) == 51 and "other" in models
    for name in ("upstream", "outcome", "status", "error"):
        assert len({dict(labels).get(name) for _, labels in found}) <= 66
    assert len(metrics._counted) <= 100
