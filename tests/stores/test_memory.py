"""The memory store: what goes by itself, and what stays."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cachewrap import Cache, CacheWarning, ConfigurationError, StoreError, llm_cached
from cachewrap.stores.memory import BoundedMemoryStore, MemoryStore
from cachewrap.testing.stores import key_of

VALUE = b"answer"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""

    def at(now: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now)

    at(1000.0)
    return at


def test_what_has_expired_goes_with_the_next_write(clock: Callable[[float], None]) -> None:
    store = MemoryStore()
    for number in range(100):
        store.add(key_of(number), VALUE, expires=1010.0 + number)
    clock(1060.0)
    store.set(key_of("new"), VALUE)
    assert len(list(store.keys())) == 51


def test_what_was_written_anew_lives_by_its_new_time(clock: Callable[[float], None]) -> None:
    store = MemoryStore()
    store.add(key_of(1), VALUE, expires=1010.0)
    store.set(key_of(1), VALUE, expires=2000.0)
    store.add(key_of(2), VALUE, expires=1010.0)
    store.set(key_of(2), VALUE)
    store.add(key_of(3), VALUE, expires=1010.0)
    store.delete(key_of(3))
    store.add(key_of(3), VALUE)
    clock(1500.0)
    store.set(key_of("new"), VALUE)
    assert set(store.keys()) == {key_of(1), key_of(2), key_of(3), key_of("new")}


def test_no_store_has_the_url_that_another_had() -> None:
    urls = {MemoryStore().url for _ in range(100)}  # each is gone when the next is made
    assert len(urls) == 100
    store = MemoryStore("a")
    assert store.reseed("b").url == store.url.removesuffix("a") + "b"


def test_what_was_overwritten_and_deleted_leaves_nothing_behind(
    clock: Callable[[float], None],
) -> None:
    store = MemoryStore()
    for number in range(1000):
        store.set(key_of(1), VALUE, expires=2000.0 + number)
        store.set(key_of(number), VALUE, expires=2000.0)
        store.delete(key_of(number))
    assert len(store._place._ends) <= 200


# -- a bound ---------------------------------------------------------------------------------------

ENTRY = 512 + len(VALUE)


def keys(store: MemoryStore, *names: object) -> list[object]:
    """Those of the names that the store has, without a look at their values."""
    there = set(store.keys())
    return [name for name in names if key_of(name) in there]


def filled(entries: int, *names: object) -> BoundedMemoryStore:
    store = BoundedMemoryStore(max_bytes=entries * ENTRY)
    for name in names:
        store.add(key_of(name), VALUE)
    return store


def test_above_the_bound_the_oldest_goes() -> None:
    store = filled(3, 1, 2, 3)
    assert keys(store, 1, 2, 3) == [1, 2, 3]
    store.add(key_of(4), VALUE)
    store.set(key_of(5), VALUE)
    assert keys(store, 1, 2, 3, 4, 5) == [3, 4, 5]


USES: dict[str, Callable[[BoundedMemoryStore], Any]] = {
    "read": lambda store: store.get(key_of(1)),
    "added again": lambda store: store.add(key_of(1), b"another"),
    "overwritten": lambda store: store.set(key_of(1), VALUE),
    "replaced": lambda store: store.add(key_of(1), VALUE, over=VALUE),
}


@pytest.mark.parametrize("use", USES)
def test_what_was_used_stays(use: str) -> None:
    store = filled(3, 1, 2, 3)
    USES[use](store)
    store.add(key_of(4), VALUE)
    assert keys(store, 1, 2, 3, 4) == [1, 3, 4]


def test_looking_at_all_is_no_use() -> None:
    store = filled(3, 1, 2, 3)
    assert len(list(store.scan())) == len(list(store.keys())) == 3
    store.add(key_of(4), VALUE)
    assert keys(store, 1, 2, 3, 4) == [2, 3, 4]


def test_a_large_entry_takes_the_place_of_several() -> None:
    store = filled(4, 1, 2, 3, 4)
    store.add(key_of(5), b"x" * (2 * ENTRY - 512))
    assert keys(store, 1, 2, 3, 4, 5) == [3, 4, 5]


def test_room_that_was_given_up_is_there_again(clock: Callable[[float], None]) -> None:
    store = filled(3, 1, 2, 3)
    store.delete(key_of(2))
    store.add(key_of(4), VALUE)
    assert keys(store, 1, 3, 4) == [1, 3, 4]
    assert store.clear() == 3
    for number in (5, 6, 7):
        store.add(key_of(number), VALUE, expires=1010.0)
    clock(1020.0)
    store.add(key_of(8), VALUE)
    store.add(key_of(9), VALUE)
    store.add(key_of(10), VALUE)
    assert keys(store, 5, 6, 7, 8, 9, 10) == [8, 9, 10]


def test_the_bound_is_for_all_seeds_together() -> None:
    store = filled(3, 1, 2, 3)
    other = store.reseed("42")
    other.add(key_of(1), VALUE)
    assert keys(store, 1, 2, 3) == [2, 3]
    assert keys(other, 1) == [1]
    store.reseed("42").get(key_of(1))
    store.add(key_of(4), VALUE)
    store.add(key_of(5), VALUE)
    assert (keys(store, 2, 3, 4, 5), keys(other, 1)) == ([4, 5], [1])
    other.clear()
    store.add(key_of(6), VALUE)
    assert keys(store, 4, 5, 6) == [4, 5, 6]


def test_what_is_larger_than_all_of_it_is_not_stored() -> None:
    store = filled(3, 1, 2, 3)
    for name, write in ((1, store.set), (4, store.set), (4, store.add)):
        with pytest.raises(StoreError, match=r"2,512 bytes is not stored.* max_bytes=1,554"):
            write(key_of(name), b"x" * 2000)
    assert keys(store, 1, 2, 3) == [1, 2, 3]
    assert store.get(key_of(1)) == VALUE


@pytest.mark.parametrize("size", [0, -1, 1.5, "1000", True])
def test_a_bound_is_a_positive_number(size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_bytes is .*: give a positive number"):
        Cache.memory(max_bytes=size)


def test_it_travels_with_its_bound_and_nothing_in_it() -> None:
    store = pickle.loads(pickle.dumps(filled(3, 1, 2, 3)))
    assert keys(store, 1, 2, 3) == []
    for number in range(5):
        store.add(key_of(number), VALUE)
    assert len(list(store.keys())) == 3


def test_a_url_says_it() -> None:
    store = Cache.from_url("memory://?max_bytes=2000&cache_seed=7").store
    assert isinstance(store, BoundedMemoryStore)
    for number in range(5):
        store.add(key_of(number), VALUE)
    assert len(list(store.keys())) == 3
    assert type(Cache.from_url("memory://").store) is MemoryStore


def test_an_answer_that_is_too_large_is_returned_with_a_word() -> None:
    @llm_cached
    def ask(prompt: str) -> bytes:
        return bytes(i * 7919 % 251 for i in range(5000))

    cache = Cache.memory(max_bytes=1000)
    with cache, pytest.warns(CacheWarning, match=r"is not stored, as the cache holds no more than"):
        assert len(ask("a")) == len(ask("a")) == 5000
    assert (cache.stats.misses, cache.stats.stored, cache.stats.errors) == (2, 0, 2)


def test_the_bound_holds_for_the_memory_that_is_taken() -> None:
    most = 2_000_000
    numbers = itertools.count()

    def fill(store: BoundedMemoryStore) -> None:
        for _ in range(10_000):
            store.add(key_of(next(numbers)), b"%0100d" % next(numbers), expires=time.time() + 1e6)

    store = BoundedMemoryStore(max_bytes=most)
    tracemalloc.start()
    try:
        fill(store)
        first, _ = tracemalloc.get_traced_memory()
        fill(store)
        second, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first < 1.3 * most
    assert second < 1.3 * most


def test_many_threads_keep_to_it() -> None:
    store = BoundedMemoryStore(max_bytes=20 * ENTRY)
    others = [store.reseed(str(number)) for number in range(4)]

    def work(mine: BoundedMemoryStore) -> None:
        for number in range(2000):
            mine.add(key_of(number % 37), VALUE)
            mine.get(key_of(number % 11))
            if number % 13 == 0:
                mine.delete(key_of(number % 37))
            if number % 501 == 0:
                mine.clear()

    threads = [threading.Thread(target=work, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    stored = sum(len(list(one.keys())) for one in others)
    assert 0 < stored <= 20
    assert store._bound._taken == stored * ENTRY == sum(store._bound._sizes.values())


STEPS = st.lists(
    st.tuples(
        st.sampled_from("add set get delete clear".split()),
        st.integers(0, 1),
        st.integers(0, 6),
        st.integers(0, 900),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_it_is_a_list_of_the_last_that_were_used(steps: list[tuple[str, int, int, int]]) -> None:
    most = 4 * 512 + 1000
    store = BoundedMemoryStore("0", max_bytes=most)
    places = [store, store.reseed("1")]
    model: OrderedDict[tuple[int, int], bytes] = OrderedDict()
    for step, place, name, size in steps:
        value, key, at = bytes(size), key_of(name), (place, name)
        mine = places[place]
        if step == "get":
            assert mine.get(key) == model.get(at)
            if at in model:
                model.move_to_end(at)
        elif step == "delete":
            assert mine.delete(key) == (model.pop(at, None) is not None)
        elif step == "clear":
            gone = [one for one in model if one[0] == place]
            assert mine.clear() == len(gone)
            for one in gone:
                del model[one]
        else:
            if step == "set":
                mine.set(key, value)
                model[at] = value
            else:
                assert mine.add(key, value) == model.setdefault(at, value)
            model.move_to_end(at)
            while sum(512 + len(one) for one in model.values()) > most:
                model.popitem(last=False)
        for number, one in enumerate(places):
            there = {key_of(n): v for (p, n), v in model.items() if p == number}
            assert dict(one.scan()) == there
