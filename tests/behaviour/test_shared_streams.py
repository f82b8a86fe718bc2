"""Identical streams at the same time: one upstream stream, read by each caller at its own pace."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.streams.shared import _under_way

WAIT = 20.0
ALL = ["a1", "b1", "c1"]


class Upstream:
    """Three items, new at each start; tells what it did and pauses or fails when it is told to.

    Attributes:
        starts: how often it was asked.
        closed: how many of its streams were closed or came to their end.
        given: what it has given, over all streams.
        fail_at: the item, counted from 0, in whose place an error is raised in the first stream.
        gate: while it is cleared, nothing comes.
    """

    def __init__(self) -> None:
        self.starts = 0
        self.closed = 0
        self.given: list[str] = []
        self.sent: list[object] = []
        self.fail_at: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.came = threading.Semaphore(0)
        self._lock = threading.Lock()

    def start(self) -> int:
        with self._lock:
            self.starts += 1
            number = self.starts
        self.came.release()
        return number

    def give(self, number: int, index: int) -> str:
        if self.fail_at == index and number == 1:
            raise OSError("cut")
        self.given.append("abc"[index] + str(number))
        return self.given[-1]


class Colour:
    """Makes and drives the generators of one colour, through the same calls."""

    def __init__(self, name: str) -> None:
        self.asynchronous = name == "async"
        self.loop = asyncio.new_event_loop() if self.asynchronous else None

    def decorate(self, up: Upstream, **options: Any) -> Callable[..., Any]:
        if not self.asynchronous:

            @llm_cached(**options)
            def generate(prompt: str = "hi") -> Generator[Any, Any, Any]:
                number = up.start()
                try:
                    for index in range(3):
                        assert up.gate.wait(WAIT)
                        sent = yield up.give(number, index)
                        if sent is not None:
                            up.sent.append(sent)
                            yield f"got {sent}"
                finally:
                    up.closed += 1

            return generate

        @llm_cached(**options)
        async def agenerate(prompt: str = "hi") -> AsyncGenerator[Any, Any]:
            number = up.start()
            try:
                for index in range(3):
                    while not up.gate.is_set():
                        await asyncio.sleep(0.001)
                    sent = yield up.give(number, index)
                    if sent is not None:
                        up.sent.append(sent)
                        yield f"got {sent}"
            finally:
                up.closed += 1

        return agenerate

    def _run(self, awaitable: Any) -> Any:
        assert self.loop is not None
        try:
            return self.loop.run_until_complete(awaitable)
        except StopAsyncIteration:
            raise StopIteration from None

    def next(self, generator: Any) -> Any:
        return self._run(generator.__anext__()) if self.asynchronous else next(generator)

    def send(self, generator: Any, value: object) -> Any:
        return self._run(generator.asend(value)) if self.asynchronous else generator.send(value)

    def throw(self, generator: Any, error: BaseException) -> Any:
        return self._run(generator.athrow(error)) if self.asynchronous else generator.throw(error)

    def close(self, generator: Any) -> None:
        if self.asynchronous:
            self._run(generator.aclose())
        else:
            generator.close()

    def take(self, generator: Any, count: int) -> list[Any]:
        return [self.next(generator) for _ in range(count)]

    def all(self, generator: Any) -> list[Any]:
        items = []
        while True:
            try:
                items.append(self.next(generator))
            except StopIteration:
                return items


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Colour]:
    made = Colour(request.param)
    yield made
    if made.loop:
        # Whoever is dropped leaves in a task of the loop's; nothing else is to be left.
        made.loop.run_until_complete(auntil(lambda: len(asyncio.all_tasks()) == 1))
        made.loop.close()


@pytest.fixture
def up() -> Upstream:
    return Upstream()


@pytest.fixture(autouse=True)
def no_stream_is_left_under_way() -> Iterator[None]:
    yield
    if dict(_under_way):  # a cycle may keep it
        gc.collect()
    assert dict(_under_way) == {}


@pytest.mark.store
def test_every_caller_gets_every_item_of_the_one_stream(
    cache: Cache, colour: Colour, up: Upstream
) -> None:
    generate = colour.decorate(up)
    with cache:
        streams = [generate() for _ in range(5)]
        assert [colour.next(stream) for stream in streams] == ["a1"] * 5
        assert [colour.all(stream) for stream in streams] == [ALL[1:]] * 5
        assert colour.all(generate()) == ALL
    stats = cache.stats
    assert (stats.misses, stats.joined, stats.stored, stats.hits) == (1, 4, 1, 1)
    assert (up.starts, up.closed, up.given) == (1, 1, ALL)


def test_whoever_needs_the_next_item_pulls_it(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory():
        first, second = generate(), generate()
        assert colour.take(first, 1) == ALL[:1]
        assert colour.take(second, 2) == ALL[:2]
        assert up.given == ALL[:2]
        assert colour.all(first) == ALL[1:]
        assert colour.all(second) == ALL[2:]


def test_a_late_caller_reads_from_the_beginning(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory():
        first = generate()
        assert colour.take(first, 3) == ALL
        assert colour.all(generate()) == ALL
        assert colour.all(first) == []
    assert up.starts == 1


def test_the_first_caller_may_leave(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory() as cache:
        first, second = generate(), generate()
        assert colour.take(first, 1) == colour.take(second, 1)
        colour.close(first)
        assert up.closed == 0
        assert colour.all(second) == ALL[1:]
        assert colour.all(generate()) == ALL
    assert (cache.stats.stored, cache.stats.joined, up.starts) == (1, 1, 1)


def test_when_all_leave_upstream_is_closed_and_nothing_is_stored(
    colour: Colour, up: Upstream
) -> None:
    generate = colour.decorate(up)
    with Cache.memory() as cache:
        streams = [generate() for _ in range(3)]
        for stream in streams:
            colour.next(stream)
        for stream in streams:
            assert up.closed == 0
            colour.close(stream)
        assert (up.closed, cache.stats.stored) == (1, 0)
        assert colour.all(generate()) == ["a2", "b2", "c2"]


def test_an_error_reaches_every_reader_when_he_gets_to_it(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    up.fail_at = 2
    with Cache.memory() as cache:
        streams = [generate() for _ in range(3)]
        colour.next(streams[0])
        colour.next(streams[1])
        for stream in streams[:2]:
            assert colour.take(stream, 1) == ["b1"]
            with pytest.raises(OSError, match="cut"):
                colour.next(stream)
        # The broken stream is closed to new callers.
        assert colour.all(streams[2]) == ["a2", "b2", "c2"]
    assert (up.starts, cache.stats.stored) == (2, 1)


def test_a_value_of_the_only_reader_goes_to_the_real_generator(
    colour: Colour, up: Upstream
) -> None:
    generate = colour.decorate(up)
    with Cache.memory() as cache:
        first, second = generate(), generate()
        colour.next(first)
        colour.next(second)
        colour.close(first)
        assert colour.send(second, "news") == "got news"
        # What comes from now on is an answer to that reader alone.
        assert colour.next(generate()) == "a2"
        assert colour.all(second) == ALL[1:]
    assert (up.sent, cache.stats.stored) == (["news"], 0)


@pytest.mark.parametrize("sender", [0, 1], ids=["the first", "the second"])
def test_a_value_of_one_of_several_lets_a_real_generator_take_over(
    colour: Colour, up: Upstream, sender: int
) -> None:
    generate = colour.decorate(up)
    with Cache.memory() as cache:
        streams = [generate(), generate()]
        for stream in streams:
            colour.take(stream, 2)
        assert colour.send(streams[sender], "news") == "got news"
        assert colour.all(streams[sender]) == ["c2"]
        assert colour.all(streams[1 - sender]) == ["c1"]
        assert colour.all(generate()) == ALL
    assert (up.starts, up.closed, cache.stats.stored) == (2, 2, 1)


def test_a_value_of_a_reader_left_behind_lets_a_real_generator_take_over(
    colour: Colour, up: Upstream
) -> None:
    generate = colour.decorate(up)
    with Cache.memory():
        first, second = generate(), generate()
        colour.take(first, 2)
        colour.take(second, 1)
        colour.close(first)
        assert colour.send(second, "news") == "got news"
        assert colour.all(second) == ["b2", "c2"]
    assert (up.starts, up.closed) == (2, 2)


def test_an_error_thrown_by_one_of_several_goes_to_a_real_generator_of_its_own(
    colour: Colour, up: Upstream
) -> None:
    generate = colour.decorate(up)
    with Cache.memory():
        first, second = generate(), generate()
        colour.next(first)
        colour.next(second)
        with pytest.raises(ValueError, match="mine"):
            colour.throw(first, ValueError("mine"))
        assert (up.starts, up.closed) == (2, 1)
        assert colour.all(second) == ALL[1:]
    assert (up.starts, up.closed) == (2, 2)


@pytest.mark.parametrize("readers", [1, 2], ids=["the only reader", "one of several"])
def test_a_generator_that_recovers_from_what_is_thrown_does_so_for_the_thrower_alone(
    colour: Colour, readers: int
) -> None:
    if colour.asynchronous:

        @llm_cached
        async def generate() -> AsyncGenerator[str, None]:
            try:
                yield "a"
                yield "b"
            except ValueError as error:
                yield f"recovered from {error}"
                yield "at last"

    else:

        @llm_cached
        def generate() -> Generator[str, None, None]:  # type: ignore[misc]
            try:
                yield "a"
                yield "b"
            except ValueError as error:
                yield f"recovered from {error}"
                yield "at last"

    with Cache.memory() as cache:
        thrower, *others = [generate() for _ in range(readers)]
        for stream in (thrower, *others):
            assert colour.next(stream) == "a"
        assert colour.throw(thrower, ValueError("mine")) == "recovered from mine"
        assert colour.all(thrower) == ["at last"]
        assert [colour.all(stream) for stream in others] == [["b"]] * (readers - 1)
    assert cache.stats.stored == readers - 1


def test_what_is_thrown_comes_out_where_the_throwers_own_generator_is_shorter(
    colour: Colour,
) -> None:
    lengths = [3, 1]
    if colour.asynchronous:

        @llm_cached
        async def generate() -> AsyncGenerator[int, None]:
            for item in range(lengths.pop(0)):
                yield item

    else:

        @llm_cached
        def generate() -> Generator[int, None, None]:  # type: ignore[misc]
            yield from range(lengths.pop(0))

    with Cache.memory():
        thrower, other = generate(), generate()
        for stream in (thrower, other, thrower, other):
            colour.next(stream)
        with pytest.raises(ValueError, match="mine"):
            colour.throw(thrower, ValueError("mine"))
        assert colour.all(other) == [2]


def test_who_has_sent_a_value_may_send_another(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory() as cache:
        first, second = generate(), generate()
        for stream in (first, second):
            colour.next(stream)
        # One leaves for a generator of his own, and the other is left as the only reader.
        for stream in (first, second):
            assert colour.send(stream, "news") == "got news"
            assert colour.next(stream)[0] == "b"
            assert colour.send(stream, "more") == "got more"
            assert [item[0] for item in colour.all(stream)] == ["c"]
    assert (up.sent, up.starts, up.closed) == (["news", "more"] * 2, 2, 2)
    assert cache.stats.stored == 0


def test_what_comes_after_a_value_is_the_generators_own_object(colour: Colour) -> None:
    strange: list[object] = []
    if colour.asynchronous:

        @llm_cached
        async def generate() -> AsyncGenerator[list[object], str]:
            yield [(yield strange)]
            yield strange

    else:

        @llm_cached
        def generate() -> Generator[list[object], str, None]:  # type: ignore[misc]
            yield [(yield strange)]
            yield strange

    with Cache.memory():
        stream = generate()
        assert colour.next(stream) is not strange
        assert colour.send(stream, "news") == ["news"]
        assert colour.next(stream) is strange
        colour.close(stream)


def test_every_reader_has_items_of_his_own(colour: Colour, up: Upstream) -> None:
    items: list[str] = ["a"]
    if colour.asynchronous:

        @llm_cached
        async def generate() -> AsyncGenerator[list[str], None]:
            yield items

    else:

        @llm_cached
        def generate() -> Generator[list[str], None, None]:  # type: ignore[misc]
            yield items

    with Cache.memory():
        streams = [generate(), generate()]
        for stream in streams:
            item = colour.next(stream)
            assert item == ["a"]
            item.append("mine")
        assert items == ["a"]
        for stream in streams:
            colour.close(stream)


def test_an_item_that_no_codec_takes_reaches_those_who_joined_before(
    colour: Colour, up: Upstream
) -> None:
    strange = object()
    up.give = lambda number, index: strange if index == 1 else f"{index} {number}"  # type: ignore
    generate = colour.decorate(up)
    with Cache.memory() as cache:
        first, second = generate(), generate()
        assert colour.take(first, 1) == colour.take(second, 1)
        with pytest.warns(CacheWarning, match="object"):
            assert colour.next(first) is strange
        assert colour.next(generate()) == "0 2"
        assert colour.all(second) == [strange, "2 1"]
        assert colour.all(first) == ["2 1"]
    assert cache.stats.stored == 0


def test_another_seed_is_another_stream(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory():
        streams = [generate(cache_seed=seed) for seed in (1, 2)]
        assert [colour.next(stream) for stream in streams] == ["a1", "a2"]
        for stream in streams:
            colour.close(stream)


def test_single_flight_can_be_switched_off(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory(single_flight=False):
        streams = [generate(), generate()]
        assert [colour.next(stream) for stream in streams] == ["a1", "a2"]
        for stream in streams:
            colour.close(stream)


def test_an_abandoned_reader_has_left(colour: Colour, up: Upstream) -> None:
    generate = colour.decorate(up)
    with Cache.memory():
        first, second = generate(), generate()
        colour.next(first)
        colour.next(second)
        del first
        gc.collect()
        assert colour.send(second, "news") == "got news"
        colour.close(second)
    assert (up.starts, up.closed) == (1, 1)


def test_a_stream_inside_its_own_stream_goes_alone(colour: Colour) -> None:
    depth: list[int] = []
    if colour.asynchronous:

        @llm_cached
        async def generate() -> AsyncGenerator[str, None]:
            depth.append(1)
            if len(depth) > 1:
                yield "bottom"
                return
            async for item in generate():
                yield f"from the {item}"

    else:

        @llm_cached
        def generate() -> Generator[str, None, None]:  # type: ignore[misc]
            depth.append(1)
            if len(depth) > 1:
                yield "bottom"
                return
            for item in generate():
                yield f"from the {item}"

    with Cache.memory():
        # The inner one is the first to be stored; the outer caller has what he was given.
        assert colour.all(generate()) == ["from the bottom"]


def test_the_source_finds_its_context_again_whoever_pulls(colour: Colour) -> None:
    place: ContextVar[str] = ContextVar("place", default="outside")
    seen: list[str] = []
    if colour.asynchronous:

        @llm_cached
        async def generate() -> AsyncGenerator[str, None]:
            inside = place.set("inside")
            yield "a"
            seen.append(place.get())
            place.reset(inside)

    else:

        @llm_cached
        def generate() -> Generator[str, None, None]:  # type: ignore[misc]
            inside = place.set("inside")
            yield "a"
            seen.append(place.get())
            place.reset(inside)

    with Cache.memory():
        first = generate()
        colour.next(first)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(colour.all, generate()).result(WAIT) == ["a"]
        assert colour.all(first) == []
    assert (place.get(), seen) == ("outside", ["inside"])


class TestThreads:
    def test_sixteen_threads_read_one_stream(self, up: Upstream) -> None:
        generate = Colour("sync").decorate(up)
        cache = Cache.memory()
        up.gate.clear()
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(list, generate(cache=cache)) for _ in range(16)]
            assert up.came.acquire(timeout=WAIT)
            up.gate.set()
            answers = [future.result(WAIT) for future in asked]
        assert (answers, up.starts) == ([ALL] * 16, 1)
        assert (cache.stats.misses, cache.stats.joined + cache.stats.hits) == (1, 15)

    def test_when_the_first_item_is_an_error_the_others_go_upstream_at_once(
        self, up: Upstream
    ) -> None:
        generate = Colour("sync").decorate(up)
        cache = Cache.memory()
        up.fail_at = 0
        up.gate.clear()
        with ThreadPoolExecutor(4) as pool:
            leader = pool.submit(list, generate(cache=cache))
            assert up.came.acquire(timeout=WAIT)
            others = [pool.submit(list, generate(cache=cache)) for _ in range(3)]
            until(lambda: readers() == 4)
            up.gate.set()
            with pytest.raises(OSError, match="cut"):
                leader.result(WAIT)
            # None of them waits for another: all three are upstream.
            for _ in range(3):
                assert up.came.acquire(timeout=WAIT)
            for future in others:
                assert future.result(WAIT)[0][0] == "a"
        assert (up.starts, cache.stats.stored) == (4, 1)

    def test_an_interrupt_is_its_threads_alone(self, up: Upstream) -> None:
        interrupts = [KeyboardInterrupt()]

        @llm_cached
        def generate() -> Generator[str, None, None]:
            number = up.start()
            yield f"a{number}"
            if interrupts:
                raise interrupts.pop()
            yield f"b{number}"

        with Cache.memory():
            first, second = generate(), generate()
            assert next(first) == next(second) == "a1"
            with pytest.raises(KeyboardInterrupt):
                next(first)
            assert list(second) == ["b2"]

    def test_an_interrupt_of_one_who_waits_is_his_alone(self, up: Upstream) -> None:
        generate = Colour("sync").decorate(up)
        with Cache.memory():
            first, second = generate(), generate()
            assert next(first) == next(second) == "a1"
            up.gate.clear()
            timer = threading.Timer(0.05, signal.raise_signal, (signal.SIGINT,))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                next(second)  # it is pulled, but not in his thread
            second.close()
            up.gate.set()
            assert list(first) == ["b1", "c1"]
        assert up.starts == 1

    def test_a_pull_that_asks_for_what_its_reader_is_inside_of_goes_alone(self) -> None:
        asked: list[str] = []

        @llm_cached
        def outer() -> str:
            asked.append("outer")
            return "".join(inner()) if len(asked) == 1 else "end"

        @llm_cached
        def inner() -> Generator[str, None, None]:
            yield "a"
            yield outer()

        with Cache.memory():
            first = inner()
            assert next(first) == "a"
            assert outer() == "end"  # the inner call is the first to be stored
            first.close()
        assert len(asked) == 2

    @pytest.mark.posix("forks")
    @pytest.mark.parametrize("passed", [0, 1], ids=["nothing", "a part"])
    def test_a_child_of_a_process_that_is_stuck_in_a_stream_goes_alone(
        self, up: Upstream, passed: int
    ) -> None:
        generate = Colour("sync").decorate(up)
        with Cache.memory(), ThreadPoolExecutor(1) as pool:
            ahead, behind = generate(), generate()
            if passed:
                assert next(ahead) == next(behind) == "a1"
            up.gate.clear()
            stuck = pool.submit(next, ahead)
            until(lambda: readers() == 1 + passed)
            until(lambda: any(s._pulling.locked() for s in _under_way.values()))  # type: ignore
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    up.gate = threading.Event()
                    up.gate.set()
                    status = 0 if len(list(behind)) == 3 - passed else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            up.gate.set()
            stuck.result(WAIT)

    def test_a_sync_caller_on_an_event_loops_thread_goes_alone(self, up: Upstream) -> None:
        generate = Colour("sync").decorate(up)
        with Cache.memory():
            first = generate()
            assert next(first) == "a1"

            async def ask() -> list[str]:
                return list(generate())

            assert asyncio.run(ask()) == ["a2", "b2", "c2"]
            first.close()

    @pytest.mark.posix("forks")
    def test_a_child_process_goes_on_by_itself(self, up: Upstream) -> None:
        generate = Colour("sync").decorate(up)
        cache = Cache.memory()
        ahead, behind = generate(cache=cache), generate(cache=cache)
        assert next(ahead) == next(behind) == "a1"
        up.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            pulling = pool.submit(next, ahead)
            until(lambda: any(s._pulling.locked() for s in _under_way.values()))  # type: ignore
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    up.gate = threading.Event()
                    up.gate.set()
                    status = 0 if list(behind) == ["b2", "c2"] else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            up.gate.set()
            assert pulling.result(WAIT) == "b1"
        assert (list(behind), list(ahead)) == (["b1", "c1"], ["c1"])


def readers() -> int:
    return sum(stream._readers for stream in list(_under_way.values()))


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never came to that")


async def auntil(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.001)


async def collect(stream: AsyncGenerator[Any, Any]) -> list[Any]:
    return [item async for item in stream]


class TestTasks:
    @pytest.fixture
    def generate(self, up: Upstream) -> Callable[..., Any]:
        colour = Colour("async")
        assert colour.loop is not None
        colour.loop.close()  # a test has a loop of its own
        return colour.decorate(up)

    def test_two_hundred_tasks_read_one_stream(
        self, up: Upstream, generate: Callable[..., Any]
    ) -> None:
        async def ask_all() -> list[list[str]]:
            async with Cache.memory() as cache:
                answers = await asyncio.gather(*(collect(generate()) for _ in range(200)))
            assert (cache.stats.misses, cache.stats.joined, cache.stats.stored) == (1, 199, 1)
            return answers

        assert (asyncio.run(ask_all()), up.starts) == ([ALL] * 200, 1)

    @pytest.mark.parametrize("cancelled", [0, 1, 4], ids=["the first", "a second", "the last"])
    def test_a_cancelled_reader_harms_nobody(
        self, up: Upstream, generate: Callable[..., Any], cancelled: int
    ) -> None:
        async def ask_all() -> list[list[str]]:
            async with Cache.memory() as cache:
                up.gate.clear()
                tasks = [asyncio.create_task(collect(generate())) for _ in range(5)]
                await auntil(lambda: readers() == 5 and up.starts == 1)
                tasks[cancelled].cancel()
                with pytest.raises(asyncio.CancelledError):
                    await tasks.pop(cancelled)
                up.gate.set()
                answers = await asyncio.gather(*tasks)
            assert cache.stats.stored == 1
            return answers

        assert (asyncio.run(ask_all()), up.starts) == ([ALL] * 4, 1)

    def test_when_all_are_cancelled_upstream_is_closed_before_they_are_done(
        self, up: Upstream, generate: Callable[..., Any]
    ) -> None:
        async def ask_all() -> None:
            async with Cache.memory() as cache:
                up.gate.clear()
                tasks = [asyncio.create_task(collect(generate())) for _ in range(3)]
                await auntil(lambda: readers() == 3 and up.starts == 1)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert (up.closed, cache.stats.stored) == (1, 0)

        asyncio.run(ask_all())

    def test_when_the_first_item_is_an_error_the_others_go_upstream_at_once(
        self, up: Upstream, generate: Callable[..., Any]
    ) -> None:
        async def ask_all() -> None:
            async with Cache.memory() as cache:
                up.fail_at = 0
                up.gate.clear()
                tasks = [asyncio.create_task(collect(generate())) for _ in range(4)]
                await auntil(lambda: readers() == 4 and up.starts == 1)
                up.gate.set()
                with pytest.raises(OSError, match="cut"):
                    await tasks[0]
                up.gate.clear()
                await auntil(lambda: up.starts == 4)
                up.gate.set()
                assert [answer[0][0] for answer in await asyncio.gather(*tasks[1:])] == ["a"] * 3
            assert cache.stats.stored == 1

        asyncio.run(ask_all())

    def test_loops_do_not_share(self, up: Upstream, generate: Callable[..., Any]) -> None:
        cache = Cache.memory()

        async def begin() -> None:
            stream = generate(cache=cache)
            assert await anext(stream) == f"a{up.starts}"
            if up.starts == 1:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(asyncio.run, begin()).result(WAIT)
            await stream.aclose()

        asyncio.run(begin())
        assert (up.starts, up.closed) == (2, 2)

    def test_a_time_out_around_the_source_is_one_of_the_source(self) -> None:
        @llm_cached
        async def generate() -> AsyncGenerator[str, None]:
            try:
                async with asyncio.timeout(0.01):
                    yield "a"
                    await asyncio.Event().wait()
            except TimeoutError:
                yield "late"

        async def ask() -> list[list[str]]:
            with Cache.memory():
                return await asyncio.gather(collect(generate()), collect(generate()))

        assert asyncio.run(ask()) == [["a", "late"]] * 2

    def test_a_reader_may_still_ask_when_everything_is_cancelled(
        self, generate: Callable[..., Any]
    ) -> None:
        async def read(waits: asyncio.Event) -> None:
            stream = generate(cache=Cache.memory())
            await anext(stream)
            waits.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await anext(stream)

        async def ask() -> None:
            waits = asyncio.Event()
            reader = asyncio.create_task(read(waits))
            await waits.wait()
            others = asyncio.all_tasks() - {reader, asyncio.current_task()}
            for task in (reader, *others):  # as a loop does that ends, in any order
                task.cancel()
            await reader

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(ask())

    def test_a_loop_that_ends_amid_a_stream_complains_of_nothing(
        self, up: Upstream, generate: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        loop = asyncio.new_event_loop()
        stream = generate(cache=Cache.memory())
        assert loop.run_until_complete(anext(stream)) == "a1"
        loop.close()
        del stream
        gc.collect()
        assert caplog.records == []
