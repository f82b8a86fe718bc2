"""The table of tools that watch calls, each switched on as its own documentation says."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar
from unittest import mock

from beside.tools.kinds import OUTER, Spans, Tool, nested

CHAT = frozenset({"create", "stream", "helper", "raw"})
ALL = CHAT | {"parse", "responses", "responses stream", "embeddings"}
NOWHERE = "http://127.0.0.1:9"
"""An address at which nobody listens."""


class Instrumented(Spans):
    """One of the instrumentations of OpenTelemetry.

    Attributes:
        classes: the instrumentors, by module and name.
    """

    classes: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self._instrumentors = []
        for name in self.classes:
            module, _, cls = name.rpartition(".")
            self._instrumentors.append(getattr(import_module(module), cls)())

    def on(self) -> None:
        for instrumentor in self._instrumentors:
            instrumentor.instrument(tracer_provider=self.provider)

    def off(self) -> None:
        for instrumentor in self._instrumentors:
            instrumentor.uninstrument()


_OTEL = "opentelemetry.instrumentation"
_HTTPX = tuple(
    f"{_OTEL}.httpx.{name}ClientInstrumentor"
    for module, name in (("httpx", "HTTPX"), ("httpx2", "HTTPX2"))
    if find_spec(module)
)


class Traceloop(Instrumented):
    """With what goes over HTTP, which stands in the span of its call.

    It looks for the methods to unwrap where they are not, and so stays. Of a response it tells
    once, by its id.
    """

    needs = (f"{_OTEL}.openai", f"{_OTEL}.httpx")
    classes = (f"{_OTEL}.openai.OpenAIInstrumentor", *_HTTPX)
    ways = ALL
    once = frozenset({"responses"})
    undoes = restores = False


class OpenAIv2(Instrumented):
    needs = (f"{_OTEL}.openai_v2",)
    classes = (f"{_OTEL}.openai_v2.OpenAIInstrumentor",)
    ways = CHAT | {"embeddings"}


class OpenInference(Instrumented):
    needs = ("openinference.instrumentation.openai",)
    classes = ("openinference.instrumentation.openai.OpenAIInstrumentor",)
    ways = ALL
    # What it puts back are the functions, into the classes that had inherited them.
    restores = False


class Httpx(Instrumented):
    needs = (f"{_OTEL}.httpx",)
    classes = _HTTPX
    http = {"httpx": 5, "httpx async": 5, "httpx2": 5, "httpx2 async": 5}  # noqa: RUF012


class Requests(Instrumented):
    needs = (f"{_OTEL}.requests", "requests")
    classes = (f"{_OTEL}.requests.RequestsInstrumentor",)
    http = {"requests": 5}  # noqa: RUF012


class Aiohttp(Instrumented):
    needs = (f"{_OTEL}.aiohttp_client", "aiohttp")
    classes = (f"{_OTEL}.aiohttp_client.AioHttpClientInstrumentor",)
    http = {"aiohttp": 5}  # noqa: RUF012


class Logfire(Spans):
    needs = ("logfire",)
    ways = ALL
    restores = False  # as OpenInference

    def __init__(self) -> None:
        super().__init__()
        import logfire

        logfire.configure(
            send_to_logfire=False,
            console=False,
            metrics=False,
            additional_span_processors=[self.processor],
        )
        self._logfire = logfire
        self._undo: AbstractContextManager[object] = contextlib.nullcontext()

    def on(self) -> None:
        self._undo = self._logfire.instrument_openai()

    def off(self) -> None:
        with self._undo:
            pass

    def outer(self) -> AbstractContextManager[object]:
        return self._logfire.span(OUTER)


class Sentry(Tool):
    """It has no undoing: without a client, what it has wrapped does nothing."""

    needs = ("sentry_sdk",)
    ways = ALL - {"parse"}
    http: ClassVar = {
        "httpx": 5,
        "httpx async": 5,
        "httpx2": 5,
        "httpx2 async": 5,
        "requests": 1,
        "aiohttp": 5,
    }
    restores = False

    def __init__(self) -> None:
        self._taken: list[tuple[str, Any]] = []

    def on(self) -> None:
        import sentry_sdk
        from sentry_sdk.transport import Transport

        taken = self._taken

        class Memory(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                taken.extend((item.type, item.payload.json) for item in envelope.items)

        sentry_sdk.init(
            dsn=f"{NOWHERE.replace('//', '//key@')}/1", transport=Memory, traces_sample_rate=1.0
        )

    def off(self) -> None:
        import sentry_sdk

        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)

    def outer(self) -> AbstractContextManager[object]:
        import sentry_sdk

        return sentry_sdk.start_transaction(name=OUTER)

    def take(self) -> Counter[str]:
        spans: list[tuple[Any, Any, str]] = []
        for kind, told in self._taken:
            if kind == "transaction":
                spans.append((told["contexts"]["trace"]["span_id"], None, OUTER))
                spans += [
                    (span["span_id"], span["parent_span_id"], "http")
                    for span in told["spans"]
                    if span["op"] == "http.client"
                ]
            elif kind == "span":  # what asks a model it sends apart
                spans += [
                    (span["span_id"], span["parent_span_id"], "call") for span in told["items"]
                ]
        self._taken.clear()
        return nested(spans)


class Langfuse(Spans):
    """Its import wraps; there is no undoing but taking its wrappers out by hand."""

    needs = ("langfuse", "openai")
    ways = ALL
    restores = False

    def __init__(self) -> None:
        super().__init__()
        from langfuse import Langfuse as Client

        self._client = Client(
            public_key="pk",
            secret_key="sk",
            base_url=NOWHERE,
            tracer_provider=self.provider,
            span_exporter=self.exporter,
        )

    def on(self) -> None:
        import langfuse.openai as patched

        if getattr(self, "_was_on", False):
            patched.register_tracing()
        self._was_on = True

    def take(self) -> Counter[str]:
        self._client.flush()
        return super().take()

    def off(self) -> None:
        import langfuse.openai as patched

        for one in patched.OPENAI_METHODS_V1:
            if module := sys.modules.get(one.module):
                owner = getattr(module, one.object)
                wrapped = vars(owner)[one.method]
                if hasattr(wrapped, "_self_wrapper"):
                    setattr(owner, one.method, wrapped.__wrapped__)


class LangSmith(Tool):
    """It wraps a client's own methods."""

    needs = ("langsmith",)
    ways = ALL - {"embeddings"}

    def __init__(self) -> None:
        from langsmith import Client

        self._runs: list[tuple[Any, Any, str]] = []
        runs = self._runs

        class Memory(Client):
            def create_run(self, name: str, inputs: Any, run_type: Any, **more: Any) -> None:
                runs.append((str(more["id"]), str(more.get("parent_run_id")), "call"))

            def update_run(self, run_id: Any, **more: Any) -> None:
                """What it was, it is."""

        self._client = Memory(api_url=NOWHERE, api_key="k", auto_batch_tracing=False, info={})
        self._is_on = False

    def on(self) -> None:
        self._is_on = True

    def off(self) -> None:
        self._is_on = False

    def client(self, client: Any) -> Any:
        from langsmith.wrappers import wrap_openai

        return wrap_openai(client) if self._is_on else client

    @contextlib.contextmanager
    def outer(self) -> Any:
        from langsmith import trace, tracing_context

        with tracing_context(enabled=True, client=self._client):
            with trace(OUTER, client=self._client) as run:
                yield
            self._runs.append((str(run.id), None, OUTER))

    def take(self) -> Counter[str]:
        outer = {name for name, _, kind in self._runs if kind == OUTER}
        runs = [run for run in self._runs if run[2] == OUTER or run[0] not in outer]
        self._runs.clear()
        return nested(runs)


