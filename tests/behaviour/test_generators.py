"""Decorated generators, sync and async: recorded as they pass, kept when exhausted, replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
import tenacity

from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.entry import Facts, Items, Kind
from cachewrap.errors import ReplayMissError
from cachewrap.format import codec
from cachewrap.format.envelope import seal, unseal

Body = Callable[["Log"], Generator[Any, Any, Any]]


class Log:
    """What a generator's body did."""

    def __init__(self) -> None:
        self.starts = 0
        self.notes: list[object] = []


def words(log: Log) -> Generator[Any, Any, Any]:
    """Three items that are new at each start."""
    log.starts += 1
    start = log.starts
    try:
        for word in ("a", "b", "c"):
            sent = yield f"{word}{start}"
            if sent is not None:
                log.notes.append(sent)
                yield f"got {sent}"
    except ValueError as error:
        log.notes.append(str(error))
        yield "recovered"
    finally:
        log.notes.append("closed")


class Colour:
    """Drives one decorated generator, in either colour, through the same calls."""

    def __init__(self, name: str) -> None:
        self.asynchronous = name == "async"
        self.loop = asyncio.new_event_loop() if self.asynchronous else None

    def decorate(self, body: Body, log: Log, **options: Any) -> Callable[[], Any]:
        if not self.asynchronous:

            @llm_cached(**options)
            def generate() -> Generator[Any, Any, Any]:
                return (yield from body(log))

            return generate

        @llm_cached(**options)
        async def agenerate() -> AsyncGenerator[Any, Any]:
            inner = body(log)
            step: Callable[[], Any] = lambda: next(inner)  # noqa: E731
            while True:
                try:
                    item = step()
                except StopIteration:
                    return
                try:
                    sent = yield item
                    step = (lambda: next(inner)) if sent is None else (lambda: inner.send(sent))
                except GeneratorExit:
                    inner.close()
                    raise
                except BaseException as error:
                    problem = error
                    step = lambda: inner.throw(problem)  # noqa: E731

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
        if self.asynchronous:
            return self._run(generator.asend(value))
        return generator.send(value)

    def throw(self, generator: Any, error: BaseException) -> Any:
        if self.asynchronous:
            return self._run(generator.athrow(error))
        return generator.throw(error)

    def close(self, generator: Any) -> None:
        if self.asynchronous:
            self._run(generator.aclose())
        else:
            generator.close()

    def all(self, generator: Any) -> list[Any]:
        items = []
        while True:
            try:
                items.append(self.next(generator))
            except StopIteration:
                return items


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Any:
    made = Colour(request.param)
    yield made
    if made.loop:
        made.loop.run_until_complete(made.loop.shutdown_asyncgens())
        made.loop.close()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.store
def test_an_exhausted_generator_is_replayed_item_by_item(
    cache: Cache, colour: Colour, log: Log
) -> None:
    generate = colour.decorate(words, log)
    with cache:
        first = colour.all(generate())
        assert (first, colour.all(generate())) == (["a1", "b1", "c1"], first)
    assert (log.starts, cache.stats.misses, cache.stats.hits) == (1, 1, 1)


