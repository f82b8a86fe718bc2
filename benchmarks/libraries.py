"""Hits inside libraries that ask through an SDK, beside the same call without a cache.

Upstream answers at once, below the library's HTTP client. A library's own work is its call with the
SDK's methods replaced by some that give back what they gave at a hit; what a hit costs beyond that
is ours. Where a library is not installed, its group says so. DSPy is none of them: it asks by an
engine of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from pydantic import BaseModel

from benchmarks.harness import Row
from benchmarks.shapes import completion, response
from cachewrap import Cache, patch_all, unpatch_all

_AT_ONCE: Final = 10
"""Calls of one turn of an async row, one after the other."""

_ASKED: Final = "Where does the Tagus meet the sea?"
_MODEL: Final = "gpt-4o-mini"

_METHODS: Final = {
    ("openai.resources.chat.completions.completions", "Completions"): ("create", "parse"),
    ("openai.resources.responses.responses", "Responses"): ("create", "parse"),
    ("openai._base_client", "SyncAPIClient"): ("post",),
    ("openai._base_client", "AsyncAPIClient"): ("post",),
}
"""What libraries ask by: a class, which may have an async twin, and its methods."""

Ask = Callable[[], Any]


class City(BaseModel):
    """A structured answer."""

    name: str
    people: int


@dataclass(frozen=True)
class Library:
    """A way in which a library asks.

    Args:
        package: its module.
        make: gives what asks; sync, or a coroutine function.
        target: what a hit may cost of the call without a cache; None where that is the library's.
        is_async: whether it is awaited.
        answer: the message of the answer.
    """

    package: str
    make: Callable[[], Ask]
    target: float | None = None
    is_async: bool = False
    answer: str = "At Lisbon, as a wide estuary that is called the Sea of Straw."


# -- libraries -------------------------------------------------------------------------------


def _langchain(how: str = "invoke", **options: Any) -> Ask:
    ChatOpenAI = _of("langchain_openai").ChatOpenAI

    return partial(getattr(ChatOpenAI(model=_MODEL, **options), how), _ASKED)


def _langchain_tools() -> Ask:
    ChatOpenAI = _of("langchain_openai").ChatOpenAI

    def weather(town: str) -> str:
        """The weather in a town."""
        return town

    def time(town: str) -> str:
        """The time in a town."""
        return town

    return partial(ChatOpenAI(model=_MODEL).bind_tools([weather, time]).invoke, _ASKED)


def _langchain_structured() -> Ask:
    ChatOpenAI = _of("langchain_openai").ChatOpenAI

    return partial(ChatOpenAI(model=_MODEL).with_structured_output(City).invoke, _ASKED)


def _pydantic_ai(kind: str = "OpenAIChatModel") -> Ask:
    Agent = _of("pydantic_ai").Agent
    models = _of("pydantic_ai.models.openai")

    return partial(Agent(getattr(models, kind)(_MODEL)).run, _ASKED)


def _agents(kind: str) -> Ask:
    agents = _of("agents")
    AsyncOpenAI = _of("openai").AsyncOpenAI

    agents.set_tracing_disabled(True)
    model = getattr(agents, kind)(model=_MODEL, openai_client=AsyncOpenAI())
    return partial(agents.Runner.run, agents.Agent(name="a", model=model), _ASKED)


def _litellm(how: str = "completion") -> Ask:
    litellm = _of("litellm")

    litellm.disable_aiohttp_transport = True
    messages = [{"role": "user", "content": _ASKED}]
    return partial(getattr(litellm, how), model=f"openai/{_MODEL}", messages=messages)


def _instructor() -> Ask:
    instructor = _of("instructor")
    OpenAI = _of("openai").OpenAI

    client = instructor.from_openai(OpenAI(), mode=instructor.Mode.JSON)
    messages: Any = [{"role": "user", "content": _ASKED}]
    return partial(client.create, model=_MODEL, messages=messages, response_model=City)


def _autogen() -> Ask:
    UserMessage = _of("autogen_core.models").UserMessage
    OpenAIChatCompletionClient = _of("autogen_ext.models.openai").OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model=_MODEL)
    return partial(client.create, [UserMessage(content=_ASKED, source="user")])


def _smolagents() -> Ask:
    OpenAIModel = _of("smolagents").OpenAIModel

    content = [{"type": "text", "text": _ASKED}]
    return partial(OpenAIModel(model_id=_MODEL), [{"role": "user", "content": content}])


def _haystack() -> Ask:
    OpenAIChatGenerator = _of("haystack.components.generators.chat").OpenAIChatGenerator
    ChatMessage = _of("haystack.dataclasses").ChatMessage

    return partial(OpenAIChatGenerator(model=_MODEL).run, [ChatMessage.from_user(_ASKED)])


def _ag2() -> Ask:
    Agent = _of("ag2").Agent
    OpenAIConfig = _of("ag2.config").OpenAIConfig

    return partial(Agent("a", config=OpenAIConfig(model=_MODEL)).ask, _ASKED)


def _llama_index() -> Ask:
    ChatMessage = _of("llama_index.core.llms").ChatMessage
    OpenAI = _of("llama_index.llms.openai").OpenAI

    return partial(OpenAI(model=_MODEL).chat, [ChatMessage(role="user", content=_ASKED)])


_CITY: Final = '{"name": "Lisbon", "people": 567131}'
_LANGCHAIN: Final = "langchain_openai"


def libraries() -> dict[str, Library]:
    """Every library, by the title of its group."""
    responses = partial(_langchain, use_responses_api=True)
    return {
        "langchain, invoke": Library(_LANGCHAIN, _langchain, 0.6),
        "langchain, ainvoke": Library(_LANGCHAIN, partial(_langchain, "ainvoke"), 0.6, True),
        "langchain, tools": Library(_LANGCHAIN, _langchain_tools, 0.6),
        "langchain, structured": Library(_LANGCHAIN, _langchain_structured, 0.6, answer=_CITY),
        "langchain, responses": Library(_LANGCHAIN, responses, 0.6),
        "pydantic-ai": Library("pydantic_ai", _pydantic_ai, is_async=True),
        "pydantic-ai, responses": Library(
            "pydantic_ai", partial(_pydantic_ai, "OpenAIResponsesModel"), is_async=True
        ),
        "openai agents, chat": Library(
            "agents", partial(_agents, "OpenAIChatCompletionsModel"), is_async=True
        ),
        "openai agents, responses": Library(
            "agents", partial(_agents, "OpenAIResponsesModel"), is_async=True
        ),
        "litellm": Library("litellm", _litellm),
        "litellm, async": Library("litellm", partial(_litellm, "acompletion"), is_async=True),
        "instructor": Library("instructor", _instructor, answer=_CITY),
        "autogen": Library("autogen_ext", _autogen, is_async=True),
        "smolagents": Library("smolagents", _smolagents),
        "haystack": Library("haystack", _haystack),
        "ag2": Library("ag2", _ag2, is_async=True),
        "llama-index": Library("llama_index.llms.openai", _llama_index),
    }


def _of(module: str) -> Any:
    return importlib.import_module(module)


# -- rows ------------------------------------------------------------------------------------


def groups() -> dict[str, Callable[[], AbstractContextManager[list[Row]]]]:
    """The rows of every library, by title."""
    return {title: partial(rows, library) for title, library in libraries().items()}


@contextmanager
def rows(library: Library) -> Iterator[list[Row]]:
    """A hit on disk beside the call without a cache, and beside the library's own work."""
    if not _is_installed(library.package):
        yield [Row("not installed", lambda: True)]
        return
    os.environ.setdefault("OPENAI_API_KEY", "none")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask for another one
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
        _answering(library.answer) as upstream,
    ):
        disk = Cache.disk(cache_path_root=folder)
        given: dict[str, Any] = {}

        def run(ask: Ask) -> Any:
            if not library.is_async:
                return ask()

            async def calls() -> list[Any]:
                return [await ask() for _ in range(_AT_ONCE)]

            return runner.run(calls(), context=copy_context())

        ask = library.make()
        with _patched(disk):
            for _ in range(3):
                run(ask)
            before = upstream.calls
            run(ask)
            if upstream.calls != before:
                raise RuntimeError("this call was to be a hit")
            with _given_back(given):
                ready = library.make()
                run(ready)
        yield [
            Row("without a cache", lambda: run(ask)),
            Row("the library's own work", lambda: run(ready), partial(_given_back, given)),
            Row("hit on disk", lambda: run(ask), lambda: _patched(disk), target=library.target),
        ]


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _patched(cache: Cache) -> Iterator[None]:
    patch_all()
    try:
        with cache:
            yield
    finally:
        unpatch_all()