class Braintrust(Tool):
    """It wraps a client's own methods."""

    needs = ("braintrust",)
    ways = ALL

    def __init__(self) -> None:
        from braintrust import logger
        from braintrust.test_helpers import init_test_logger

        self._open = contextlib.ExitStack()
        self._memory = self._open.enter_context(logger._internal_with_memory_background_logger())
        self._logger = init_test_logger("tests")
        self._is_on = False

    def on(self) -> None:
        self._is_on = True

    def off(self) -> None:
        self._is_on = False

    def client(self, client: Any) -> Any:
        from braintrust import wrap_openai

        return wrap_openai(client) if self._is_on else client

    def outer(self) -> AbstractContextManager[object]:
        import braintrust

        return braintrust.start_span(name=OUTER)

    def take(self) -> Counter[str]:
        spans = {}
        for row in self._memory.pop():
            spans.setdefault(row["span_id"], {}).update(
                {key: value for key, value in row.items() if value is not None}
            )
        return nested(
            (
                name,
                *(row.get("span_parents") or [None])[:1],
                OUTER if row["span_attributes"]["name"] == OUTER else "call",
            )
            for name, row in spans.items()
        )


class BraintrustEverywhere(Braintrust):
    """It wraps the classes, for good."""

    undoes = restores = False

    def on(self) -> None:
        from braintrust.oai import patch_openai

        super().on()
        patch_openai()

    def client(self, client: Any) -> Any:
        return client


