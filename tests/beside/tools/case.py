"""One tool beside the cache, in a process of its own: everything that is to be known of the two.

A process, since few tools can be undone whole. All facts come of one run, and tests read them off.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeAlias

import openai
import pydantic
from http_libraries.web import LOOPBACK, STREAM, WEBS
from standin import Upstream

import cachewrap
from beside.tools.kinds import Tool
from beside.tools.watching import TOOLS
from cachewrap import Cache, ReplayMissError

ORDERS = ("tool first", "cachewrap first")
SIDES = ("sdk", "http")
FIVE = 5

Ask: TypeAlias = Callable[..., Any]
"""Asks a question by its number, and gives the answer as plain data."""


class Answer(pydantic.BaseModel):
    """What parsed answers are."""

    name: str


@dataclass
class Seen:
    """Five equal calls in one way.

    Args:
        upstream: how many of them came to the upstream.
        equal: whether all had the same answer.
        saw: what the tool saw, each with what it stood in.
        error: what was raised, as text.
    """

    upstream: int = 0
    equal: bool = False
    saw: Counter[str] = field(default_factory=Counter)
    error: str = ""


Table: TypeAlias = dict[str, Seen]
"""What was seen, by colour and way."""


@dataclass
class Facts:
    """What one tool and the cache showed of each other.

    Args:
        alone: the tool without the cache.
        both: with it.
        steered: the upstream calls of a call, one of another ``cache_seed``, and that one again.
        refused: in mode ``replay``, whether an unknown call was refused, and the upstream calls.
        ours_undone: while the tool stays.
        tool_undone: while ours stays.
        repaired: after that, with the patch applied once more.
        tool_again: after that, with the tool switched on again.
        left: what was not as before, by the moment at which it should have been.
        leaks: what steers the cache and came to the upstream.
    """

    alone: Table = field(default_factory=dict)
    both: Table = field(default_factory=dict)
    steered: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, Any] = field(default_factory=dict)
    ours_undone: Table = field(default_factory=dict)
    tool_undone: Table = field(default_factory=dict)
    repaired: Table = field(default_factory=dict)
    tool_again: Table = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)


def run(name: str, order: str, side: str) -> Facts:
    """Everything about one tool, applied in one order, beside the SDK or the HTTP libraries."""
    with Upstream() as up, asyncio.Runner() as runner:
        return Case(TOOLS[name](), order, up, runner, side).run()


class Case:
    """One tool and the cache in this process."""

    def __init__(
        self, tool: Tool, order: str, up: Upstream, runner: asyncio.Runner, side: str
    ) -> None:
        self.tool, self.up, self.runner, self.side = tool, up, runner, side
        self.tool_is_first = order == ORDERS[0]
        self.asks: dict[str, Ask] = {}
        self.facts = Facts()
        self._asked = 0
        self._ends: list[Callable[[], object]] = []

    def run(self) -> Facts:
        facts, start = self.facts, state()
        self._apply()
        facts.both = self._see(FIVE)
        if self.side == "sdk":
            facts.steered = {name: self._steer(ask) for name, ask in self._few().items()}
        facts.refused = {name: self._refuse(ask) for name, ask in self._few().items()}
        self._unpatch()
        if self.tool_is_first:
            facts.left["ours undone, the tool stays"] = changes(self._with_tool, state())
        facts.ours_undone = self._see(FIVE, few=True)
        self._switch_off()
        facts.left["ours undone first"] = self._changes(start)

        self._apply()
        self._switch_off()
        facts.tool_undone = self._see(FIVE, few=True)
        self._patch()
        facts.repaired = self._see(FIVE, few=True)
        self._switch_on()
        facts.tool_again = self._see(FIVE, few=True)
        self._switch_off()
        self._unpatch()
        facts.left["the tool undone first"] = self._changes(start)
        self._close()
        facts.leaks = leaks(self.up)
        return facts

    # -- both in one order --------------------------------------------------------------------

    def _apply(self) -> None:
        if self.tool_is_first:
            self._switch_on()
            if not self.facts.alone:
                self.facts.alone = self._see(FIVE, block=nullcontext)
            self._with_tool = state()
            self._patch()
        else:
            self._patch()
            self._switch_on()

    def _switch_on(self) -> None:
        self.tool.on()
        self._open()

    def _switch_off(self) -> None:
        self.tool.off()
        self._open()

    def _patch(self) -> None:
        if self.side == "sdk":
            cachewrap.patch_openai()
            return
        cachewrap.patch_httpx(hosts=LOOPBACK)
        cachewrap.patch_requests(hosts=LOOPBACK)
        cachewrap.patch_aiohttp(hosts=LOOPBACK)

    def _unpatch(self) -> None:
        cachewrap.unpatch_all()

    def _open(self) -> None:
        """Clients as a program has them now."""
        self._close()
        if self.side == "http":
            for name in self.tool.http:
                if name in WEBS:
                    web = WEBS[name](self.up)
                    self._ends.append(web.end)
                    self.asks[name] = functools.partial(_ask_web, web)
            return
        for colour, cls in (("sync", openai.OpenAI), ("async", openai.AsyncOpenAI)):
            made = cls(base_url=self.up.base_url, api_key="sk-test", max_retries=0)
            self._ends.append(functools.partial(self._end, made))
            client = self.tool.client(made)
            for way in WAYS:
                if (way == "model") == ("model" in self.tool.ways and client is not made):
                    self.asks[f"{colour} {way}"] = functools.partial(self._ask, client, way)

    def _close(self) -> None:
        self.asks.clear()
        while self._ends:
            self._ends.pop()()

    def _end(self, client: Any) -> None:
        closed = client.close()
        if closed is not None:
            self._wait(closed)

    # -- asking ---------------------------------------------------------------------------------

    def _wait(self, awaitable: Any) -> Any:
        async def until_done() -> Any:
            return await awaitable

        return self.runner.run(until_done(), context=contextvars.copy_context())

    def _ask(self, client: Any, way: str, number: int, **more: Any) -> Any:
        call, take, atake = WAYS[way]
        if isinstance(client, openai.AsyncOpenAI) or "Async" in type(client).__name__:
            return self._wait(atake(call(client, number, more)))
        return take(call(client, number, more))

    def _few(self) -> dict[str, Ask]:
        """The plainest way of each colour, or each library."""
        few = ("sync create", "async create", "sync model", "async model", *WEBS)
        return {name: ask for name, ask in self.asks.items() if name in few}

    def _see(
        self, count: int, *, few: bool = False, block: Callable[[], Any] = Cache.memory
    ) -> Table:
        chosen = self._few() if few else self.asks
        return {name: self._see_one(ask, count, block) for name, ask in chosen.items()}

    def _see_one(self, ask: Ask, count: int, block: Callable[[], Any]) -> Seen:
        self._asked += 1
        self.tool.take()
        seen, before = Seen(), self.up.calls
        try:
            with block(), self.tool.outer():
                answers = [ask(self._asked) for _ in range(count)]
            seen.equal = all(answer == answers[0] for answer in answers)
        except Exception:
            seen.error = traceback.format_exc()
        seen.upstream = self.up.calls - before
        seen.saw = self.tool.take()
        return seen

    def _steer(self, ask: Ask) -> Any:
        self._asked += 1
        counts, before = [], self.up.calls
        try:
            with Cache.memory():
                for more in ({}, {"cache_seed": 7}, {"cache_seed": 7}):
                    ask(self._asked, **more)
                    counts.append(self.up.calls - before)
                    before = self.up.calls
        except Exception:
            return traceback.format_exc()
        return counts

    def _refuse(self, ask: Ask) -> Any:
        self._asked += 2
        with Cache.memory() as cache:
            ask(self._asked)
        before = self.up.calls
        with cache.mode("replay"):
            ask(self._asked)
            try:
                ask(self._asked - 1)
            except Exception as error:
                refused = any(isinstance(one, ReplayMissError) for one in _behind(error))
            else:
                refused = False
        return refused, self.up.calls - before

    # -- what is left -----------------------------------------------------------------------------

    def _changes(self, start: State) -> list[str]:
        """What is not as at the start, as far as the tool's own undoing makes it so."""
        now = state()
        if self.tool.restores:
            return changes(start, now)
        return changes(State({}, start.codes), State({}, now.codes))


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# -- ways of asking -------------------------------------------------------------------------------


