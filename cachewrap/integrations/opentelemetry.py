"""Spans and metrics of OpenTelemetry for the calls that a cache served, by `on_event=`.

Names follow the semantic conventions for generative AI,
https://opentelemetry.io/docs/specs/semconv/gen-ai/, and begin with ``cachewrap.`` where these have
none.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from cachewrap.entry import Outcome
from cachewrap.telemetry.events import Event, Hook

_NAME: Final = "cachewrap"
_OPERATIONS: Final = {
    "chat/completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_DETAILS: Final = {
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
"""Attributes for what is told apart of the tokens, which are also within the others."""


def telemetry(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Hook:
    """A hook that makes a span of every call, and counts it.

    >>> from cachewrap import Cache
    >>> cache = Cache.memory(on_event=telemetry())

    The span has ``gen_ai.operation.name``, ``gen_ai.request.model``, ``gen_ai.response.model``,
    ``gen_ai.usage.input_tokens`` and ``output_tokens``, and where some of them were read from the
    provider's own cache, written to it, or were thoughts, ``gen_ai.usage.cache_read.input_tokens``,
    ``gen_ai.usage.cache_creation.input_tokens`` and ``gen_ai.usage.reasoning.output_tokens``.
    ``cachewrap.hit`` says whether the call was
    answered without asking upstream, and ``cachewrap.outcome`` how; ``cachewrap.by_rule`` is true
    for a hit that needed a rule of equality, and ``cachewrap.rules`` names those;
    ``cachewrap.by_alias`` is true for one that an alias led to. The metrics
    ``gen_ai.client.operation.duration`` and ``gen_ai.client.token.usage`` are of the calls that
    went upstream, so that they stay what was waited and paid for; ``cachewrap.calls``,
    ``cachewrap.tokens.saved`` and ``cachewrap.seconds.saved`` are the cache's own. A call that goes
    past the cache has no span: ``cachewrap.calls`` counts it, with ``cachewrap.bypass_reason``.

    Args:
        tracer_provider: makes the tracer; by default the global one.
        meter_provider: makes the meter; by default the global one.
    """
    return _Telemetry(tracer_provider, meter_provider)


class _Telemetry:
    def __init__(self, traces: TracerProvider | None, measures: MeterProvider | None) -> None:
        self._tracer = get_tracer(_NAME, tracer_provider=traces)
        meter = get_meter(_NAME, meter_provider=measures)
        self._calls = meter.create_counter("cachewrap.calls", "{call}", "Calls, by outcome")
        self._tokens_saved = meter.create_counter(
            "cachewrap.tokens.saved", "{token}", "Tokens of the answers served"
        )
        self._seconds_saved = meter.create_counter(
            "cachewrap.seconds.saved", "s", "Seconds that upstream took for the answers served"
        )
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Duration of calls that went upstream"
        )
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of calls that went upstream"
        )

    def __call__(self, event: Event) -> None:
        if event.outcome is Outcome.BYPASSED:
            why = {"cachewrap.outcome": "bypassed", "cachewrap.bypass_reason": event.reason}
            self._calls.add(1, {**_attributes(event), **why, "cachewrap.hit": False})
            return
        facts = event.as_dict()
        told = _attributes(event)
        own = {"cachewrap.outcome": facts["outcome"], "cachewrap.hit": event.hit}
        if event.reason:
            own["cachewrap.unstored_reason"] = event.reason
        if event.by:
            own["cachewrap.by_rule"] = True
        if event.alias:
            own["cachewrap.by_alias"] = True
        self._span(event, {**told, **own})
        self._calls.add(1, {**told, **own})
        tokens = {"input": event.tokens_in, "output": event.tokens_out}
        if event.hit:
            self._seconds_saved.add(event.upstream_seconds, told)
            for kind, count in tokens.items():
                self._tokens_saved.add(count, {**told, "gen_ai.token.type": kind})
            return
        failed = {} if event.error is None else {"error.type": facts["error"]}
        self._duration.record(event.seconds, {**told, **failed})
        for kind, count in tokens.items():
            if count:
                self._usage.record(count, {**told, "gen_ai.token.type": kind})

    def _span(self, event: Event, attributes: dict[str, Any]) -> None:
        operation = attributes.get("gen_ai.operation.name", event.source)
        span = self._tracer.start_span(
            f"{operation} {event.model}".rstrip(),
            kind=SpanKind.CLIENT,
            attributes={
                **attributes,
                "gen_ai.usage.input_tokens": event.tokens_in,
                "gen_ai.usage.output_tokens": event.tokens_out,
                **{_DETAILS[name]: n for name, n in event.details.items() if name in _DETAILS},
                "cachewrap.request.key": event.key,
                "cachewrap.seed": event.seed,
                "cachewrap.stored": event.stored,
                "cachewrap.upstream_seconds": event.upstream_seconds,
                **({"cachewrap.rules": event.by} if event.by else {}),
            },
            start_time=int(event.started * 1e9),
        )
        if event.error is not None:
            span.set_attribute("error.type", type(event.error).__qualname__)
            span.record_exception(event.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(int((event.started + event.seconds) * 1e9))


def _attributes(event: Event) -> dict[str, Any]:
    method, _, path = event.source.partition(" /")
    found: dict[str, Any] = {"cachewrap.source": event.source}
    if method == "POST":
        found["gen_ai.operation.name"] = _OPERATIONS.get(path, path)
    if event.model:
        found["gen_ai.request.model"] = event.model
    if event.answered_by:
        found["gen_ai.response.model"] = event.answered_by
    return found