@dataclass
class Answering:
    """The upstream that answers at once.

    Attributes:
        calls: how often it was asked.
    """

    calls: int = 0


@contextmanager
def _answering(message: str) -> Iterator[Answering]:
    """Every request over httpx is answered below its client."""
    answering = Answering()
    chat, responses = completion(message)[0], response(message)[0]
    before: list[tuple[type, str, Any]] = []
    for family in ("httpx", "httpx2"):
        if find_spec(family) is None:
            continue
        httpx: Any = importlib.import_module(family)

        def answer(httpx: Any, request: Any) -> Any:
            answering.calls += 1
            body = responses if "responses" in request.url.path else chat
            kind = {"content-type": "application/json"}
            return httpx.Response(200, content=body, headers=kind, request=request)

        def handle(_: Any, request: Any, httpx: Any = httpx) -> Any:
            return answer(httpx, request)

        async def ahandle(_: Any, request: Any, httpx: Any = httpx) -> Any:
            return answer(httpx, request)

        for cls, name, method in (
            (httpx.HTTPTransport, "handle_request", handle),
            (httpx.AsyncHTTPTransport, "handle_async_request", ahandle),
        ):
            before.append((cls, name, vars(cls)[name]))
            setattr(cls, name, method)
    try:
        yield answering
    finally:
        for cls, name, method in before:
            setattr(cls, name, method)


@contextmanager
def _given_back(given: dict[str, Any]) -> Iterator[None]:
    """The SDK's methods give back what they gave when they were first called so.

    Args:
        given: what they gave, by what was called.
    """
    before: list[tuple[type, str, Any]] = []
    for (module, name), methods in _METHODS.items():
        place = importlib.import_module(module)
        for cls in filter(None, (getattr(place, name), getattr(place, f"Async{name}", None))):
            for method in methods:
                before.append((cls, method, vars(cls)[method]))
                setattr(cls, method, _giver(given, cls, method))
    try:
        yield
    finally:
        for cls, name, method in before:
            setattr(cls, name, method)


def _giver(given: dict[str, Any], cls: type, name: str) -> Any:
    function = vars(cls)[name]

    def place(kwargs: dict[str, Any]) -> str:
        return f"{cls.__name__}.{name} {kwargs.get('extra_headers')}"

    def give(*args: Any, **kwargs: Any) -> Any:
        asked = place(kwargs)
        if asked not in given:
            given[asked] = function(*args, **kwargs)
        return given[asked]

    async def agive(*args: Any, **kwargs: Any) -> Any:
        asked = place(kwargs)
        if asked not in given:
            given[asked] = await function(*args, **kwargs)
        return given[asked]

    return agive if cls.__name__.startswith("Async") else give
