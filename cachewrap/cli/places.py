"""Places, which commands read and write: from a URL to an opened partition of any store."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import click
from click.core import ParameterSource

from cachewrap import systems
from cachewrap.cache import Cache
from cachewrap.cli.options import DEFAULT_URL, one_url, together
from cachewrap.cli.text import is_terminal
from cachewrap.encryption import keys_from_environment
from cachewrap.entries.stored import raw_entries
from cachewrap.entry import Entry
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.format.sealing import UNSEALED, Guard, make_guard
from cachewrap.policy import seed_text
from cachewrap.stores.base import Seeds, Store
from cachewrap.stores.disk import DiskStore
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.stores.jsonl.lines import head_of
from cachewrap.urls import absolute, parse_url

_ENCRYPTED: Final = b"cwe"
_MOST_OPEN: Final = 8
"""Seeds, at most, whose files are open at a time."""

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Place:
    """One partition: its store, its seed, and what opens its entries.

    Args:
        store: where the entries live.
        seed: the seed that they belong to.

    Attributes:
        guard: covers the entries that are to be encrypted, with the keys of the environment.
    """

    _in_use: ClassVar[list[Place]] = []  # the last disk caches that were used

    def __init__(self, store: Store, seed: str) -> None:
        self._store = store
        self.seed = seed
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


def _url(url: str, disk: str | None, redis: str | None) -> str:
    source = click.get_current_context().get_parameter_source("url")
    return one_url(disk, redis, url if source is ParameterSource.COMMANDLINE else None) or url


@dataclass(frozen=True, slots=True)
class Where:
    """The cache that a command is to read, as its options name it.

    Args:
        url: where it is.
        seed: its seed; None for the one of the URL, else 41.
        all_seeds: whether every seed is read.
    """

    url: str
    seed: str | None
    all_seeds: bool

    @contextmanager
    def opened(self) -> Iterator[list[Place]]:
        """Its partitions, closed afterwards.

        Raises `StoreError` where there is no cache, and `ConfigurationError`.
        """
        if self.seed is not None and self.all_seeds:
            raise click.UsageError("give --seed or --all-seeds, not both")
        store, seed = open_store(self.url, self.seed)
        try:
            _check_there(store, self.url)
            if self.all_seeds:
                if not isinstance(store, Seeds):
                    raise click.UsageError("this kind of store cannot tell its seeds: give --seed")
                allow_many_files()
                yield [Place(store.reseed(name), name) for name in store.seeds()]
            else:
                yield [Place(store, seed)]
        finally:
            store.close()

    def text(self, places: list[Place]) -> str:
        """The cache that was opened, for people: without its options, and without a password."""
        store = places[0].store if places else open_store(self.url)[0]
        return store.url.partition("?")[0]


url_option: Final = handed(
    "url",
    _url,
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
where_options: Final = handed(
    "where",
    Where,
    url_option,
    click.option("--seed", metavar="SEED", help="The seed; by default the URL's, else 41."),
    click.option("--all-seeds", is_flag=True, help="Every seed that the place holds."),
)
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
            raise StoreError(f"there is no cache at {store.path}: no such file")
        store.check()
        if os.path.getsize(store.path) and not store.seeds() and not _begins(store.path):
            raise StoreError(f"{store.path} is not a cache: none of its lines is an entry")
    if not isinstance(store, DiskStore):
        store.get("0" * 64)  # a server that is down says so here
        return
    root = absolute(place)
    if not os.path.exists(root):
        raise StoreError(f"there is no cache at {root}: no such folder")
    if not os.path.isdir(root):
        raise StoreError(f"there is no cache at {root}: it is not a folder")
    if not store.seeds():
        inside = " It is the folder of one seed: give the folder that it is in."
        hint = inside if os.path.exists(os.path.join(root, "cache.db")) else ""
        raise StoreError(f"{root} is not a cache: it holds no folder of a seed.{hint}")


def _begins(path: str) -> bool:
    with systems.files.reader(path) as file:
        first = file.readline().strip()
    try:
        return not first or head_of(first).cachewrap is not None
    except ValueError:
        return False


def every_entry(places: Iterable[Place]) -> Iterator[tuple[Place, str, bytes]]:
    """The entries of several partitions, one after the other."""
    for place in places:
        for key, raw in place.entries():
            yield place, key, raw
        place.rest()


def progress(items: Iterable[T], places: Iterable[Place], doing: str) -> Iterator[T]:
    """The items, with a bar on stderr while they pass if that is a terminal.

    Args:
        items: one for each entry.
        places: where they come from: their keys are counted first.
        doing: what is being done.
    """
    if not is_terminal(sys.stderr):
        yield from items
        return
    length = sum(1 for place in places for _ in place.store.keys())
    with click.progressbar(items, length=length, label=doing, file=sys.stderr) as bar:
        yield from bar
