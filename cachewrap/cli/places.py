"""Places, which commands read and write: from a URL to an opened partition of any store."""

from __future__ import annotations

import functools
import inspect
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from math import inf
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

import click
from click.core import ParameterSource

from cachewrap import systems
from cachewrap.cache import Cache
from cachewrap.cli.guess import PACKED, Found, find, is_cassette, nearby, places_alone
from cachewrap.cli.options import DEFAULT_URL, one_url, together
from cachewrap.cli.packed import PackedStore
from cachewrap.cli.text import Meter, answers_text, count_text, entries_text
from cachewrap.encryption import keys_from_environment
from cachewrap.entries.stored import raw_entries
from cachewrap.entry import Entry
from cachewrap.errors import ConfigurationError, StoreError, printable
from cachewrap.format.sealing import UNSEALED, Guard, make_guard
from cachewrap.policy import STORE_SECONDS, seed_text
from cachewrap.stores.base import Seeds, Store
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.disk.folder import OURS, connect, execute
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.stores.seed_folders import DATABASE
from cachewrap.urls import absolute, parse_url

_ENCRYPTED: Final = b"cwe"
_FOREIGN: Final = (  # texts, also in files, and what is pickled
    f"SELECT count(*) FROM Cache WHERE NOT ({OURS}) AND raw = 1 AND typeof(key) = 'text'"
    " AND (mode IN (3, 4) OR typeof(value) = 'text')"
)
_MOST_OPEN: Final = 8
"""Seeds, at most, whose files are open at a time."""

_SEEDS_LOOKED: Final = 50
_SEEDS_NAMED: Final = 4
"""Seeds, at most, that are named with their entries where another one has none."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Place:
    """One partition: its store, its seed, and what opens its entries.

    Args:
        store: where the entries live.
        seed: the seed that they belong to.
        name: what people call its place, where several are read; else ``""``.
        same: the file with the rules of equality that its URL names; None for none.

    Attributes:
        guard: covers the entries that are to be encrypted, with the keys of the environment.
    """

    _in_use: ClassVar[list[Place]] = []  # the last disk caches that were used

    def __init__(self, store: Store, seed: str, name: str = "", same: str | None = None) -> None:
        self._store = store
        self.seed = seed
        self.name = name
        self.same = same
        self.guard: Guard = make_guard(keys_from_environment(), seed)

    @property
    def store(self) -> Store:
        """Where the entries live; of disk caches a few are open at a time, however many there are.

        What is closed is opened again when it is used.
        """
        used = self._in_use
        if isinstance(self._store, DiskStore) and (not used or used[-1] is not self):
            if self in used:
                used.remove(self)
            used.append(self)
            if len(used) > _MOST_OPEN:
                used.pop(0).rest()
        return self._store

    def unseal(self, key: str, raw: bytes) -> Entry:
        """Open an entry, encrypted or not. Raises `CorruptEntryError`."""
        return (self.guard if is_encrypted(raw) else UNSEALED).unseal(key, raw)

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Every key and what is stored under it, without loading them all at once."""
        return raw_entries(self.store)

    def rest(self) -> None:
        """Close the files of a disk cache: one seed of many is read, and then the next."""
        if isinstance(self._store, DiskStore):
            self._store.close()

    def get(self, key: str) -> bytes | None:
        """What is stored under a key; of a line that cannot be read no bytes, which are no entry.

        A line of a file may have been edited by hand: that is no reason to read no other one.
        """
        try:
            return self.store.get(key)
        except StoreError:
            if isinstance(self.store, JsonlStore) and key in self.store.keys():
                return b""
            raise


def is_encrypted(raw: bytes) -> bool:
    """Whether stored bytes are an encrypted entry."""
    return raw[:3] == _ENCRYPTED


