"""The memory store: what goes by itself, and what stays."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cachewrap.stores.memory import MemoryStore
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
