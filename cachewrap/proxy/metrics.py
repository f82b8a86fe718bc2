"""The counts of the proxy, as Prometheus reads them, and the pages that tell of the proxy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from cachewrap.cache import Cache
from cachewrap.proxy.settings import Served
from cachewrap.stores import breaker

_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
_OTHER: Final = "other"
_MODELS: Final = 50
_VALUES: Final = 64
"""Values of a label, at most, that are told apart: those that are seen first."""

_REMEMBERED: Final = 4096


class _Counted(NamedTuple):
    requests: Counter
    seconds: Histogram
    first: Histogram
    received: Counter
    sent: Counter


class Label:
    """The values of a label: the first of them by name, all others as one.

    Args:
        most: how many have a name.
    """

    def __init__(self, most: int = _VALUES) -> None:
        self._most = most
        self._seen: set[str] = set()

    def of(self, value: str) -> str:
        """The value that is shown."""
        if value not in self._seen:
            if len(self._seen) >= self._most:
                return _OTHER
            self._seen.add(value)
        return value


class Metrics:
    """The counts of one process, of all that were told to `add`.

    Args:
        cache: the proxy's, whose own counts are shown as well.
        folder: where the counts of several processes are put together; ``""`` for one alone.
    """

    def __init__(self, cache: Cache, folder: str = "") -> None:
        self._cache = cache
        self._folder = folder
        self._registry = registry = CollectorRegistry()
        self._counted: dict[tuple[str, str, int], _Counted] = {}
        self._upstreams, self._statuses, self._outcomes = Label(), Label(), Label()
        self._error_names, self._models = Label(), Label(_MODELS)
        self._last: dict[Any, float] = {}

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"cachewrap_{name}", told, labels, registry=registry)

        def histogram(name: str, told: str) -> Histogram:
            labels = ("upstream", "outcome")
            return Histogram(f"cachewrap_{name}", told, labels, registry=registry, buckets=_SECONDS)

        self._requests = counter(
            *("requests", "Requests that were answered."), "upstream", "outcome", "status"
        )
        self._seconds = histogram("request_seconds", "From a request's head to its answer's end.")
        self._first = histogram("first_byte_seconds", "From a request's head to its answer's.")
        self._received = counter("received_bytes", "Bytes of requests' bodies.", "upstream")
        self._sent = counter("sent_bytes", "Bytes of answers' bodies.", "upstream")
        self._errors = counter("errors", "Requests that went wrong.", "upstream", "error")
        self._stored = counter("stored", "Answers that were written to the store.")
        self._by_rule = counter("hits_by_rule", "Answers that were stored for another request.")
        self._store_errors = counter("store_errors", "Faults of the store that a call survived.")
        self._tokens = counter("tokens_saved", "Tokens of answers from the cache.", "model", "kind")
        self._saved = counter("seconds_saved", "Seconds that upstream had taken for them.", "model")
        self._money = counter("dollars_saved", "What they would cost today.", "model")
        self._dropped = counter("log_lines_dropped", "Lines of the log without room.")
        self.under_way = Gauge(
            "cachewrap_requests_under_way",
            "Requests that are being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._store_up = Gauge(
            "cachewrap_store_up",
            "Whether the store is asked: 0 while it is left alone after a fault.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        Gauge(
            "cachewrap_build_info",
            "Versions, as labels.",
            ("version", "python"),
            registry=registry,
            multiprocess_mode="max",
        ).labels(_version(), sys.version.partition(" ")[0]).set(1)
        self.update()

    def add(self, served: Served) -> None:
        """Count an answered request."""
        name = (served.upstream, served.outcome, served.status)
        counted = self._counted.get(name) or self._new(name)
        counted.requests.inc()
        counted.seconds.observe(served.seconds)
        counted.first.observe(served.first_seconds)
        if served.received:
            counted.received.inc(served.received)
        if served.sent:
            counted.sent.inc(served.sent)
        if served.error:
            upstream = self._upstreams.of(served.upstream)
            self._errors.labels(upstream, self._error_names.of(served.error)).inc()

    def _new(self, name: tuple[str, str, int]) -> _Counted:
        if len(self._counted) >= _REMEMBERED:
            self._counted.clear()
        upstream, outcome = self._upstreams.of(name[0]), self._outcomes.of(name[1])
        counted = self._counted[name] = _Counted(
            self._requests.labels(upstream, outcome, self._statuses.of(str(name[2]))),
            self._seconds.labels(upstream, outcome),
            self._first.labels(upstream, outcome),
            self._received.labels(upstream),
            self._sent.labels(upstream),
        )
        return counted

    def update(self, dropped: int = 0) -> None:
        """Take over what is counted elsewhere: by the cache, and by the log.

        Args:
            dropped: lines of the log.
        """
        stats = self._cache.stats
        self._store_up.set(0 if breaker.is_any_open() else 1)
        self._grow(self._store_errors, stats.errors)
        self._grow(self._by_rule, stats.hits_by_rule)
        self._grow(self._dropped, dropped)
        for model, counts in stats.by_model.items():
            shown = self._models.of(model)
            self._grow(self._stored, counts.stored, model)
            self._grow(self._tokens.labels(shown, "in"), counts.tokens_in_saved, model)
            self._grow(self._tokens.labels(shown, "out"), counts.tokens_out_saved, model)
            self._grow(self._saved.labels(shown), counts.seconds_saved, model)
        for model, money in stats.money_by_model().items():
            self._grow(self._money.labels(self._models.of(model)), float(money.saved), model)

    def _grow(self, counter: Counter, total: float, of: str = "") -> None:
        name = (id(counter), of)
        more = total - self._last.get(name, 0.0)
        if more > 0:
            self._last[name] = total
            counter.inc(more)

    def page(self) -> tuple[int, str, bytes]:
        """All of it, as Prometheus reads it: status, content type, body."""
        registry = self._registry
        if self._folder:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]
        return 200, CONTENT_TYPE_LATEST, generate_latest(_Shown(registry))


def _version() -> str:
    try:
        return version("cachewrap")
    except PackageNotFoundError:  # it runs from where it was unpacked
        return "unknown"


class _Shown:
    """A registry as it is shown: without when each count began."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric


def health(ending: bool) -> tuple[int, str, bytes]:
    """The page that tells whether requests are answered, which the store is no condition of.

    Args:
        ending: whether the proxy ends, and takes no more.
    """
    facts = {"status": "ending" if ending else "ok"}
    if breaker.is_any_open():
        facts["store"] = "down"
    return 503 if ending else 200, "application/json", json.dumps(facts).encode()


_FRONT: Final = """\
cachewrap: a proxy that answers what was asked before, and asks for the rest.

A program uses it by its base URL, whose first part names the provider:

  OPENAI_BASE_URL={root}/openai/v1
  ANTHROPIC_BASE_URL={root}/anthropic

These are known; others are named when it is started, by --upstream NAME=URL:

{places}

  /healthz  tells whether it answers
  /metrics  tells what it counted

https://cachewrap.readthedocs.io/en/latest/serve.html
"""


def front(root: str, places: Mapping[str, str]) -> tuple[int, str, bytes]:
    """What the proxy is, for who looks at it with a browser.

    Args:
        root: the proxy's address, without a slash at the end.
        places: where requests go, by name.
    """
    longest = max(map(len, places), default=0)
    lines = "\n".join(f"  /{name:<{longest}}  {place}" for name, place in places.items())
    text = _FRONT.format(root=root, places=lines)
    return 200, "text/plain; charset=utf-8", text.encode()
