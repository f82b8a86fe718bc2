"""What several flows want of a store: of one that does many operations at once, and of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from cachewrap.call import lease
from cachewrap.call.drivers import arun, run
from cachewrap.call.effects import Acquire, Effect, Flow, Lookup, Release, Save, Sleep, Together
from cachewrap.call.lease import Lease
from cachewrap.errors import StoreError
from cachewrap.stores.base import Claim, Leases, Operation
from cachewrap.stores.memory import MemoryStore

KEYS = ["a" * 64, "b" * 64, "c" * 64]


class LeasingStore(MemoryStore, Leases):
    """A memory store with leases, which tells what it was asked."""

    renews = True

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.held: dict[str, str] = {}
        self.raises: BaseException | None = None

    def get(self, key: str) -> bytes | None:
        self.told.append("get")
        return super().get(key)

    def acquire(self, key: str, token: str, seconds: float) -> Claim:
        return Claim.TAKEN if self.held.setdefault(key, token) == token else Claim.HELD

    def renew(self, key: str, token: str, seconds: float) -> bool:
        return self.held.get(key) == token

    def release(self, key: str, token: str, *, failed: bool = False) -> None:
        self.told.append("release")
        if self.held.get(key) == token:
            del self.held[key]

    def acquire_and_get(self, key: str, token: str, seconds: float) -> tuple[Claim, bytes | None]:
        return self.acquire(key, token, seconds), super().get(key)

    def add_and_release(
        self, key: str, token: str, value: bytes, **options: Any
    ) -> tuple[bytes, bool]:
        won = self.add(key, value, **options)
        self.release(key, token)
        return won, True

    async def aacquire_and_get(self, *args: Any) -> tuple[Claim, bytes | None]:
        return self.acquire_and_get(*args)

    async def aadd_and_release(self, *args: Any, **options: Any) -> tuple[bytes, bool]:
        return self.add_and_release(*args, **options)


class ManyStore(LeasingStore):
    """The same, which does many at once."""

    def do_many(self, operations: Sequence[Operation]) -> list[Any]:
        done: list[Any] = []
        names = [name for name, _, _ in operations]
        for name, args, options in operations:
            try:
                done.append(getattr(self, name)(*args, **options))
            except StoreError as error:
                done.append(error)
        self.told = [names]
        if self.raises is not None:
            raise self.raises
        return done

    async def ado_many(self, operations: Sequence[Operation]) -> list[Any]:
        return self.do_many(operations)


@pytest.fixture(autouse=True)
def no_lease_is_left() -> Iterator[None]:
    yield
    for token in list(lease._held):
        lease.drop(token)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def perform(colour: str, store: Any, effects: list[Effect[Any]]) -> list[Any]:
    def flow() -> Flow[list[Any]]:
        return (yield from Together(effects))

    return run(flow(), store) if colour == "sync" else asyncio.run(arun(flow(), store))


def leases(paired: bool = True) -> list[Lease]:
    return [Lease(key, f"{key[0]}-1", paired) for key in KEYS]


def test_looks_go_together(colour: str) -> None:
    store = ManyStore()
    store.set(KEYS[1], b"there")
    assert perform(colour, store, [Lookup(key) for key in KEYS]) == [
        (None, None),
        (b"there", None),
        (None, None),
    ]
    assert store.told == [["get"] * 3]


def test_of_one_there_is_nothing_to_put_together(colour: str) -> None:
    store = ManyStore()
    assert perform(colour, store, [Lookup(KEYS[0])]) == [(None, None)]
    assert store.told == ["get"]


@pytest.mark.parametrize("kind", [LeasingStore, ManyStore])
@pytest.mark.parametrize("paired", [True, False])
def test_a_miss_of_several_is_what_each_is_alone(colour: str, kind: type, paired: bool) -> None:
    """They take leases, store beside one that another had, and give back."""
    store, mine = kind(), leases(paired)
    store.held[KEYS[1]] = "other"
    claims = perform(colour, store, [Acquire(one.key, one, 60.0) for one in mine])
    assert [claim for (claim, _), _ in claims] == [Claim.TAKEN, Claim.HELD, Claim.TAKEN]
    assert [one.held for one in mine] == [True, False, True]
    assert set(lease._held) == {"a-1", "c-1"}
    store.set(KEYS[2], b"earlier")
    saves = [Save(one.key, b"new", 0.0, None, lease=one) for one in mine]
    assert perform(colour, store, saves) == [(b"new", None), (b"new", None), (b"earlier", None)]
    assert [one.held for one in mine] == [False, False, False]
    assert store.held == {KEYS[1]: "other"}
    assert not lease._held


def test_what_is_replaced_and_given_back_goes_together(colour: str) -> None:
    store = ManyStore()
    store.held[KEYS[2]] = "c-1"
    effects: list[Effect[Any]] = [
        Save(KEYS[0], b"new", 0.0, None, replace=True),
        Save(KEYS[1], b"new", 0.0, None),
        Release(KEYS[2], "c-1", failed=True),
    ]
    assert perform(colour, store, effects) == [(b"new", None), (b"new", None), (None, None)]
    assert store.told == [["set", "add", "release"]]
    assert store.held == {}


def test_each_has_its_own_error(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = StoreError("down")

    def get(self: Any, key: str) -> bytes | None:
        if key == KEYS[1]:
            raise fault
        return b"there"

    monkeypatch.setattr(LeasingStore, "get", get)
    for store in (LeasingStore(), ManyStore()):
        found = perform(colour, store, [Lookup(key) for key in KEYS])
        assert found == [(b"there", None), (None, fault), (b"there", None)]


def test_what_is_no_operation_is_done_beside(colour: str) -> None:
    store = ManyStore()
    effects: list[Effect[Any]] = [Lookup(KEYS[0]), Sleep(0.0), Lookup(KEYS[1])]
    assert perform(colour, store, effects) == [(None, None)] * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_who_is_interrupted_gives_up_what_he_may_have(error: BaseException) -> None:
    store, mine = ManyStore(), leases()
    store.raises = error

    def flow() -> Flow[None]:
        yield from Together([Acquire(one.key, one, 60.0) for one in mine])

    with pytest.raises(type(error)):
        run(flow(), store)
    assert [one.held for one in mine] == [False] * 3
    thread = lease._thread
    if thread is not None:
        thread.join(20)
    assert store.held == {}
    assert not lease._held


@pytest.mark.parametrize("kind", [LeasingStore, ManyStore])
def test_who_is_interrupted_as_he_gives_back_keeps_no_lease(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, mine = kind(), leases()
    perform("sync", store, [Acquire(one.key, one, 60.0) for one in mine])
    release = kind.release
    interrupts = iter([KeyboardInterrupt()])

    def interrupted_once(*args: Any, **options: Any) -> None:
        for interrupt in interrupts:
            raise interrupt
        release(*args, **options)

    monkeypatch.setattr(kind, "release", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        perform("sync", store, [Release(one.key, one.token, False) for one in mine])
    thread = lease._thread
    if thread is not None:
        thread.join(20)
    assert store.held == {}
    assert not lease._held
