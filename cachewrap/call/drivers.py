"""Two drivers for one flow: they differ in `await` alone."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

from cachewrap import systems
from cachewrap.call import lease
from cachewrap.call.at_once import Settled, interrupted, joined, settled
from cachewrap.call.effects import (
    Acquire,
    Call,
    Flow,
    Leave,
    Lookup,
    Release,
    Save,
    Search,
    Sleep,
    Together,
    Wait,
    WaitForAny,
)
from cachewrap.call.flight import await_any, leading, wait_for_any
from cachewrap.call.lease import Lease
from cachewrap.errors import StoreError
from cachewrap.loops import gathered, sleep
from cachewrap.stores.base import Claim, Store, in_thread
from cachewrap.stores.breaker import unwatched

T = TypeVar("T")

_SEARCH_PAUSE: Final = 0.05
_SEARCH_SECONDS: Final = 5.0

_search_turn: Final = [True]
"""Holds something while no search of an async caller is under way."""


@systems.in_forked_child
def _give_turn_back() -> None:
    _search_turn[:] = [True]


class _Unsearched:
    """A store that nobody had the time to search."""

    def __init__(self, store: Store) -> None:
        self.url = store.url

    def __getattr__(self, name: str) -> Any:
        raise StoreError("others search it")


class _Stopped(Exception):
    """A `StopIteration` of the upstream call on its way through a flow; PEP 479 allows none."""


def run(flow: Flow[T], store: Store, call: Callable[..., Any] | None = None) -> T:
    """Run a flow for a sync caller.

    Args:
        flow: the flow; it is used up.
        store: where its effects go.
        call: what `Call` calls, with what it gives; a flow without one needs none.
    """
    result: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                effect = flow.send(result) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            except _Stopped as stopped:
                raise stopped.args[0] from None
            try:
                result, error = _perform(effect, store, call), None
            except StopIteration as stop:
                error = _Stopped(stop)
            except BaseException as raised:
                error = raised
    finally:
        # A traceback holds this frame: a cycle that would keep the call's arguments.
        result = error = None


def _perform(effect: Any, store: Store, call: Callable[..., Any] | None) -> Any:
    kind = type(effect)
    if kind is Lookup:
        return store.get(effect.key)
    if kind is Call:
        assert call is not None
        if effect.flight is None and not effect.others:
            return call(*effect.given)
        outside = leading.get()
        leading.set((*outside, *effect.others) if effect.others else (*outside, effect.flight))
        try:
            return call(*effect.given)
        finally:
            leading.set(outside)
    if kind is Save:
        if effect.lease is not None and effect.lease.held:
            return _save_and_release(effect, effect.lease, store)
        if effect.replace:
            store.set(effect.key, effect.value, expires=effect.expires)
            return effect.value
        return store.add(effect.key, effect.value, expires=effect.expires, over=effect.over)
    if kind is Wait:
        return effect.flight.wait(effect.seconds, effect.stopped_seconds)
    if kind is Leave:
        return effect.reader.close()
    leases: Any = store  # its `Leases` and `Pairs`
    if kind is Acquire:
        mine, seen = effect.lease, None
        try:
            if mine.paired:
                claim, seen = leases.acquire_and_get(effect.key, mine.token, effect.seconds)
            else:
                claim = leases.acquire(mine.key, mine.token, effect.seconds)
            if claim is Claim.TAKEN:
                mine.held = True
                lease.hold(leases, mine.key, mine.token, effect.seconds, effect.most, effect.host)
        except BaseException as error:
            if not isinstance(error, Exception):  # interrupted, when it may have been taken
                mine.held = False
                lease.give_up(leases, mine.key, mine.token)
            raise
        if not mine.paired:
            try:
                seen = store.get(effect.key)
            except StoreError as error:
                seen = error
        return claim, seen
    if kind is Release:
        try:
            leases.release(effect.key, effect.token, failed=effect.failed)
        except Exception:
            lease.drop(effect.token)
            raise
        except BaseException:  # interrupted
            lease.give_up(leases, effect.key, effect.token)
            raise
        return lease.drop(effect.token)
    if kind is Search:
        return effect.search(unwatched(store))
    if kind is Together:
        return _perform_all(effect.effects, store, call)
    if kind is WaitForAny:
        return wait_for_any(effect.flights, effect.seconds, effect.stopped_seconds)
    assert kind is Sleep
    return time.sleep(effect.seconds)


def _perform_all(
    effects: Sequence[Any], store: Any, call: Callable[..., Any] | None
) -> list[Settled]:
    joint, ahead = joined(effects, store), dict(enumerate(effects))
    done: list[Settled] = [(None, None)] * len(effects)
    try:
        if joint:
            results = store.do_many(list(joint.values()))
            for at in reversed(joint):
                done[at] = settled(effects[at], results.pop(), store)
                del ahead[at]
        for at, effect in list(ahead.items()):
            try:
                done[at] = _perform(effect, store, call), None
            except Exception as error:
                done[at] = None, error
            del ahead[at]
        return done
    except BaseException:
        interrupted(ahead.values(), store)
        raise
    finally:
        done = []  # the traceback of an error in it holds this frame


def _save_and_release(effect: Save, mine: Lease, store: Any) -> bytes:
    won: bytes
    key, value, expires, over = effect.key, effect.value, effect.expires, effect.over
    if mine.paired:
        won, left = store.add_and_release(key, mine.token, value, expires=expires, over=over)
    else:
        won, left = value, False
        if effect.replace:
            store.set(key, value, expires=expires)
        else:
            won = store.add(key, value, expires=expires, over=over)
        with suppress(StoreError):  # it is asked once more, and told then
            store.release(mine.key, mine.token)
            left = True
    if left:
        mine.held = False
        lease.drop(mine.token)
    return won


async def arun(flow: Flow[T], store: Store, call: Callable[..., Awaitable[Any]] | None = None) -> T:
    """Run a flow for an async caller. See `run`."""
    result: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                effect = flow.send(result) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                result, error = await _aperform(effect, store, call), None
            except BaseException as raised:
                error = raised
    finally:
        result = error = None


async def _aperform(effect: Any, store: Store, call: Callable[..., Awaitable[Any]] | None) -> Any:
    kind = type(effect)
    if kind is Lookup:
        return await store.aget(effect.key)
    if kind is Call:
        assert call is not None
        if effect.flight is None and not effect.others:
            return await call(*effect.given)
        outside = leading.get()
        leading.set((*outside, *effect.others) if effect.others else (*outside, effect.flight))
        try:
            return await call(*effect.given)
        finally:
            leading.set(outside)  # no token: a loop may close its tasks from another context
    if kind is Save:
        if effect.lease is not None and effect.lease.held:
            return await _asave_and_release(effect, effect.lease, store)
        if effect.replace:
            await store.aset(effect.key, effect.value, expires=effect.expires)
            return effect.value
        return await store.aadd(effect.key, effect.value, expires=effect.expires, over=effect.over)
    if kind is Wait:
        return await effect.flight.await_landing(effect.seconds, effect.stopped_seconds)
    if kind is Leave:
        return await effect.reader.aclose()
    leases: Any = store  # its `Leases` and `Pairs`
    if kind is Acquire:
        mine, seen = effect.lease, None
        try:
            if mine.paired:
                claim, seen = await leases.aacquire_and_get(effect.key, mine.token, effect.seconds)
            else:
                claim = await leases.aacquire(mine.key, mine.token, effect.seconds)
        except BaseException as error:
            if not isinstance(error, Exception):  # cancelled, when it may have been taken
                lease.hold(leases, mine.key, mine.token, effect.seconds)
                lease.give_up(leases, mine.key, mine.token)  # in a thread
            raise
        if claim is Claim.TAKEN:
            mine.held = True
            lease.hold(leases, mine.key, mine.token, effect.seconds, effect.most, effect.host)
        if not mine.paired:
            try:
                seen = await store.aget(effect.key)
            except StoreError as error:
                seen = error
        return claim, seen
    if kind is Release:
        try:
            await leases.arelease(effect.key, effect.token, failed=effect.failed)
        except Exception:
            lease.drop(effect.token)
            raise
        except BaseException:  # trio and anyio cancel every step of what they cancel
            lease.give_up(leases, effect.key, effect.token)
            raise
        return lease.drop(effect.token)
    if kind is Search:
        return await _asearch(effect.search, unwatched(store))
    if kind is Together:
        return await _aperform_all(effect.effects, store, call)
    if kind is WaitForAny:
        return await await_any(effect.flights, effect.seconds, effect.stopped_seconds)
    assert kind is Sleep
    return await sleep(effect.seconds)


async def _aperform_all(
    effects: Sequence[Any], store: Any, call: Callable[..., Awaitable[Any]] | None
) -> list[Settled]:
    joint, ahead = joined(effects, store), dict(enumerate(effects))
    done: list[Settled] = [(None, None)] * len(effects)
    try:
        if joint:
            results = await store.ado_many(list(joint.values()))
            for at in reversed(joint):
                done[at] = settled(effects[at], results.pop(), store)
                del ahead[at]
        else:  # a store puts what tasks write in one piece
            saving = [at for at, effect in enumerate(effects) if type(effect) is Save]
            writes = [_asettled(effects[at], store, call) for at in saving]
            for at, end in zip(saving, await gathered(writes), strict=True):
                done[at] = end
                del ahead[at]
        for at, effect in list(ahead.items()):
            done[at] = await _asettled(effect, store, call)
            del ahead[at]
        return done
    except BaseException:  # trio and anyio cancel every step of what they cancel
        interrupted(ahead.values(), store)
        raise
    finally:
        done = []


async def _asettled(effect: Any, store: Store, call: Any) -> Settled:
    try:
        return await _aperform(effect, store, call), None
    except Exception as error:
        return None, error


async def _asave_and_release(effect: Save, mine: Lease, store: Any) -> bytes:
    won: bytes
    key, value, expires, over = effect.key, effect.value, effect.expires, effect.over
    if mine.paired:
        won, left = await store.aadd_and_release(key, mine.token, value, expires=expires, over=over)
    else:
        won, left = value, False
        if effect.replace:
            await store.aset(key, value, expires=expires)
        else:
            won = await store.aadd(key, value, expires=expires, over=over)
        with suppress(StoreError):
            await store.arelease(mine.key, mine.token)
            left = True
    if left:
        mine.held = False
        lease.drop(mine.token)
    return won


async def _asearch(search: Callable[[Store], T], store: Store) -> T:
    """Search in a thread, when no other search is under way: it takes what a whole batch of a store
    takes, and most of the interpreter's time. Who has waited long enough finds nothing.
    """

    def in_turn() -> list[T]:
        try:
            turn = _search_turn.pop()
        except IndexError:
            return []
        try:
            return [search(store)]
        finally:
            _search_turn.append(turn)

    found: list[T] = []
    until = systems.clock.now() + _SEARCH_SECONDS
    while not found:
        while not _search_turn:
            if systems.clock.now() > until:
                return search(cast("Store", _Unsearched(store)))
            await sleep(_SEARCH_PAUSE)
        found = await in_thread(in_turn)
    return found[0]
