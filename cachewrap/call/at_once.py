"""The effects of several flows as operations that a store does at once, see `Many`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from cachewrap.call import lease
from cachewrap.call.effects import Acquire, Effect, Lookup, Release, Save
from cachewrap.stores.base import Claim, Many, Operation
from cachewrap.stores.breaker import Watched

Settled: TypeAlias = tuple[Any, Exception | None]
"""What an effect gave, or the error that it raised."""


def joined(effects: Sequence[Effect[Any]], store: Any) -> dict[int, Operation]:
    """The operations of the effects that the store does at once, by their places."""
    if len(effects) < 2 or isinstance(store, Watched) or not isinstance(store, Many):
        return {}
    found = {at: operation_of(effect) for at, effect in enumerate(effects)}
    return {at: operation for at, operation in found.items() if operation is not None}


def operation_of(effect: Effect[Any]) -> Operation | None:
    """The one operation that is all of an effect; None where it takes several, or none."""
    if isinstance(effect, Lookup):
        return "get", (effect.key,), {}
    if isinstance(effect, Acquire):
        mine = effect.lease
        if mine.paired:
            return "acquire_and_get", (effect.key, mine.token, effect.seconds), {}
        return None
    if isinstance(effect, Release):
        return "release", (effect.key, effect.token), {"failed": effect.failed}
    if isinstance(effect, Save):
        held, expires = effect.lease, effect.expires
        if held is not None and held.held:
            if not held.paired:
                return None
            options = {"expires": expires, "over": effect.over}
            return "add_and_release", (effect.key, held.token, effect.value), options
        if effect.replace:
            return "set", (effect.key, effect.value), {"expires": expires}
        return "add", (effect.key, effect.value), {"expires": expires, "over": effect.over}
    return None


def settled(effect: Effect[Any], result: Any, leases: Any) -> Settled:
    """The outcome of an effect whose operation gave this, or the error that it raised."""
    if isinstance(effect, Release):
        lease.drop(effect.token)
    if isinstance(result, Exception):
        return None, result
    if isinstance(effect, Acquire):
        mine = effect.lease
        if result[0] is Claim.TAKEN:
            mine.held = True
            lease.hold(leases, mine.key, mine.token, effect.seconds, effect.most, effect.host)
    elif isinstance(effect, Save):
        if effect.lease is not None and effect.lease.held:
            result, left = result
            if left:
                effect.lease.held = False
                lease.drop(effect.lease.token)
        elif effect.replace:
            result = effect.value
    return result, None


def interrupted(effects: Iterable[Effect[Any]], leases: Any) -> None:
    """Give up the leases that may have been taken, and those that may not have been given back."""
    for effect in effects:
        if isinstance(effect, Acquire):
            mine = effect.lease
            mine.held = False
            lease.hold(leases, mine.key, mine.token, effect.seconds)
            lease.give_up(leases, mine.key, mine.token)  # in a thread
        elif isinstance(effect, Release):
            lease.give_up(leases, effect.key, effect.token)
