"""Each reader of a shared generator sees what a generator of its own would have given it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextvars import Context
from typing import Any

import pytest

from cachewrap import Cache, llm_cached

Step = tuple[str, int]
Seen = list[tuple[str, object]]


def talk(prompt: str) -> Generator[Any, Any, str]:
    """What it gives depends on all that was sent and thrown in before, and on nothing else."""
    told: list[object] = []
    for number in range(4):
        try:
            told.append((yield {"item": number, "told": list(map(str, told))}))
            if told[-1] == 3:
                raise LookupError(f"after {told}")
        except ValueError as error:
            if str(error) == "2":
                return f"gave up after {told}"
            told.append(f"caught {error}")
    return f"ended after {told}"


@llm_cached
def cached_talk(prompt: str) -> Generator[Any, Any, str]:
    return (yield from talk(prompt))


async def atalk(prompt: str) -> AsyncGenerator[Any, Any]:
    inner = talk(prompt)
    step: Callable[[], Any] = inner.__next__
    while True:
        await asyncio.sleep(0)
        try:
            item = step()
        except StopIteration:
            return
        try:
            sent = yield item
        except ValueError as error:
            step = bound(inner.throw, error)
        else:
            step = bound(inner.send, sent)


def bound(function: Callable[[Any], Any], value: Any) -> Callable[[], Any]:
    return lambda: function(value)


cached_atalk = llm_cached(atalk)


def steps(chance: random.Random) -> list[list[Step]]:
    """What two to four callers do, each at most six steps of it."""
    kinds = ("next",) * 6 + ("send",) * 2 + ("throw", "close")
    return [
        [("next", 0)] + [(chance.choice(kinds), chance.randrange(4)) for _ in range(5)]
        for _ in range(chance.randint(2, 4))
    ]


def turns(chance: random.Random, callers: list[list[Step]]) -> list[int]:
    """In which order they do it."""
    order = [number for number, caller in enumerate(callers) for _ in caller]
    chance.shuffle(order)
    return order


def take(generator: Any, step: Step, seen: Seen) -> None:
    kind, value = step
    try:
        if kind == "close":
            generator.close()
        elif kind == "throw":
            seen.append(("item", generator.throw(ValueError(value))))
        else:
            seen.append(("item", generator.send(value if kind == "send" else None)))
    except StopIteration as stop:
        seen.append(("end", stop.value))
    except Exception as error:
        seen.append((type(error).__name__, str(error)))


async def atake(generator: Any, step: Step, seen: Seen) -> None:
    kind, value = step
    try:
        if kind == "close":
            await generator.aclose()
        elif kind == "throw":
            seen.append(("item", await generator.athrow(ValueError(value))))
        else:
            seen.append(("item", await generator.asend(value if kind == "send" else None)))
    except StopAsyncIteration:
        seen.append(("end", None))
    except Exception as error:
        seen.append((type(error).__name__, str(error)))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_each_of_them_does(seed: int) -> None:
    chance = random.Random(seed)
    callers = steps(chance)
    order = turns(chance, callers)

    def run(make: Callable[[str], Any]) -> list[Seen]:
        generators = [make("hi") for _ in callers]
        ahead = [iter(caller) for caller in callers]
        seen: list[Seen] = [[] for _ in callers]
        for number in order:
            take(generators[number], next(ahead[number]), seen[number])
        return seen

    with Cache.memory():
        assert run(cached_talk) == run(talk)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_each_of_them_does_in_tasks(seed: int) -> None:
    chance = random.Random(seed)
    callers = steps(chance)
    order = turns(chance, callers)

    async def run(make: Callable[[str], Any]) -> list[Seen]:
        generators = [make("hi") for _ in callers]
        ahead = [iter(caller) for caller in callers]
        seen: list[Seen] = [[] for _ in callers]
        for number in order:
            await atake(generators[number], next(ahead[number]), seen[number])
        return seen

    async def run_both() -> None:
        with Cache.memory():
            assert await run(cached_atalk) == await run(atalk)

    asyncio.run(run_both())


def test_who_would_wait_for_his_own_thread_goes_alone() -> None:
    """As greenlets do of one thread that nobody has patched."""
    calls: list[str] = []
    other: list[str] = []

    @llm_cached(cache=Cache.memory())
    def tell(text: str) -> Iterator[str]:
        calls.append(text)
        yield "a"
        if len(calls) == 1:
            other.extend(Context().run(list, tell(text)))
        yield "b"

    assert (list(tell("x")), other, calls) == (["a", "b"], ["a", "b"], ["x", "x"])