def test_items_are_passed_on_as_they_come(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory():
        generator = generate()
        assert log.starts == 0
        assert (colour.next(generator), log.notes) == ("a1", [])


def test_the_cache_is_the_one_that_is_active_at_the_call(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        generator = generate()
    colour.all(generator)
    assert cache.stats.stored == 1


def test_leaving_early_closes_the_real_generator_and_stores_nothing(
    colour: Colour, log: Log
) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        generator = generate()
        colour.next(generator)
        colour.close(generator)
        assert log.notes == ["closed"]
        assert colour.all(generate()) == ["a2", "b2", "c2"]
    assert cache.stats.stored == 1


def test_leaving_a_replay_early_harms_nothing(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory():
        first = colour.all(generate())
        generator = generate()
        colour.next(generator)
        colour.close(generator)
        assert colour.all(generate()) == first


def test_what_is_sent_reaches_the_real_generator_and_nothing_is_stored(
    colour: Colour, log: Log
) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        generator = generate()
        colour.next(generator)
        assert colour.send(generator, "news") == "got news"
        assert colour.all(generator) == ["b1", "c1"]
    assert (log.notes, cache.stats.stored) == (["news", "closed"], 0)


def test_sending_into_a_replay_lets_the_real_generator_take_over(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        first = colour.all(generate())
        generator = generate()
        assert [colour.next(generator), colour.next(generator)] == ["a1", "b1"]
        assert colour.send(generator, "news") == "got news"
        assert colour.all(generator) == ["c2"]
        assert colour.all(generate()) == first
    assert (log.starts, cache.stats.stored) == (2, 1)


def test_what_is_thrown_reaches_the_real_generator_and_nothing_is_stored(
    colour: Colour, log: Log
) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        generator = generate()
        colour.next(generator)
        assert colour.throw(generator, ValueError("bad")) == "recovered"
        assert colour.all(generator) == []
    assert (log.notes, cache.stats.stored) == (["bad", "closed"], 0)


def test_what_is_thrown_into_a_replay_comes_out(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory():
        colour.all(generate())
        generator = generate()
        colour.next(generator)
        with pytest.raises(ValueError, match="bad"):
            colour.throw(generator, ValueError("bad"))


def test_a_generator_that_fails_is_not_stored(colour: Colour, log: Log) -> None:
    def breaks(log: Log) -> Generator[Any, Any, Any]:
        log.starts += 1
        yield "one"
        if log.starts == 1:
            raise OSError("cut")

    generate = colour.decorate(breaks, log)
    with Cache.memory() as cache:
        generator = generate()
        colour.next(generator)
        with pytest.raises(OSError, match="cut"):
            colour.next(generator)
        assert colour.all(generate()) == ["one"]
    assert (log.starts, cache.stats.stored) == (2, 1)


def test_an_empty_generator_is_stored_too(colour: Colour, log: Log) -> None:
    def empty(log: Log) -> Generator[Any, Any, Any]:
        log.starts += 1
        yield from ()

    generate = colour.decorate(empty, log)
    with Cache.memory():
        assert (colour.all(generate()), colour.all(generate()), log.starts) == ([], [], 1)


def test_what_a_caller_does_to_an_item_stays_with_that_caller(colour: Colour, log: Log) -> None:
    def growing(log: Log) -> Generator[Any, Any, Any]:
        seen: list[str] = []
        for word in "ab":
            seen.append(word)
            yield seen

    generate = colour.decorate(growing, log)
    with Cache.memory():
        generator = generate()
        colour.next(generator).append("mine")
        assert colour.next(generator) == ["a", "b"]
        colour.all(generator)
        assert colour.all(generate()) == [["a"], ["a", "b"]]


def test_an_item_that_no_codec_takes_passes_and_the_stream_is_not_stored(
    colour: Colour, log: Log
) -> None:
    strange = object()

    def mixed(log: Log) -> Generator[Any, Any, Any]:
        yield "plain"
        yield strange
        yield "plain again"

    generate = colour.decorate(mixed, log)
    with Cache.memory() as cache, pytest.warns(CacheWarning, match="object"):
        assert colour.all(generate()) == ["plain", strange, "plain again"]
    assert cache.stats.stored == 0


def test_when_judges_the_list_of_items(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log, when=lambda items: items[-1] == "c2")
    with Cache.memory():
        assert [colour.all(generate())[-1] for _ in range(3)] == ["c1", "c2", "c2"]


def test_retry_applies_until_the_first_item(colour: Colour, log: Log) -> None:
    def reluctant(log: Log) -> Generator[Any, Any, Any]:
        log.starts += 1
        if log.starts < 3:
            raise OSError("not yet")
        yield "here"
        raise OSError("too late")

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none(), reraise=True
    )
    generate = colour.decorate(reluctant, log, retry=retrying)
    with Cache.memory():
        generator = generate()
        assert colour.next(generator) == "here"
        with pytest.raises(OSError, match="too late"):
            colour.next(generator)
    assert log.starts == 3


def test_the_value_that_a_generator_returns_is_replayed() -> None:
    @llm_cached
    def generate() -> Generator[str, None, dict[str, int]]:
        yield "one"
        return {"tokens": 3}

    def returned() -> dict[str, int]:
        generator = generate()
        while True:
            try:
                next(generator)
            except StopIteration as stop:
                value: dict[str, int] = stop.value
                return value

    with Cache.memory() as cache:
        assert (returned(), returned()) == ({"tokens": 3}, {"tokens": 3})
    assert cache.stats.hits == 1


def test_two_unread_streams_of_one_thread_do_not_wait_for_each_other(
    colour: Colour, log: Log
) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory():
        one, two = generate(), generate()
        assert (colour.next(one), colour.next(two)) == ("a1", "a1")
        assert (colour.all(one), colour.all(two)) == (["b1", "c1"], ["b1", "c1"])


def damage(cache: Cache, at: int) -> None:
    """Make one item of the one entry that is there unreadable; -1 is what was returned."""
    (key,) = cache.store.keys()
    damage_under(cache, key, at)


def damage_under(cache: Cache, key: str, at: int) -> None:
    entry = unseal(cache.store.get(key) or b"")
    items: Items = codec.decode(Kind.ITEMS, entry.answer)
    wrong = (Kind.VALUE, b"\x01\x81\xa4!set\xc0")
    if at < 0:
        items = Items(items.values, items.delays, wrong)
    else:
        items.values[at] = wrong
    kind, answer = codec.encode(items)
    record = entry.read_record()
    facts = Facts(1.0, 0.1, source=record["source"])
    cache.store.set(key, seal(kind, answer, record["request"], facts))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_item_that_cannot_be_read_is_asked_for_and_the_entry_gives_way(
    colour: Colour, log: Log, at: int
) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        colour.all(generate())
        damage(cache, at)
        with pytest.warns(CacheWarning, match="damaged|cannot be read"):
            items = colour.all(generate())
        assert items == [f"{word}{1 if n < at else 2}" for n, word in enumerate("abc")]
        again = colour.all(generate())
        assert again == colour.all(generate())
    assert log.starts == (2 if at == 0 else 3)


def test_what_an_alias_keeps_is_back_where_what_it_leads_to_cannot_be_read_on(
    colour: Colour, log: Log
) -> None:
    generate: Any = colour.decorate(words, log)
    with Cache.memory() as cache:
        target = generate.cache_key()
        colour.all(generate())
        own = cache.store.get(target)
        assert own is not None
        key = "a" * 64
        cache.store.set(key, own)
        damage_under(cache, key, 1)
        cache.alias(target, key)
        with pytest.warns(CacheWarning, match="damaged|cannot be read"):
            assert colour.all(generate()) == ["a1", "b2", "c2"]
        assert cache.store.get(target) == own
        assert colour.all(generate()) == ["a1", "b1", "c1"]


def test_what_was_returned_is_asked_for_where_it_cannot_be_read(log: Log) -> None:
    @llm_cached
    def generate() -> Generator[str, None, int]:
        log.starts += 1
        yield "a"
        return log.starts

    def told() -> int:
        generator = generate()
        assert next(generator) == "a"
        with pytest.raises(StopIteration) as stop:
            next(generator)
        return int(stop.value.value)

    with Cache.memory() as cache:
        assert told() == 1
        damage(cache, -1)
        with pytest.warns(CacheWarning):
            assert told() == 2
        assert (told(), told()) == (3, 3)


def test_such_an_entry_stays_where_nothing_is_stored(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        colour.all(generate())
        damage(cache, 1)
    with cache.mode("read_only"), pytest.warns(CacheWarning):
        assert colour.all(generate()) == ["a1", "b2", "c2"]
    assert list(cache.store.keys())


def test_mode_replay_asks_nobody_for_the_rest_of_such_an_entry(colour: Colour, log: Log) -> None:
    generate = colour.decorate(words, log)
    with Cache.memory() as cache:
        colour.all(generate())
        damage(cache, 1)
    with cache.mode("replay"):
        generator = generate()
        assert colour.next(generator) == "a1"
        with pytest.raises(ReplayMissError), pytest.warns(CacheWarning):
            colour.next(generator)
    assert list(cache.store.keys())
    assert log.starts == 1
