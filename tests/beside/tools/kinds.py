"""What the tests know of a tool that watches calls: switching it on and off, and what it saw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

OUTER = "outer"
"""What the tests do around their calls, as a tool that has spans names it."""


class Tool(ABC):
    """A tool that watches calls of an SDK or of an HTTP library, seen from outside.

    Attributes:
        needs: the modules without which it is left out.
        ways: the ways of asking an SDK that it sees.
        http: what it sees of five calls of which one goes over HTTP, by HTTP library: 5 where it
            wraps a method that is called for each, 1 where it looks at connections.
        once: the ways in which it tells of one answer once, however often that comes.
        undoes: whether it sees no call any more when it is undone.
        restores: whether its undoing leaves the classes as they were.
        signed: whether it refuses what is not in the SDK's own signature.
    """

    needs: ClassVar[tuple[str, ...]]
    ways: ClassVar[frozenset[str]] = frozenset()
    http: ClassVar[dict[str, int]] = {}
    once: ClassVar[frozenset[str]] = frozenset()
    undoes: ClassVar[bool] = True
    restores: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    @abstractmethod
    def on(self) -> None:
        """Switch it on."""

    @abstractmethod
    def off(self) -> None:
        """Undo that."""

    def client(self, client: Any) -> Any:
        """A client of an SDK, as a program with this tool has it."""
        return client

    def outer(self) -> AbstractContextManager[object]:
        """What is open around calls, so that what it sees has a parent."""
        return nullcontext()

    @abstractmethod
    def take(self) -> Counter[str]:
        """What it saw since the last time: ``call`` and ``http``, each with what that stood in."""


class Spans(Tool):
    """A tool whose spans OpenTelemetry's SDK collects."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()
        self.processor = SimpleSpanProcessor(self.exporter)
        self.provider = TracerProvider()
        self.provider.add_span_processor(self.processor)

    def outer(self) -> AbstractContextManager[object]:
        return self.provider.get_tracer("tests").start_as_current_span(OUTER)

    def take(self) -> Counter[str]:
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return nested(
            (span.context.span_id, span.parent and span.parent.span_id, self.kind(span))
            for span in spans
            if (span.attributes or {}).get("logfire.span_type") != "pending_span"
        )

    def kind(self, span: Any) -> str:
        """What a span tells of."""
        if span.name == OUTER:
            return OUTER
        attributes = span.attributes or {}
        http = {"http.method", "http.request.method"} & set(attributes)
        return "http" if http else "call"


def nested(spans: Iterable[tuple[Any, Any, str]]) -> Counter[str]:
    """What spans tell of, each with what it stands in.

    Args:
        spans: of each what it is called, what its parent is called, and its kind.
    """
    listed = list(spans)
    kinds = {name: kind for name, _, kind in listed}
    return Counter(
        f"{kind} in {kinds.get(parent, 'nothing')}" for _, parent, kind in listed if kind != OUTER
    )
