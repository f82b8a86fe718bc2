"""Aliases of one seed: made, listed and taken back, for `Cache` and the command line."""

from __future__ import annotations

import time
from typing import Final

from cachewrap.entry import Declared, Entry, Facts, Kind, kept_until, same_source
from cachewrap.errors import ConfigurationError, CorruptEntryError, StoreError
from cachewrap.format.aliases import Alias, alias_in
from cachewrap.format.envelope import seal
from cachewrap.format.sealing import Guard
from cachewrap.request.key import is_streamed
from cachewrap.stores.base import Store

_TRIES: Final = 10
"""Tries, at most, to put an alias where others store something at the same time."""

_HOLDS: Final = {
    Kind.TEXT: "a value",
    Kind.VALUE: "a value",
    Kind.HTTP: "an answer over HTTP",
    Kind.ITEMS: "the items of a generator",
}


def add_alias(store: Store, guard: Guard, key: str, target: str) -> None:
    """Have a key point to the entry under another one; nothing is asked.

    What is stored under the key is kept inside the alias. A key that has an alias already is given
    the other target.

    Args:
        store: of the seed.
        guard: opens and closes its entries.
        key: of the alias, be anything stored under it or not.
        target: of the entry.

    Raises `ConfigurationError` for what cannot be an alias, which says why; `StoreError`; and
    `CorruptEntryError` for a target that cannot be read.
    """
    if key == target:
        raise ConfigurationError(f"{_short(key)} would be an alias of itself")
    raw = store.get(target)
    if raw is None:
        raise ConfigurationError(
            f"nothing is stored under {_short(target)}, so nothing can be an alias of it"
        )
    entry = guard.unseal(target, raw)
    if (there := alias_in(entry)) is not None:
        more = "" if there.target == key else f": give {_short(there.target)} instead"
        raise ConfigurationError(f"{_short(target)} is an alias itself{more}")
    source: str = entry.read_record()["source"]
    raw = store.get(key)
    for _ in range(_TRIES):
        alias, asked, declared = Alias(target), b"", None
        if raw is not None:
            alias, asked, declared = _over(guard, key, raw, target, entry, source)
        facts = Facts(time.time(), 0.0, source=source, declared=declared)
        closed = guard.close(key, seal(Kind.ALIAS, alias.packed(), asked, facts))
        won = store.add(key, closed, over=raw)
        if won == closed or _leads(guard, key, won, target):
            return
        raw = won
    raise StoreError(f"{_short(key)} changes all the time: other programs store under it")


def _leads(guard: Guard, key: str, raw: bytes, target: str) -> bool:
    """Whether an alias of the target is stored under a key: a cassette keeps a line that says the
    same, and so may somebody else have added it.
    """
    alias = alias_in(guard.unseal(key, raw))
    return alias is not None and alias.target == target


def _over(
    guard: Guard, key: str, raw: bytes, target: str, entry: Entry, source: str
) -> tuple[Alias, bytes, Declared | None]:
    """The alias that takes the place of what is stored under a key, the request there, and what
    makes its key another than that.
    """
    try:
        old = guard.unseal(key, raw)
        alias, record = alias_in(old), old.read_record()
        if alias is not None and alias.kept:
            old = guard.unseal(key, guard.close(key, alias.kept))
    except CorruptEntryError as error:
        raise ConfigurationError(
            f"what is stored under {_short(key)} cannot be read ({error}): remove it first"
        ) from None
    asked: bytes = record["request"]
    if alias is None or alias.kept:
        _check_kinds(key, old.kind, target, entry.kind)
    if not same_source(record["source"], source):
        raise ConfigurationError(
            f"{_short(key)} is of {record['source']} and {_short(target)} of {source}: an alias"
            " joins requests of one function or endpoint"
        )
    other: bytes = entry.read_record()["request"]
    if asked and other and is_streamed(asked) != is_streamed(other):
        one, none = (key, target) if is_streamed(asked) else (target, key)
        raise ConfigurationError(
            f"{_short(one)} asks for a stream and {_short(none)} does not: an alias joins requests"
            " that are answered in the same way"
        )
    kept = guard.open(key, raw) if alias is None else alias.kept
    return Alias(target, kept), asked, old.declared


def _check_kinds(key: str, kind: Kind, target: str, other: Kind) -> None:
    one, two = _HOLDS.get(kind, ""), _HOLDS.get(other, "")
    if one != two:
        raise ConfigurationError(
            f"{_short(key)} holds {one} and {_short(target)} {two}: an alias joins requests that"
            " are answered in the same way"
        )


def remove_alias(store: Store, guard: Guard, key: str) -> bool:
    """Take an alias back: what was stored under its key before is there again.

    False where the key has no alias. Raises `StoreError`, and `CorruptEntryError` for what cannot
    be read.
    """
    for tries in range(_TRIES):
        raw = store.get(key)
        if raw is None or (alias := alias_in(guard.unseal(key, raw))) is None:
            return tries > 0  # it was there until just now
        if not alias.kept:
            return store.delete(key)
        before = guard.close(key, alias.kept)
        entry = guard.unseal(key, before)
        won = store.add(key, before, expires=kept_until(entry.expires, entry.created), over=raw)
        if won == before:
            return True
    raise StoreError(f"{_short(key)} changes all the time: other programs store under it")


def _short(key: str) -> str:
    return f"{key[:12]}…"
