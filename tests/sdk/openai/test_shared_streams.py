"""Open responses that are asked for while the same request is under way: one upstream call."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import openai
import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.stores.memory import MemoryStore
from cachewrap.streams.shared import _under_way
from sdk.openai.asking import TAKES, Colour, unmarked
from sdk.openai.shapes import BY_NAME, INSTALLED, RESPONSES, chat
from sdk.openai.test_streams import BROKEN

WAIT = 20.0

NAMES = ["chat-stream", "chat-open-chunks", "chat-open-lines", "speech-open-chunks"]
NAMES += ["responses-stream"] if INSTALLED >= RESPONSES else []


@pytest.fixture(autouse=True)
def no_stream_is_left_under_way() -> Iterator[None]:
    yield
    assert [stream for stream in _under_way.values() if stream.readers] == []


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


def readers() -> int:
    return sum(stream.readers for stream in list(_under_way.values()))


def open_stream(colour: Colour, client: Any) -> Any:
    return colour.wait(client.chat.completions.create(**chat(1, stream=True)))


def take(colour: Colour, stream: Any, count: int) -> list[Any]:
    if colour.name == "sync":
        return [next(stream) for _ in range(count)]

    async def atake() -> list[Any]:
        return [await anext(stream) for _ in range(count)]

    return colour.wait(atake())  # type: ignore[no-any-return]


def rest(colour: Colour, stream: Any) -> list[Any]:
    if colour.name == "sync":
        return list(stream)

    async def arest() -> list[Any]:
        return [item async for item in stream]

    return colour.wait(arest())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "manner",
    [{}, {"gzip": True, "awkward": True}, {"gap": 0.002}, {"done": False}],
    ids=lambda manner: "-".join(manner) or "plain",
)
@pytest.mark.parametrize("name", NAMES)
def test_all_see_what_the_first_sees(
    up: Upstream, client: Any, colour: Colour, name: str, manner: dict[str, Any]
) -> None:
    gate = threading.Event()
    up.behave(gate=gate, **manner)
    cache = Cache.memory()

    def release() -> None:
        until(lambda: readers() == 4)
        gate.set()

    opener = threading.Thread(target=release)
    opener.start()
    if colour.name == "sync":
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(colour.ask, client, BY_NAME[name], cache=cache) for _ in range(4)]
            seen = [future.result(WAIT) for future in asked]
    else:
        seen = colour.wait(_ask_all(colour, client, name, cache))
    opener.join()
    assert sorted(str(one["mark"]) for one in seen) == ["None", "joined", "joined", "joined"]
    assert [unmarked(one) for one in seen] == [unmarked(seen[0])] * 4
    assert up.calls == 1
    assert (cache.stats.misses, cache.stats.joined, cache.stats.stored) == (1, 3, 1)
    assert unmarked(colour.ask(client, BY_NAME[name], cache=cache)) == unmarked(seen[0])
    assert (up.calls, cache.stats.hits) == (1, 1)


async def _ask_all(colour: Colour, client: Any, name: str, cache: Cache) -> list[Any]:
    shape = BY_NAME[name]

    def call() -> Any:
        method = client
        for part in shape.method.split("."):
            method = getattr(method, part)
        return method(**shape.ask(1), cache=cache)

    return await asyncio.gather(*(TAKES[shape.take][1](call) for _ in range(4)))


def test_two_streams_of_one_thread_are_read_in_turns(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        one, two = open_stream(colour, client), open_stream(colour, client)
        begun = [take(colour, stream, count) for stream, count in ((one, 1), (two, 3), (one, 2))]
    assert begun[0] + begun[2] == begun[1]
    assert rest(colour, two) == rest(colour, one)
    assert (up.calls, cache.stats.joined, cache.stats.stored) == (1, 1, 1)


def test_pieces_are_shared_as_they_come(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    pause = threading.Event()
    up.once(pause=pause, pause_after=3)
    with cache:
        streams = [open_stream(colour, client) for _ in range(3)]
        assert [len(take(colour, stream, 2)) for stream in streams] == [2, 2, 2]
        pause.set()
        first, *others = [rest(colour, stream) for stream in streams]
    assert others == [first, first]
    assert up.calls == 1


@pytest.mark.parametrize("leaver", [0, 1], ids=["the first", "the second"])
def test_a_caller_that_leaves_does_not_cut_off_the_others(
    up: Upstream, client: Any, colour: Colour, cache: Cache, leaver: int
) -> None:
    with cache:
        streams = [open_stream(colour, client) for _ in range(2)]
        taken = [take(colour, stream, 2) for stream in streams]
        assert taken[0] == taken[1]
        colour.wait(streams.pop(leaver).close())
        assert len(rest(colour, streams[0])) > 1
        again = open_stream(colour, client)
        assert take(colour, again, 2) == taken[0]
    assert (up.calls, cache.stats.stored, cache.stats.hits) == (1, 1, 1)


def test_when_all_leave_the_connection_is_closed_and_nothing_is_stored(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    pause = threading.Event()
    up.once(pause=pause, pause_after=3)
    with cache:
        streams = [open_stream(colour, client) for _ in range(2)]
        for stream in streams:
            take(colour, stream, 1)
        original = streams[0].response
        for stream in streams:
            colour.wait(stream.close())
        pool = client._client._transport._pool
        assert original.is_closed
        assert pool.connections == []
        pause.set()
        assert rest(colour, open_stream(colour, client))
    assert (up.calls, cache.stats.stored) == (2, 1)


def test_it_is_stored_when_the_first_has_read_it_all(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        quick, slow = open_stream(colour, client), open_stream(colour, client)
        take(colour, slow, 1)
        whole = rest(colour, quick)
        assert cache.stats.stored == 1
        assert rest(colour, open_stream(colour, client)) == whole
        assert rest(colour, slow) == whole[1:]
    assert (up.calls, cache.stats.misses) == (1, 1)


def test_a_break_reaches_every_reader(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.once(cut_after=3)
    with cache:
        streams = [open_stream(colour, client) for _ in range(2)]
        for stream in streams:
            take(colour, stream, 1)
        for stream in streams:
            with pytest.raises(BROKEN):
                rest(colour, stream)
        assert rest(colour, open_stream(colour, client))
    assert (up.calls, cache.stats.stored) == (2, 1)


def test_who_comes_after_an_error_event_asks_anew(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    up.once(error_after=2)
    with cache:
        first = open_stream(colour, client)
        with pytest.raises(openai.APIError, match=r"It broke\."):
            rest(colour, first)
        # The first response is still there, and need not have been closed by the SDK.
        assert rest(colour, open_stream(colour, client))
    assert (up.calls, cache.stats.stored) == (2, 1)
    colour.wait(first.close())


def test_another_seed_is_another_stream(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    with cache:
        for seed in (1, 2):
            asked = client.chat.completions.create(**chat(1, stream=True), cache_seed=seed)
            colour.wait(colour.wait(asked).close())
    assert up.calls == 2


def test_a_stream_that_is_asked_for_inside_its_own_request_goes_alone(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    inner: list[Any] = []

    def hook(request: Any) -> None:
        if not inner:
            inner.append(None)
            inner[0] = list(client.chat.completions.create(**chat(1, stream=True)))

    async def ahook(request: Any) -> None:
        if not inner:
            inner.append(None)
            stream = await client.chat.completions.create(**chat(1, stream=True))
            inner[0] = [item async for item in stream]

    client._prepare_request = hook if colour.name == "sync" else ahook
    with cache:
        assert len(rest(colour, open_stream(colour, client))) == len(inner[0]) > 1
    assert (up.calls, cache.stats.misses, cache.stats.joined) == (2, 2, 0)


def test_single_flight_can_be_switched_off(up: Upstream, client: Any, colour: Colour) -> None:
    with Cache.memory(single_flight=False):
        streams = [open_stream(colour, client) for _ in range(2)]
        for stream in streams:
            rest(colour, stream)
    assert up.calls == 2


class TestTheRequestItself:
    """The first caller's request has not been answered yet."""

    def test_when_it_fails_the_others_go_upstream_at_once(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        gate = threading.Event()
        up.once(gate=gate, status=500)
        later = threading.Event()
        up.behave(gate=later)

        def release() -> None:
            until(lambda: readers() == 4)
            gate.set()
            up.wait_for(4)
            later.set()

        opener = threading.Thread(target=release)
        opener.start()
        results = self._all(client, colour, cache, 4)
        opener.join()
        assert [isinstance(one, openai.APIStatusError) for one in results].count(True) == 1
        assert (up.calls, cache.stats.stored) == (4, 1)

    def _all(self, client: Any, colour: Colour, cache: Cache, count: int) -> list[Any]:
        create = client.chat.completions.create
        if colour.name == "sync":

            def ask() -> Any:
                try:
                    return list(create(**chat(1, stream=True), cache=cache))
                except openai.APIError as error:
                    return error

            with ThreadPoolExecutor(count) as pool:
                return [f.result(WAIT) for f in [pool.submit(ask) for _ in range(count)]]

        async def aask() -> Any:
            return [item async for item in await create(**chat(1, stream=True), cache=cache)]

        async def ask_all() -> list[Any]:
            return await asyncio.gather(*(aask() for _ in range(count)), return_exceptions=True)

        return colour.wait(ask_all())  # type: ignore[no-any-return]

    @pytest.mark.parametrize("colour", ["async"], indirect=True)
    def test_when_it_is_cancelled_one_of_the_others_takes_its_place(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache
    ) -> None:
        gate = threading.Event()
        up.once(gate=gate)

        async def aask() -> list[Any]:
            stream = await client.chat.completions.create(**chat(1, stream=True), cache=cache)
            return [item async for item in stream]

        async def ask_all() -> list[Any]:
            tasks = [asyncio.create_task(aask()) for _ in range(4)]
            await auntil(lambda: readers() == 4 and up.calls == 1)
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            answers = await asyncio.gather(*tasks[1:])
            gate.set()
            return answers

        first, *others = colour.wait(ask_all())
        assert others == [first, first]
        assert (up.calls, cache.stats.joined) == (2, 2)

    @pytest.mark.parametrize("colour", ["async"], indirect=True)
    @pytest.mark.parametrize("reading", [False, True], ids=["before", "amid"])
    def test_a_cancelled_reader_harms_nobody(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, reading: bool
    ) -> None:
        gate = threading.Event()
        up.once(**({"pause": gate, "pause_after": 3} if reading else {"gate": gate}))
        begun: list[int] = []

        async def aask() -> list[Any]:
            stream = await client.chat.completions.create(**chat(1, stream=True), cache=cache)
            items = []
            async for item in stream:
                items.append(item)
                begun.append(len(items))
            return items

        async def ask_all() -> list[Any]:
            tasks = [asyncio.create_task(aask()) for _ in range(4)]
            await auntil(lambda: readers() == 4 and up.calls == 1)
            if reading:
                await auntil(lambda: begun.count(2) == 4)
            for cancelled in tasks[1:] if not reading else tasks[:3]:
                cancelled.cancel()
            await asyncio.sleep(0)
            gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = colour.wait(ask_all())
        assert [isinstance(one, asyncio.CancelledError) for one in results].count(True) == 3
        assert (up.calls, cache.stats.stored) == (1, 1)


@pytest.mark.parametrize("colour", ["async"], indirect=True)
def test_loops_do_not_share(up: Upstream, colour: Colour, cache: Cache) -> None:
    async def begin(depth: int) -> None:
        async with openai.AsyncOpenAI(base_url=up.base_url, api_key="k") as client:
            stream = await client.chat.completions.create(**chat(1, stream=True), cache=cache)
            await anext(aiter(stream))
            if depth == 0:
                await asyncio.to_thread(asyncio.run, begin(1))
            await stream.close()

    asyncio.run(begin(0))
    assert up.calls == 2


@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_a_sync_call_on_an_event_loops_thread_goes_alone(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    async def ask() -> list[Any]:
        return rest(colour, open_stream(colour, client))

    with cache:
        first = open_stream(colour, client)
        take(colour, first, 1)
        assert asyncio.run(ask())
        first.close()
    assert up.calls == 2


class SlowStore(MemoryStore):
    """A store whose writes take longer than any SDK allows the last read of a stream."""

    async def aadd(self, *args: Any, **options: Any) -> bytes:
        await asyncio.sleep(0.5)
        return await super().aadd(*args, **options)


def test_an_async_stream_is_stored_when_its_loop_is_over(up: Upstream) -> None:
    colour = Colour("async")
    store = SlowStore()
    with Cache(store) as cache:
        client = colour.client(up)
        first = colour.ask(client, BY_NAME["chat-stream"])
        assert len(list(store.keys())) == 1
        second = colour.ask(client, BY_NAME["chat-stream"])
    colour.close()
    assert (up.calls, cache.stats.hits) == (1, 1)
    assert unmarked(second) == unmarked(first)


class HeldStore(MemoryStore):
    """Holds every write back until the ``gate`` is set, and tells when the first one began."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.gate = threading.Event()
        self.on_write: Callable[[], object] = self.began.set

    def add(self, *args: Any, **options: Any) -> bytes:
        self.on_write()
        assert self.gate.wait(WAIT)
        return super().add(*args, **options)

    async def aadd(self, *args: Any, **options: Any) -> bytes:
        self.on_write()
        await auntil(self.gate.is_set)
        return await super().aadd(*args, **options)


class TestWhoHasReadItAllFindsItStored:
    """However slow the store is, and whatever became of the wait for the end of the stream."""

    @pytest.fixture
    def store(self) -> HeldStore:
        return HeldStore()

    @pytest.fixture
    def cache(self, store: HeldStore) -> Cache:
        return Cache(store)

    @pytest.mark.parametrize("colour", ["async"], indirect=True)
    @pytest.mark.parametrize("count", [1, 2], ids=["alone", "with another"])
    @pytest.mark.parametrize("slow", ["store", "upstream"])
    def test_when_the_wait_for_the_end_was_given_up_before_it_was_closed(
        self,
        up: Upstream,
        client: Any,
        colour: Colour,
        cache: Cache,
        store: HeldStore,
        slow: str,
        count: int,
    ) -> None:
        rest_of_body = threading.Event()
        if slow == "upstream":
            up.once(pause=rest_of_body, pause_after=pieces_of_a_stream(up, colour))

        async def read() -> int:
            async def ask() -> Any:
                return await client.chat.completions.create(**chat(1, stream=True), cache=cache)

            streams = [await ask() for _ in range(count)]
            # As the SDK does behind the closing mark, with a deadline in place of what is awaited.
            with anyio.CancelScope() as patience:
                if slow == "store":
                    store.on_write = patience.cancel
                async for chunk in streams[0].response.stream:
                    if slow == "upstream" and b"[DONE]" in chunk:
                        patience.cancel()
            assert patience.cancelled_caught
            asyncio.get_running_loop().call_soon(store.gate.set)
            await streams[0].close()
            stored = cache.stats.stored
            rest_of_body.set()
            assert len({len([item async for item in one]) for one in [*streams[1:], await ask()]})
            return stored

        before = up.calls
        assert colour.wait(read()) == 1
        assert (up.calls - before, cache.stats.misses) == (1, 1)
        assert (cache.stats.hits, cache.stats.joined) == (1, count - 1)

    def test_when_another_reader_is_having_it_stored(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, store: HeldStore
    ) -> None:
        with cache:
            one, two = open_stream(colour, client), open_stream(colour, client)
        if colour.name == "sync":
            held = [read_to_the_mark(stream) for stream in (one, two)]
            with ThreadPoolExecutor(1) as pool:
                closing = pool.submit(one.close)
                assert store.began.wait(WAIT)
                opener = threading.Timer(0.05, store.gate.set)
                opener.start()
                two.close()
                assert cache.stats.stored == 1
                opener.join()
                closing.result(WAIT)
            del held
        else:

            async def close_both() -> int:
                held = [await aread_to_the_mark(stream) for stream in (one, two)]
                closing = asyncio.create_task(one.close())
                await auntil(store.began.is_set)
                asyncio.get_running_loop().call_soon(store.gate.set)
                await two.close()
                stored = cache.stats.stored
                await closing
                del held
                return stored

            assert colour.wait(close_both()) == 1
        assert (up.calls, cache.stats.misses, cache.stats.joined) == (1, 1, 1)

    @pytest.mark.parametrize("colour", ["async"], indirect=True)
    def test_when_the_store_takes_longer_than_an_sdk_waits_for_the_end(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, store: HeldStore
    ) -> None:
        async def ask_twice() -> None:
            async with cache:
                for _ in range(2):
                    stream = await client.chat.completions.create(**chat(1, stream=True))
                    asyncio.get_running_loop().call_later(0.3, store.gate.set)
                    assert [item async for item in stream]

        colour.wait(ask_twice())
        assert (up.calls, cache.stats.misses, cache.stats.hits) == (1, 1, 1)

    @pytest.mark.parametrize("colour", ["async"], indirect=True)
    def test_when_the_connection_breaks_after_the_closing_mark(
        self, up: Upstream, client: Any, colour: Colour, cache: Cache, store: HeldStore
    ) -> None:
        up.once(cut_after=pieces_of_a_stream(up, colour))
        before = up.calls

        async def read() -> int:
            stream = await client.chat.completions.create(**chat(1, stream=True), cache=cache)
            loop = asyncio.get_running_loop()
            store.on_write = lambda: loop.call_soon(store.gate.set)
            with pytest.raises(transport_error()):
                async for _ in stream.response.stream:
                    pass
            await stream.close()
            return cache.stats.stored

        assert colour.wait(read()) == 1
        assert (up.calls - before, cache.stats.misses) == (1, 1)


def pieces_of_a_stream(up: Upstream, colour: Colour) -> int:
    """How many pieces the stand-in sends of the stream, with its closing mark."""
    client = colour.client(up, max_retries=0)
    stream = colour.wait(client.chat.completions.create(**chat(1, stream=True)))
    return len(rest(colour, stream)) + 1


def transport_error() -> type[Exception]:
    """What the SDK's HTTP library raises for an answer that breaks off."""
    library = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
    error: type[Exception] = library.TransportError
    return error


def read_to_the_mark(stream: Any) -> Any:
    """What has been read that far; dropping it would be leaving."""
    chunks = iter(stream.response.stream)
    while b"[DONE]" not in next(chunks):
        continue
    return chunks


async def aread_to_the_mark(stream: Any) -> Any:
    """`read_to_the_mark` of an async stream."""
    chunks = aiter(stream.response.stream)
    while b"[DONE]" not in await anext(chunks):
        continue
    return chunks
