"""Mocks of the SDK's methods, begun and ended in any order: what they stand for is theirs alone."""

from __future__ import annotations

import functools
import importlib
import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import openai
import pytest
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.types.chat import ChatCompletion
from standin import Upstream

import cachewrap
from cachewrap import Cache, CacheWarning
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, INSTALLED, chat

CHAT = BY_NAME["chat"]
CALLS = 4  # the front door opens with the third
HTTPX: Any = importlib.import_module("httpx2" if INSTALLED >= (3, 0) else "httpx")
SYNC, ASYNC = openai._base_client.SyncAPIClient, openai._base_client.AsyncAPIClient

MADE = ChatCompletion.model_validate(
    {
        "id": "made",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-x",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "made"},
            }
        ],
    }
)


class Tool:
    """Something that stands in for a method between its start and its end, and counts its calls.

    Args:
        owner: the class.
        name: of the method.
    """

    passes = False  # whether it calls what it stands for

    def __init__(self, owner: type, name: str) -> None:
        self.owner = owner
        self.name = name
        self.calls = 0

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def _made(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return MADE

    async def _amade(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return MADE

    @property
    def _stands(self) -> Callable[..., Any]:
        return self._amade if self.owner.__name__.startswith("Async") else self._made


class Mocked(Tool):
    """`unittest.mock.patch.object`, with a mock that answers by itself."""

    def start(self) -> None:
        self._patch = mock.patch.object(self.owner, self.name, side_effect=self._stands)
        self._patch.start()

    def stop(self) -> None:
        self._patch.stop()


class Set(Tool):
    """``monkeypatch.setattr``, with a plain function."""

    def start(self) -> None:
        stands = self._stands
        self._patch = pytest.MonkeyPatch()
        if inspect.iscoroutinefunction(stands):

            async def aanswer(*args: Any, **kwargs: Any) -> Any:
                return await stands(*args, **kwargs)

            self._patch.setattr(self.owner, self.name, aanswer)
        else:
            self._patch.setattr(self.owner, self.name, lambda *a, **k: stands(*a, **k))

    def stop(self) -> None:
        self._patch.undo()


class Spy(Tool):
    """What pytest-mock calls a spy: a mock with ``autospec`` that calls the method."""

    passes = True

    def start(self) -> None:
        method = getattr(self.owner, self.name)
        self._patch = mock.patch.object(self.owner, self.name, autospec=True)
        self._patch.start().side_effect = self._counted(method)

    def stop(self) -> None:
        self._patch.stop()

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(method):

            @functools.wraps(method)
            async def acounted(*args: Any, **kwargs: Any) -> Any:
                self.calls += 1
                return await method(*args, **kwargs)

            return acounted

        @functools.wraps(method)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return method(*args, **kwargs)

        return counted


class Wrapped(Spy):
    """A wrapper of one's own, put into the class and taken out by hand."""

    def start(self) -> None:
        self._had = vars(self.owner).get(self.name)
        setattr(self.owner, self.name, self._counted(getattr(self.owner, self.name)))

    def stop(self) -> None:
        if self._had is None:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self._had)


@pytest.fixture
def cleaning() -> Iterator[ExitStack]:
    """Ends what a test that fails has begun."""
    with ExitStack() as stack:
        yield stack


TARGETS = [
    pytest.param("sync", Completions, "create", id="create"),
    pytest.param("async", AsyncCompletions, "create", id="async create"),
    pytest.param("sync", SYNC, "request", id="request"),
    pytest.param("async", ASYNC, "request", id="async request"),
    pytest.param("sync", openai.OpenAI, "request", id="request of the client"),
    pytest.param("async", openai.AsyncOpenAI, "request", id="async request of the client"),
    pytest.param("sync", openai.OpenAI, "post", id="post of the client"),
    pytest.param("async", openai.AsyncOpenAI, "post", id="async post of the client"),
]

# M: the tool starts; m: it ends; P: the SDK is patched; p: it is unpatched.
ORDERS = ["MPmp", "MPpm", "PMmp", "PMpmPMm"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [Mocked, Set, Spy, Wrapped])
@pytest.mark.parametrize(("colour", "owner", "name"), TARGETS, indirect=["colour"])
def test_it_sees_every_call_and_ours_is_there_without_it(
    up: Upstream,
    colour: Colour,
    cleaning: ExitStack,
    owner: type,
    name: str,
    kind: type[Tool],
    order: str,
) -> None:
    cachewrap.unpatch_openai()
    before = dict(vars(owner))
    tool = kind(owner, name)
    steps: dict[str, Callable[[], object]] = {
        "M": tool.start,
        "m": tool.stop,
        "P": cachewrap.patch_openai,
        "p": cachewrap.unpatch_openai,
    }
    patched = mocked = False
    cleaning.callback(lambda: tool.stop() if mocked else None)
    for number, step in enumerate(order):
        steps[step]()
        patched = step == "P" or (patched and step != "p")
        mocked = step == "M" or (mocked and step != "m")
        asked, seen = up.calls, tool.calls
        client = colour.client(up)
        with Cache.memory():
            for _ in range(CALLS):
                colour.ask(client, CHAT, number)
        upstream = 1 if patched else CALLS
        if mocked and not tool.passes:
            upstream = 0
        assert up.calls - asked == upstream, order[: number + 1]
        assert tool.calls - seen == (CALLS if mocked else 0), order[: number + 1]
    if not patched:
        assert dict(vars(owner)) == before


@pytest.mark.parametrize("kind", [Mocked, Spy, Wrapped])
@pytest.mark.parametrize("first", [False, True], ids=["begun later", "begun first"])
@pytest.mark.parametrize(("colour", "owner", "name"), TARGETS[:2], indirect=["colour"])
def test_patching_again_after_its_end_repairs_all(
    up: Upstream, colour: Colour, owner: type, name: str, kind: type[Tool], first: bool
) -> None:
    """Also what a call says for itself is understood then."""
    cachewrap.unpatch_openai()
    tool = kind(owner, name)
    for step in (tool.start, cachewrap.patch_openai)[:: 1 if first else -1]:
        step()
    tool.stop()
    cachewrap.patch_openai()
    cache, client = Cache.memory(), colour.client(up)
    for _ in range(CALLS):
        colour.ask(client, CHAT, cache=cache)
    assert (up.calls, cache.stats.hits) == (1, CALLS - 1)


@pytest.mark.parametrize("first", [False, True], ids=["begun later", "begun first"])
@pytest.mark.parametrize(("colour", "owner", "name"), TARGETS[:2], indirect=["colour"])
def test_what_a_call_says_for_itself_passes_through_it(
    up: Upstream, colour: Colour, owner: type, name: str, first: bool
) -> None:
    cachewrap.unpatch_openai()
    tool = Wrapped(owner, name)
    for step in (tool.start, cachewrap.patch_openai)[:: 1 if first else -1]:
        step()
    cache, client = Cache.memory(), colour.client(up)
    try:
        for _ in range(CALLS):
            colour.ask(client, CHAT, cache=cache)
    finally:
        tool.stop()
    assert (up.calls, tool.calls) == (1, CALLS)
    assert "x-cachewrap-options" not in up.last.headers


@pytest.mark.parametrize("name", ["create", "post", "request"])
def test_a_mock_on_one_object_is_called_and_the_others_are_cached(
    up: Upstream, colour: Colour, name: str
) -> None:
    mocked, other = colour.client(up), colour.client(up)
    holder = mocked.chat.completions if name == "create" else mocked
    kind = mock.AsyncMock if colour.name == "async" else mock.Mock
    with Cache.memory():
        for _ in range(CALLS):
            colour.ask(other, CHAT)
        with mock.patch.object(holder, name, kind(return_value=MADE)) as standing:
            if name == "post":  # the resource holds the client's own
                mocked.chat.completions._post = standing
            for _ in range(CALLS):
                colour.ask(mocked, CHAT)
                colour.ask(other, CHAT)
    assert (standing.call_count, up.calls) == (CALLS, 1)


@pytest.mark.parametrize("mode", ["normal", "replay", "refresh"])
@pytest.mark.parametrize(("colour", "owner", "name"), TARGETS, indirect=["colour"])
def test_what_it_answers_is_given_in_every_mode(
    up: Upstream, colour: Colour, cleaning: ExitStack, owner: type, name: str, mode: Any
) -> None:
    """Below `create`, one warning says that the call has not come to the SDK's own ``request``."""
    tool = Mocked(owner, name)
    tool.start()
    cleaning.callback(tool.stop)
    with warnings.catch_warnings(record=True) as told, Cache.memory(mode=mode) as cache:
        warnings.simplefilter("always")
        for _ in range(CALLS):
            colour.ask(colour.client(up), CHAT)
    assert (tool.calls, up.calls) == (CALLS, 0)
    passed = {} if name == "create" else {"own request": CALLS}
    assert cache.stats.bypass_reasons == passed
    assert len([one for one in told if one.category is CacheWarning]) == len(passed)
    assert (cache.stats.hits, cache.stats.misses, cache.stats.errors) == (0, 0, 0)


# -- mocks below the SDK ------------------------------------------------------------------------


def answered(request: Any) -> Any:
    return HTTPX.Response(200, json=MADE.model_dump(mode="json"), request=request)


@pytest.mark.parametrize("first", [False, True], ids=["begun later", "begun first"])
@pytest.mark.parametrize(
    ("colour", "owner", "name"),
    [
        pytest.param("sync", HTTPX.Client, "send", id="send"),
        pytest.param("async", HTTPX.AsyncClient, "send", id="async send"),
        pytest.param("sync", HTTPX.HTTPTransport, "handle_request", id="transport"),
        pytest.param(
            "async", HTTPX.AsyncHTTPTransport, "handle_async_request", id="async transport"
        ),
    ],
    indirect=["colour"],
)
def test_a_mock_of_http_is_asked_once(
    up: Upstream, colour: Colour, owner: type, name: str, first: bool
) -> None:
    calls = 0

    def stand(self: Any, request: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return answered(request)

    async def astand(self: Any, request: Any, **kwargs: Any) -> Any:
        return stand(self, request)

    cachewrap.unpatch_openai()
    stands = astand if colour.name == "async" else stand
    with pytest.MonkeyPatch.context() as patched, Cache.memory() as cache:
        if first:
            patched.setattr(owner, name, stands)
        cachewrap.patch_openai()
        if not first:
            patched.setattr(owner, name, stands)
        client = colour.client(up)
        for _ in range(CALLS):
            colour.ask(client, CHAT)
    assert (calls, up.calls, cache.stats.hits) == (1, 0, CALLS - 1)


def test_a_mock_transport_is_asked_once() -> None:
    asked: list[Any] = []

    def handler(request: Any) -> Any:
        asked.append(request)
        return answered(request)

    http_client = HTTPX.Client(transport=HTTPX.MockTransport(handler))
    with openai.OpenAI(api_key="sk-test", http_client=http_client) as client, Cache.memory():
        answers = [client.chat.completions.create(**chat(1)) for _ in range(CALLS)]
    assert len(asked) == 1
    assert {answer.id for answer in answers} == {"made"}


# -- modules that are loaded anew ---------------------------------------------------------------

RELOADED = """
import importlib, json, sys
import openai
from cachewrap import Cache, patch_openai

def count(module):
    calls, httpx = [], importlib.import_module(sys.argv[2])
    def handle(request):
        calls.append(request)
        return httpx.Response(200, json=json.loads(sys.argv[1]))
    with Cache.memory() as cache:
        for _ in range(3):
            with module.OpenAI(
                api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(handle))
            ) as client:
                client.chat.completions.create(model="m", messages=[])
    return len(calls)

patch_openai()
told = [count(openai)]
told.append(count(importlib.reload(openai)))
importlib.reload(sys.modules["openai.resources.chat.completions.completions"
    if "openai.resources.chat.completions.completions" in sys.modules
    else "openai.resources.chat.completions"])
told.append(count(openai))
patch_openai()
told.append(count(openai))
for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
    del sys.modules[name]
anew = importlib.import_module("openai")
patch_openai()
told.append(count(anew))
print(told)
"""


def test_modules_that_are_loaded_anew() -> None:
    command = [sys.executable, "-c", RELOADED, MADE.model_dump_json(), HTTPX.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[1, 1, 1, 1, 1]"