def _dump(value: Any) -> Any:
    return value.model_dump(mode="json", warnings=False)


def _value(call: Any) -> Any:
    return _dump(call())


def _events(call: Any) -> Any:
    return [_dump(event) for event in call()]


def _raw(call: Any) -> Any:
    return _dump(call().parse())


def _helper(call: Any) -> Any:
    with call() as stream:
        return _dump(stream.get_final_completion())


async def _avalue(call: Any) -> Any:
    return _dump(await call())


async def _aevents(call: Any) -> Any:
    return [_dump(event) async for event in await call()]


async def _araw(call: Any) -> Any:
    return _dump((await call()).parse())


async def _ahelper(call: Any) -> Any:
    async with call() as stream:
        return _dump(await stream.get_final_completion())


def _calling(path: str, **fields: Any) -> Callable[..., Callable[[], Any]]:
    """Calls a method of a client that stands under this path, with a question."""
    is_chat = "chat" in path

    def call(client: Any, number: int, more: dict[str, Any]) -> Callable[[], Any]:
        method = client
        for name in path.split("."):
            method = getattr(method, name)
        text = f"Question {number}"
        asked = {"messages": [{"role": "user", "content": text}]} if is_chat else {"input": text}
        return functools.partial(method, model="gpt-4o", **asked, **fields, **more)

    return call