class Instructor(Tool):
    """It wraps a client's `create`, and has an event for each call."""

    needs = ("instructor",)
    ways = frozenset({"model"})

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._is_on = False

    def on(self) -> None:
        self._is_on = True

    def off(self) -> None:
        self._is_on = False

    def client(self, client: Any) -> Any:
        if not self._is_on:
            return client
        import instructor

        made = instructor.from_openai(client, mode=instructor.Mode.TOOLS)
        made.on("completion:response", self._note)
        return made

    def _note(self, *_: Any, **__: Any) -> None:
        self._seen["call in nothing"] += 1

    def take(self) -> Counter[str]:
        seen, self._seen = self._seen, Counter()
        return seen


class Wrapped(Tool):
    """Somebody's own wrapper of methods, in one of the ways of writing such.

    Attributes:
        methods: what is wrapped, by module, class and name.
    """

    needs = ("openai",)
    methods: ClassVar[tuple[tuple[str, str, str], ...]] = tuple(
        ("openai.resources.chat.completions", cls, "create")
        for cls in ("Completions", "AsyncCompletions")
    )
    ways = CHAT

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._undo: list[Callable[[], object]] = []

    def on(self) -> None:
        for module, cls, name in self.methods:
            self._undo.append(self.wrap(getattr(import_module(module), cls), name))

    def off(self) -> None:
        while self._undo:
            self._undo.pop()()

    def note(self) -> None:
        """A call was seen."""
        self._seen["call in nothing"] += 1

    def wrap(self, owner: type, name: str) -> Callable[[], object]:
        """Wrap a method; what undoes it."""
        original, own = getattr(owner, name), vars(owner).get(name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.note()
            return original(*args, **kwargs)

        setattr(owner, name, wrapper)
        if own is None:
            return partial(delattr, owner, name)
        return partial(setattr, owner, name, own)

    def take(self) -> Counter[str]:
        seen, self._seen = self._seen, Counter()
        return seen


class WrappedByWrapt(Wrapped):
    def wrap(self, owner: type, name: str) -> Callable[[], object]:
        import wrapt

        own = vars(owner)[name]

        def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            self.note()
            return wrapped(*args, **kwargs)

        wrapt.wrap_function_wrapper(owner, name, wrapper)
        return partial(setattr, owner, name, own)


class Mocked(Wrapped):
    signed = True

    def wrap(self, owner: type, name: str) -> Callable[[], object]:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.note()
            return original(*args, **kwargs)

        patch = mock.patch.object(owner, name, autospec=True, side_effect=wrapper)
        patch.start()
        return patch.stop


class WrappedRequest(Wrapped):
    """`request` on the client's class itself, which inherits it."""

    methods = tuple(("openai", cls, "request") for cls in ("OpenAI", "AsyncOpenAI"))
    ways = ALL


class WrappedBaseRequest(Wrapped):
    methods = tuple(
        ("openai._base_client", cls, "request") for cls in ("SyncAPIClient", "AsyncAPIClient")
    )
    ways = ALL


class WrappedPost(Wrapped):
    methods = tuple(
        ("openai._base_client", cls, "post") for cls in ("SyncAPIClient", "AsyncAPIClient")
    )
    ways = ALL


class Subclassed(Tool):
    """A client class of one's own, whose `request` calls that of the SDK."""

    needs = ("openai",)
    ways = ALL

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._is_on = False

    def on(self) -> None:
        self._is_on = True

    def off(self) -> None:
        self._is_on = False

    def client(self, client: Any) -> Any:
        if not self._is_on:
            return client
        note, kind = self._note, type(client)

        class Own(kind):  # type: ignore[misc, valid-type]
            def request(self, *args: Any, **kwargs: Any) -> Any:
                note()
                return super().request(*args, **kwargs)

        return Own(base_url=client.base_url, api_key="sk-test", max_retries=0)

    def _note(self) -> None:
        self._seen["call in nothing"] += 1

    def take(self) -> Counter[str]:
        seen, self._seen = self._seen, Counter()
        return seen


class Datadog(Tool):
    """Its undoing leaves a wrapper around the adapters of requests."""

    needs = ("ddtrace",)
    restores = False
    ways = ALL
    http: ClassVar = {
        "httpx": 5,
        "httpx async": 5,
        "requests": 5,
        "aiohttp": 5,
    }

    def __init__(self) -> None:
        from ddtrace.trace import TraceFilter, tracer

        self._tracer, self._taken = tracer, []
        taken = self._taken

        class Memory(TraceFilter):
            def process_trace(self, trace: Any) -> None:
                taken.extend(trace)

        tracer.configure(trace_processors=[Memory()])

    _LIBRARIES = ("openai", "httpx", "requests", "aiohttp")

    def on(self) -> None:
        import ddtrace

        installed = {name: True for name in self._LIBRARIES if find_spec(name)}
        ddtrace.patch(**installed)

    def off(self) -> None:
        for name in self._LIBRARIES:
            if find_spec(name):
                import_module(f"ddtrace.contrib.internal.{name}.patch").unpatch()

    def outer(self) -> AbstractContextManager[object]:
        return self._tracer.trace(OUTER)

    def take(self) -> Counter[str]:
        spans, self._taken[:] = list(self._taken), []
        return nested(
            (
                span.span_id,
                span.parent_id,
                OUTER if span.name == OUTER else "call" if "openai" in span.name else "http",
            )
            for span in spans
        )


TOOLS: dict[str, type[Tool]] = {
    "sentry": Sentry,
    "opentelemetry httpx": Httpx,
    "opentelemetry requests": Requests,
    "opentelemetry aiohttp": Aiohttp,
    "opentelemetry openai-v2": OpenAIv2,
    "traceloop": Traceloop,
    "openinference": OpenInference,
    "logfire": Logfire,
    "langfuse": Langfuse,
    "langsmith": LangSmith,
    "braintrust": Braintrust,
    "braintrust everywhere": BraintrustEverywhere,
    "instructor": Instructor,
    "ddtrace": Datadog,
    "own function": Wrapped,
    "own wrapt": WrappedByWrapt,
    "own mock": Mocked,
    "own request": WrappedRequest,
    "own request of the base": WrappedBaseRequest,
    "own post": WrappedPost,
    "own subclass": Subclassed,
}


def installed(tool: type[Tool]) -> bool:
    """Whether everything is there that a tool needs."""
    for name in tool.needs:
        parts = name.split(".")
        for upto in range(1, len(parts) + 1):
            if find_spec(".".join(parts[:upto])) is None:
                return False
    return True
