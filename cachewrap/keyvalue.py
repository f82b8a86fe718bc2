"""The cache as a store of plain keys and values, and the runs that are kept beside them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cachewrap.call.serve import Serving
from cachewrap.call.terms import ValueExchange, peek
from cachewrap.entry import Entry, kept_until
from cachewrap.errors import (
    ConfigurationError,
    CorruptEntryError,
    StoreError,
    UnsupportedTypeError,
)
from cachewrap.format import codec
from cachewrap.format.aliases import Alias, AliasedError, alias_in, unpacked
from cachewrap.format.classes import called
from cachewrap.format.sealing import answer_under
from cachewrap.policy import UNSET, Ttl, Unset, ttl_seconds
from cachewrap.request.canonical import canonical
from cachewrap.request.key import decode_request, encode, is_scrubbed, key_of, salted
from cachewrap.secrets import HIDDEN
from cachewrap.stores.base import scan
from cachewrap.telemetry import hints
from cachewrap.telemetry.events import warn_once

if TYPE_CHECKING:
    from cachewrap.entries.filters import Age, Size
    from cachewrap.entries.stored import StoredEntry
    from cachewrap.ledger.block import RunBlock
    from cachewrap.ledger.runs import Runs

_PLAIN_KEY: Final = salted("key")
_KEY: Final = re.compile("[0-9a-f]{64}")
_SET: Final = "cache.set"


class KeyValue(Serving):
    """The same answers by their keys, values that people store themselves, and runs."""

    def get(self, key: Any, default: Any = None) -> Any:
        """The value under the key, or the default.

        Args:
            key: any string, or another value that has a canonical form; the key of a cached call
                (64 hexadecimal characters, as ``f.cache_key(...)`` gives it) finds its answer.
            default: what to return where nothing fresh is stored.

        Of a generator's call it is the list of its items, of an HTTP request's the JSON in its
        answer, or its text, or its bytes.

        In the modes ``"refresh"`` and ``"off"`` nothing is found, in ``"replay"`` also what has
        expired. A plain cache knows no upstream: a miss gives the default in every mode. A store
        or an entry that cannot be read costs a `CacheWarning` and gives the default.

        Raises `MissingTypeError` for a value whose type this process has not imported, and
        `UnkeyableError` for a key without a canonical form.
        """
        hints.seen.by_hand = True
        mode = self.policy.mode
        if self._idle or mode == "refresh":
            return default
        stored = _store_key(key)
        try:
            raw = self._store.get(stored)
            if raw is None:
                return default
            found: tuple[Any, object] | None
            try:
                found = peek(stored, raw, self._guard, codec.value_of, late=mode == "replay")
            except AliasedError as there:
                alias = unpacked(there.answer)
                found = self._led_to(stored, alias, codec.value_of, late=mode == "replay")
        except (StoreError, CorruptEntryError) as error:
            self.survive(error, "cache.get")
            return default
        return default if found is None else found[0]

    def _led_to(
        self, key: str, alias: Alias, load: Callable[[Entry], Any], *, late: bool
    ) -> tuple[Any, str] | None:
        """What an alias leads to, else what it keeps of before it, and the key of that.

        See `found_by`. None where neither serves. Raises as `peek` does where one cannot be read.
        """
        wrong: CorruptEntryError | None = None
        kept = self._guard.close(key, alias.kept) if alias.kept else None
        for name, raw in ((alias.target, self._store.get(alias.target)), (key, kept)):
            try:
                if raw is None:
                    continue
                own, _ = answer_under(name, raw, self._guard)
                if (found := peek(name, own, self._guard, load, late)) is not None:
                    return found[0], name
            except CorruptEntryError as error:
                wrong = error
        if wrong is not None:
            raise wrong
        return None

    def _served_by(self, key: str) -> str | None:
        """The key of the entry that serves under a key: another one where that has an alias.

        None where nothing does. Raises `StoreError`, and `CorruptEntryError`.
        """
        late = self.policy.mode == "replay"
        raw = self._store.get(key)
        found = None if raw is None else peek(key, raw, self._guard, _unread, late)
        if found is None:
            return None
        if (alias := alias_in(found[1])) is None:
            return key
        led = self._led_to(key, alias, _unread, late=late)
        return None if led is None else led[1]

    def set(self, key: Any, value: object, ttl: Ttl | None | Unset = UNSET) -> None:
        """Store a value under a key, in place of what is there.

        Args:
            key: any string, or another value that has a canonical form.
            value: anything that the codec takes; what it does not take costs a `CacheWarning`, once
                for each class, and is not stored.
            ttl: how long it stays fresh, in seconds or as a `timedelta`; None is for ever;
                the cache's own by default.

        In the modes ``"replay"``, ``"read_only"`` and ``"off"`` nothing is stored. A store that
        cannot be written costs a `CacheWarning`. Raises `UnkeyableError` for a key without a
        canonical form.
        """
        hints.seen.by_hand = True
        if self._idle or self.policy.mode in ("replay", "read_only"):
            return
        policy = self.policy
        if policy.same is not None:  # of keys there is nothing to make equal
            policy = replace(policy, same=None)
        if not isinstance(ttl, Unset):
            policy = replace(policy, ttl=ttl_seconds(ttl))
        asked = _plain_request(key)
        stored = key if _is_key(key) else key_of(_PLAIN_KEY, asked)
        try:
            dumped = ValueExchange(policy, _SET, asked, stored).dump(value, 0.0)
        except UnsupportedTypeError as error:  # who stores an answer has paid for it
            self.stats.count_error()
            cause = UnsupportedTypeError, _SET, called(type(value))
            warn_once(cause, f"{_SET}: the value is not stored: {error}")
            return
        assert dumped is not None
        envelope, entry = dumped
        raw = self._guard.close(stored, envelope)
        try:
            self._store.set(stored, raw, expires=kept_until(entry.expires, entry.created))
        except StoreError as error:
            self.survive(error, _SET)

    def delete(self, key: Any) -> bool:
        """Remove a key; whether it was there. Raises `StoreError`, and `UnkeyableError`."""
        return self.discard(_store_key(key))

    def clear(self) -> int:
        """Remove every entry of this seed and nothing else; how many there were.

        Raises `StoreError`.
        """
        return 0 if self._seed is None else self._store.clear()

    def keys(self) -> Iterator[str]:
        """Every key, one by one: what was given to `set`, and the keys of cached calls.

        What has expired is left out. A key that is no text, or was given to a cache with
        ``store_requests=False``, comes as 64 hexadecimal characters. Each of them works with `get`
        and `delete`. Reads every entry. Raises `StoreError`.
        """
        if self._seed is None:
            return
        now = time.time()
        for key, raw in scan(self._store):
            try:
                entry = self._guard.unseal(key, raw)
                if not entry.fresh(now):
                    continue
                record = entry.read_record()
            except CorruptEntryError:
                continue
            yield _given(record["request"], key) if record["source"] == _SET else key

    def entries(
        self,
        *,
        model: str | None = None,
        source: str | None = None,
        function: str | None = None,
        text: str | None = None,
        newer_than: Age | None = None,
        older_than: Age | None = None,
        min_size: Size | None = None,
        max_size: Size | None = None,
        rules: str | None = None,
    ) -> Iterator[StoredEntry]:
        """What is stored under this seed and fits every filter, one `StoredEntry` after the other.

        They come in the store's own order, and a million of them are never held in memory. What
        has expired is among them while it is stored. The filters are those of ``cachewrap ls``:

        Args:
            model: the model that upstream reported, with ``*`` and ``?`` as in a shell.
            source: the endpoint (``chat/completions``) or function (``module:name``, or its name)
                that was called, with ``*`` and ``?``.
            function: the same of functions alone.
            text: a text in what was asked or in the answer, in any case.
            newer_than: stored since: an age such as ``"2d"``, seconds or a `timedelta`, or a
                `datetime`, or a date such as ``"2026-11-01"``, which is in UTC.
            older_than: stored before that.
            min_size: bytes in the store, at least: a number, or text such as ``"10k"``.
            max_size: bytes, at most.
            rules: stored under rules of equality: ``"any"``, ``"none"``, or the beginning of their
                digest, as `StoredEntry.rules` has it.

        >>> from datetime import timedelta
        >>> with Cache.memory() as cache:
        ...     cache.set("greeting", "hello")
        ...     [entry.answer for entry in cache.entries(newer_than=timedelta(hours=1))]
        ['hello']

        An entry that this cache would not serve (it is damaged, or encrypted with a key that is
        not here, or of a class that is not among ``types``) is left out, and costs a
        `CacheWarning` once; with ``on_error="raise"`` it raises `CorruptEntryError`. Raises
        `ConfigurationError` for a filter that cannot be read, and `StoreError`.
        """
        from cachewrap.entries.filters import make_filter
        from cachewrap.entries.stored import Samples, StoredEntry, read_entries

        wanted = make_filter(
            model=model,
            source=source,
            function=function,
            text=text,
            newer_than=newer_than,
            older_than=older_than,
            min_size=min_size,
            max_size=max_size,
            rules=rules,
        )
        if self._seed is None:
            return iter(())
        seed, samples = self._seed, Samples()

        def read(key: str, raw: bytes) -> StoredEntry:
            return StoredEntry(key, seed, len(raw), self._guard.unseal(key, raw), samples)

        def left_out(error: CorruptEntryError) -> None:
            self.survive(error, "cache.entries")

        return read_entries(self._store, read, wanted, left_out)

    def alias(self, key: Any, target: Any) -> None:
        """Have a key answered by the entry under another one, until `unalias` takes that back.

        Whoever calls this says that the two requests may have one answer; it asks nobody, and
        compares no texts. What is stored under the key meanwhile is kept, and comes back with
        `unalias`. A key that has an alias already is given the other target.

        >>> from cachewrap import Cache, llm_cached
        >>> @llm_cached
        ... def ask(prompt: str) -> str:
        ...     return f"the answer to {prompt}"
        >>> with Cache.memory() as cache:
        ...     answer = ask("Turn the lights on.")
        ...     cache.alias(ask.cache_key("Lights on!"), ask.cache_key("Turn the lights on."))
        ...     ask("Lights on!")
        'the answer to Turn the lights on.'

        Args:
            key: the key that is answered so, as `get` takes it, be anything stored under it or not.
            target: the key of the entry that answers. It is no alias itself.

        Raises `ConfigurationError` for two requests that are not of one function or endpoint, or
        are not answered in the same way, for a target under which nothing is stored, and in a mode
        that stores nothing; and `StoreError` and `CorruptEntryError`.
        """
        from cachewrap.entries.aliases import add_alias

        if self._idle or self.policy.mode in ("replay", "read_only"):
            raise ConfigurationError(
                f"an alias is stored, and {self!r} stores nothing: open it in mode normal"
            )
        add_alias(self._store, self._guard, _store_key(key), _store_key(target))

    def aliases(self) -> Iterator[StoredEntry]:
        """The aliases of this seed, each an entry with its ``key`` and ``alias_of``.

        They are among the `entries` as well, whose errors it raises.
        """
        return (entry for entry in self.entries() if entry.alias_of)

    def unalias(self, key: Any) -> bool:
        """Take an alias back; whether the key had one. What was stored there before is back.

        Raises `StoreError`, and `CorruptEntryError` for what is stored there and cannot be read.
        """
        from cachewrap.entries.aliases import remove_alias

        return self._seed is not None and remove_alias(self._store, self._guard, _store_key(key))

    def run(self, name: str) -> RunBlock:
        """A block of this cache whose calls belong to a run: what was asked, in order, is kept.

        The run is kept beside the entries until it is removed, see `runs`. The calls of threads,
        tasks and other caches inside are in it. While a run of that name goes on, in this process
        or another, it is the same one; afterwards it is another one, the newest of that name. A
        block inside a run of the same place is a part of that one.

        >>> from cachewrap import llm_cached
        >>> @llm_cached
        ... def complete(prompt: str) -> str:
        ...     return prompt.upper()
        >>> from cachewrap import Cache
        >>> cache = Cache.memory()
        >>> with cache.run("baseline") as run:
        ...     answers = [complete("a"), complete("b"), complete("a")]
        >>> [call.outcome for call in run.calls()]
        ['miss', 'miss', 'hit']

        Args:
            name: 1 to 100 characters, without ``/``, ``#``, ``~`` and ``\\``.

        Raises `ConfigurationError` for a name that cannot be, and where the store keeps no runs.
        """
        from cachewrap.ledger.block import RunBlock

        return RunBlock(self, name)

    def runs(self) -> Runs:
        """The runs that are kept where this cache is, of all its seeds, the oldest first.

        ``cache.runs()["baseline"]`` is the newest of that name. Raises `StoreError`.
        """
        from cachewrap.ledger.runs import runs_of

        whole: Any = self
        return runs_of(whole)


def _unread(entry: Entry) -> None:
    """Whether an entry is there can be told without its answer."""


def _plain_request(key: Any) -> bytes:
    return encode({"key": canonical(key, where="the key")})


def _given(request: bytes, stored: str) -> str:
    """The text under which something was stored; the stored key where that is not known."""
    try:
        tree = decode_request(request)
        given = tree["key"]
    except (msgspec.MsgspecError, RecursionError, KeyError, TypeError):  # it was left out
        return stored
    # What something was taken out of is no longer the key.
    whole = isinstance(given, str) and HIDDEN not in given and not is_scrubbed(tree)
    return given if whole else stored


def _store_key(key: Any) -> str:
    return key if _is_key(key) else key_of(_PLAIN_KEY, _plain_request(key))


def _is_key(key: object) -> bool:
    return isinstance(key, str) and _KEY.fullmatch(key) is not None