_PARSED = "chat.completions.parse"
WAYS: dict[str, tuple[Any, Any, Any]] = {
    "create": (_calling("chat.completions.create"), _value, _avalue),
    "stream": (_calling("chat.completions.create", stream=True), _events, _aevents),
    "raw": (_calling("chat.completions.with_raw_response.create"), _raw, _araw),
    "parse": (_calling(_PARSED, response_format=Answer), _value, _avalue),
    "helper": (_calling("chat.completions.stream"), _helper, _ahelper),
    "responses": (_calling("responses.create"), _value, _avalue),
    "responses stream": (_calling("responses.create", stream=True), _events, _aevents),
    "embeddings": (_calling("embeddings.create"), _value, _avalue),
    "model": (_calling("chat.completions.create", response_model=Answer), _value, _avalue),
}


def _ask_web(web: Any, number: int) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": f"Question {number}"}]}
    return web.ask(body).body, web.ask({**STREAM, **body, "stream": True}).body


# -- what the classes are -------------------------------------------------------------------------


@dataclass
class State:
    """The classes that tools wrap, as they are at a moment.

    Args:
        attributes: by class and name.
        codes: of each function that was there at the start of the process.
    """

    attributes: dict[str, Any]
    codes: dict[str, Any]


_WATCHED = ("openai.", "httpx.", "httpx2.", "requests.", "aiohttp.", "threading", "concurrent.")


@functools.cache
def _classes() -> dict[str, type]:
    return {
        f"{cls.__module__}.{cls.__qualname__}": cls
        for cls in gc.get_objects()
        # Not `isinstance`, of which a proxy would import what it stands for.
        if issubclass(type(cls), type)
        and f"{cls.__module__}.".startswith(_WATCHED)
        and not issubclass(cls, pydantic.BaseModel)
    }


@functools.cache
def _functions() -> dict[str, FunctionType]:
    return {
        f"{name}.{attribute}": value
        for name, cls in _classes().items()
        for attribute, value in vars(cls).items()
        if isinstance(value, FunctionType)
    }


def state() -> State:
    """The classes as they are now; those of the first time are looked at each time."""
    functions = _functions()
    attributes = {
        f"{name}.{attribute}": value
        for name, cls in _classes().items()
        for attribute, value in vars(cls).items()
        if callable(value)
    }
    return State(
        attributes,
        {
            name: (function.__code__, vars(function).get("__signature__"))
            for name, function in functions.items()
        },
    )


def changes(before: State, after: State) -> list[str]:
    """What is not the same."""
    found = [
        f"{name}: {before.attributes.get(name)!r} -> {after.attributes.get(name)!r}"
        for name in before.attributes.keys() | after.attributes.keys()
        # A proxy equals what is in it.
        if before.attributes.get(name) is not after.attributes.get(name)
    ]
    found += [
        f"{name}: {code!r} -> {after.codes[name]!r}"
        for name, code in before.codes.items()
        if code != after.codes[name]
    ]
    return sorted(found)


def leaks(up: Upstream) -> list[str]:
    """What of the cache came to an upstream."""
    return sorted(
        {
            f"{request.path} {name}"
            for request in up.requests
            for name in (*request.headers, request.body.decode(errors="replace"))
            if "cachewrap" in name.lower() or "cache_seed" in name
        }
    )


if __name__ == "__main__":
    import pprint

    pprint.pprint(run(*sys.argv[1:]))