def handed(name: str, made: Callable[..., Any], *options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options, of which a command is handed what is made.

    Args:
        name: the command's parameter.
        made: makes it, of the values of the options.
        options: those that have the names of its arguments.
    """
    names = list(inspect.signature(made).parameters)

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def handing(**given: Any) -> Any:
            one = made(**{name: given.pop(name) for name in names})
            return command(**{name: one}, **given)

        return together(*options)(handing)  # type: ignore[return-value]

    return decorate


def named_url(url: str, disk: str | None, redis: str | None) -> str | None:
    """The URL that an option of the command line names."""
    source = click.get_current_context().get_parameter_source("url")
    return one_url(disk, redis, url if source is ParameterSource.COMMANDLINE else None)


class Where:
    """The cache that a command is to read, as its words and options name it.

    Args:
        url: where it is, unless words say it.
        seed: its seed; None for the one of the URL, else 41.
        all_seeds: whether every seed is read.
        words: places, of any kind that can be guessed.
    """

    def __init__(
        self, url: str, seed: str | None, all_seeds: bool, words: Sequence[str] = ()
    ) -> None:
        self.all_seeds = all_seeds
        self._url = url
        self._seed = seed
        self._words = words

    def elsewhere(self, word: str) -> Where:
        """The cache that a word names instead, with the seeds that are wanted of this one."""
        return Where("", self._seed, self.all_seeds, (word,))

    @functools.cached_property
    def _found(self) -> Found:
        found = find(self._words) if self._words else Found(((self._url, self._url),))
        for note in found.notes:
            click.echo(note, err=True)
        return found

    @contextmanager
    def opened(self, *, empty: bool = False) -> Iterator[list[Place]]:
        """Its partitions, closed afterwards.

        Args:
            empty: whether a seed without entries is no mistake, although others have some.

        Raises `StoreError` where there is no cache, `ConfigurationError`, and `NoEntries` for a
        seed that has none where others have.
        """
        if self._seed is not None and self.all_seeds:
            raise click.UsageError("give --seed or --all-seeds, not both")
        with ExitStack() as opened:
            places = [
                place
                for url, name in self._found.urls
                for place in self._places(url, name if len(self._found.urls) > 1 else "", opened)
            ]
            if not empty and not self.all_seeds:
                check_seeds(places)
            yield places

    def _places(self, url: str, name: str, opened: ExitStack) -> list[Place]:
        store, seed = open_store(url, self._seed)
        opened.callback(store.close)
        _check_there(store, url)
        same = parse_url(url)[2].get("same")
        if not self.all_seeds:
            return [Place(store, seed, name, same)]
        if not isinstance(store, Seeds):
            raise click.UsageError("this kind of store cannot tell its seeds: give --seed")
        allow_many_files()
        return [Place(store.reseed(seed), seed, name, same) for seed in store.seeds()]

    def text(self, places: list[Place]) -> str:
        """The cache that was opened, for people: without its options, and without a password."""
        if self._found.text:
            return self._found.text
        store = places[0].store if places else open_store(self._found.urls[0][0])[0]
        return store.url.partition("?")[0]


class NoEntries(click.ClickException):
    """The seed that was asked for has no entries, and others of the same place have."""


def seeds_text(places: Iterable[Place]) -> str:
    """The seeds of some partitions, for people."""
    return ", ".join(dict.fromkeys(printable(place.seed) for place in places))


def check_seeds(places: Sequence[Place]) -> None:
    """Raise `NoEntries` where some partitions hold nothing, and others of their place do."""
    if any(True for place in places for _ in place.store.keys()):
        return
    counts: dict[str, int] = {}
    more = 0
    for place in places:
        if not isinstance(place.store, Seeds):
            continue
        for seed in in_order(place.store.seeds()):
            if len(counts) < _SEEDS_NAMED or seed in counts:
                if count := _count(place.store, seed):
                    counts[seed] = counts.get(seed, 0) + count
            else:
                more += seed != place.seed
    asked = seeds_text(places)
    if counts:
        told = ", ".join(f"{printable(s)} ({entries_text(n)})" for s, n in counts.items())
        others = f" and {count_text(more)} more" if more else ""
        hint = "give --seed, or --all-seeds"
        raise NoEntries(f"no entries in seed {asked}; seeds here: {told}{others} ({hint})")
    for store in (place.store for place in places):
        if not isinstance(store, DiskStore):
            continue
        for seed in store.seeds()[:_SEEDS_LOOKED]:
            here = store.reseed(seed)
            if foreign := foreign_answers(here):
                root = os.path.dirname(os.path.dirname(here.beside(DATABASE)))
                raise NoEntries(
                    f"no entries in seed {asked}, but {answers_text(foreign)} of AutoGen 0.2 in"
                    f" seed {printable(seed)}: cachewrap import {root} {root} takes them over"
                )


def in_order(seeds: Iterable[str]) -> list[str]:
    """Seeds as people count: 2 before 10, and words behind numbers."""
    return sorted(seeds, key=lambda seed: (len(seed) if seed.isdecimal() else inf, seed))


def foreign_answers(store: Store) -> int:
    """How many answers of AutoGen 0.2 stand beside a seed's entries, in its folder."""
    if not isinstance(store, DiskStore):
        return 0
    path = store.beside(DATABASE)
    if not os.path.exists(path):
        return 0
    with suppress(sqlite3.Error):  # whoever reads it is told what is wrong with it
        found = connect(path, STORE_SECONDS)
        if found is not None:
            with closing(found) as database:
                return int(execute(database, STORE_SECONDS, _FOREIGN).fetchone()[0])
    return 0


def _count(store: Store, seed: str) -> int:
    other: Store = store.reseed(seed)
    try:
        return sum(1 for _ in other.keys())
    finally:
        if isinstance(other, DiskStore):
            other.close()


url_options: Final = (
    click.option(
        "--url",
        metavar="URL",
        envvar="CACHEWRAP_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        help="Where the cache is.",
    ),
    click.option("--disk", metavar="DIR", help="The cache in this folder."),
    click.option("--redis", metavar="URL", help="The cache on this server."),
)
_seed_options: Final = (
    click.option("--seed", metavar="SEED", help="The seed; by default the URL's, else 41."),
    click.option("--all-seeds", is_flag=True, help="Every seed that the place holds."),
)
Split: TypeAlias = Callable[[Sequence[str], bool], tuple[Sequence[str], Any]]
"""Tells words that are places from others, which are given with whether an option names a place."""


def _words(metavar: str) -> Callable[[Any], Any]:
    required = any(not word.startswith("[") for word in metavar.split())
    return click.argument("words", metavar=metavar, nargs=-1, required=required, type=click.Path())


def where_beside(name: str, metavar: str, split: Split, *, seeds: bool = True) -> Callable[[F], F]:
    """`where_options`, for a command that takes words of its own beside the place.

    Args:
        name: the command's parameter for its own words.
        metavar: how all of them are shown.
        split: tells places from others: see `cachewrap.cli.guess`.
        seeds: whether it takes ``--seed`` and ``--all-seeds``.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def handing(words: Sequence[str], **given: Any) -> Any:
            url = given.pop("url")
            named = named_url(url, given.pop("disk"), given.pop("redis"))
            seed, every = given.pop("seed", None), given.pop("all_seeds", False)
            places, own = split(words, named is not None)
            where = Where(named or url, seed, every, places)
            return command(**{name: own} if name else {}, where=where, **given)

        options = (*url_options, *_seed_options) if seeds else url_options
        return together(_words(metavar), *options)(handing)  # type: ignore[return-value]

    return decorate


where_options: Final = where_beside("", "[PLACE]...", places_alone)
"""Options and words that name a cache: a command is handed it as ``where``."""

place_options: Final = where_beside("", "[PLACE]...", places_alone, seeds=False)
"""The same for all of its seeds."""


json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="For machines: JSON lines."
)


def open_store(url: str, seed: str | None = None) -> tuple[Store, str]:
    """The store of a URL, and the seed: the given one, else the URL's, else 41.

    Raises `ConfigurationError` for a URL that cannot be read, or that names a cache in memory.
    """
    kind, place, options = parse_url(url)
    if kind == "memory":
        raise ConfigurationError("a cache in memory ends with its process: give another URL")
    seed = seed_text(options.get("cache_seed", 41) if seed is None else seed)
    if kind == "disk":  # without max_bytes: looking at entries neither evicts them nor uses them
        return DiskStore(place, seed), seed
    if kind == "jsonl" and place.endswith(PACKED):
        return PackedStore(place, seed), seed
    return Cache.from_url(url).store.reseed(seed), seed


def allow_many_files() -> None:
    """Let this process open all the files that it may: each seed of a disk cache takes three."""
    if sys.platform == "win32":  # which has no such limit
        return
    with suppress(ImportError, ValueError, OSError):  # or has one that it does not tell
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _check_there(store: Store, url: str) -> None:
    """Raise `StoreError` unless there is a cache to read."""
    place = parse_url(url)[1]
    if isinstance(store, (DiskStore, JsonlStore)) and systems.is_nowhere(absolute(place)):
        raise StoreError(f"there is no cache at {place}: {systems.NO_DIRECTORY}")
    if isinstance(store, JsonlStore):
        if not os.path.exists(store.path):
            if store.logs():
                return  # of runs, of which no answer was stored
            raise StoreError(f"there is no cache at {store.path}: no such file{nearby(place)}")
        if not isinstance(store, PackedStore):
            store.check()
        if os.path.getsize(store.path) and not store.seeds() and not is_cassette(store.path):
            raise StoreError(f"{store.path} is not a cache: none of its lines is an entry")
    if not isinstance(store, DiskStore):
        store.get("0" * 64)  # a server that is down says so here
        return
    root = absolute(place)
    if not os.path.exists(root):
        raise StoreError(f"there is no cache at {root}: no such folder{nearby(place)}")
    if not os.path.isdir(root):
        raise StoreError(f"there is no cache at {root}: it is not a folder")
    if not store.seeds() and not store.logs():
        inside = " It is the folder of one seed: give the folder that it is in."
        hint = inside if os.path.exists(os.path.join(root, "cache.db")) else ""
        raise StoreError(f"{root} is not a cache: it holds no folder of a seed.{hint}")


def every_entry(places: Iterable[Place]) -> Iterator[tuple[Place, str, bytes]]:
    """The entries of several partitions, one after the other."""
    for place in places:
        for key, raw in place.entries():
            yield place, key, raw
        place.rest()


def progress(items: Iterable[T], places: Iterable[Place], doing: str) -> Iterator[T]:
    """The items, with a line on a terminal that tells how many have passed: see `Meter`.

    Args:
        items: one for each entry.
        places: where they come from: their keys are counted once it takes a while.
        doing: what is being done.
    """
    meter = Meter(doing, lambda: sum(1 for place in places for _ in place.store.keys()))
    yield from meter.over(items)
