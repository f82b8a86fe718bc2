"""A cache for a whole program that was not changed, as environment variables say, or for a worker.

Imported at the start of every Python process of that program, most of which call no model: so what
a cache needs is imported when the first client is made, or the first decorated function called.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from cachewrap import blocks, systems
from cachewrap.run.clients import FirstClient
from cachewrap.run.own import OwnCaches

if TYPE_CHECKING:
    from cachewrap.cache import Cache
    from cachewrap.call.stats import Stats
    from cachewrap.sdk.others import Patches

URL: Final = "CACHEWRAP_URL"
"""Where the cache is; ``disk:.cache`` where it is not set."""

QUIET: Final = "CACHEWRAP_QUIET"
"""Whether nothing is printed at the end."""

RUN: Final = "CACHEWRAP_RUN"
"""The name under which what is asked is kept; without one it is kept for a while."""

RUN_ID: Final = "CACHEWRAP_RUN_ID"
"""What all processes of one program have in common, so that it is one run: set by the first."""

TALLY: Final = "CACHEWRAP_TALLY"
"""Set by the first process of a program: the file to which the others add what they counted."""

_FEWEST_MISSES: Final = 5
"""Calls that missed, below which nothing is made of it."""

_OWN_TOLD: Final = 3
"""Caches of the program's own, at most, of which each is told by itself."""


class Activation:
    """The handle of an `activate`; use it as a block, or call `undo`.

    Attributes:
        cache: what serves the process, until another one is activated.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    @property
    def active(self) -> bool:
        """Whether it is the newest, and was not undone."""
        return _activation is self

    def undo(self) -> None:
        """`deactivate`, unless another cache was activated since; a second time does nothing."""
        _end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        if not self.active:
            return f"<activation of {self.cache.url}: over>"
        return (
            f"<activation of {self.cache.url}: it serves this process until cachewrap.deactivate()>"
        )

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_line(repr(self))


def activate(cache: Cache | str | None = None) -> Activation:
    """Serve this whole process from a cache from now on: a block that is entered and never left.

    It reaches every thread, task, greenlet and event loop, also those that run already. Where one
    has a block of its own, entered before or later, that comes first there; only in the calling
    context the cache stands inside what was entered before. The last call decides, so that it may
    be made again and again, at each task of a worker or each run of a script.

    It is the initializer for pools of processes, whose workers begin outside every block:
    ``ProcessPoolExecutor(initializer=activate, initargs=(cache,))``. The known SDKs are patched as
    well (see `patch_all`), since a fresh interpreter does not know of the patches of its parent.

    In a notebook it stands in the first cell, and serves all of them: ``activate("disk:.cache")``.
    Run the cell again as often as you like. `deactivate` is the opposite.

    Args:
        cache: a cache, which travels to the worker and opens its store there anew (one in memory
            starts empty), or a URL for `Cache.from_url`. None takes the URL from the environment
            variable ``CACHEWRAP_URL``. The same URL again is the same cache.

    Returns a handle with the `cache` and `undo`, which also works as a block.

    Raises `ConfigurationError` if there is neither, or for a URL that names no cache.
    """
    global _activation, _patches
    from cachewrap.cache import Cache
    from cachewrap.errors import ConfigurationError
    from cachewrap.urls import wrong_cache

    if cache is None:
        cache = os.environ.get(URL)
        if not cache:
            raise ConfigurationError(
                f'no cache to activate: write activate("disk:.cache"), or set {URL}'
            )
    if isinstance(cache, str):
        cache = _named(cache)
    if not isinstance(cache, Cache):
        raise ConfigurationError(wrong_cache(cache, "activate takes the URL of a cache, or"))
    patches = _patch_all()
    cache.hold()
    made = Activation(cache)
    with _lock:
        before, _activation = _activation, made
        older, _patches = _patches, patches
        blocks.activate(cache)
    _leave(before, older)
    return made


def deactivate() -> None:
    """Undo `activate`: the process is served by nothing any more, in every thread and task.

    The cache is closed, and the patches that `activate` applied are undone: those that the program
    applied itself stay. Blocks stay what they are, and so does the cache around a program that
    ``cachewrap run`` has started. Calls that are under way are finished as they began. Where
    nothing is active it does nothing.
    """
    _end(_activation)


def _end(activation: Activation | None) -> None:
    global _activation, _patches
    with _lock:
        if activation is None or _activation is not activation:
            return
        _activation = None
        older, _patches = _patches, None
        blocks.deactivate()
    _leave(activation, older)


def _leave(activation: Activation | None, patches: Patches | None) -> None:
    if patches is not None:
        patches.undo()
    if activation is not None:
        activation.cache.release()


_lock = threading.Lock()
systems.renew_in_child(globals(), _lock=threading.Lock)
_activation: Activation | None = None
_patches: Patches | None = None
_by_name: tuple[object, Cache] | None = None


def _named(url: str) -> Cache:
    """The cache of a URL: that of the last time, where the same URL means the same now."""
    global _by_name
    from cachewrap.cache import Cache

    settings = {name: value for name, value in os.environ.items() if name.startswith("CACHEWRAP_")}
    means = (url, systems.absolute("."), settings)
    known = _by_name
    if known is None or known[0] != means:
        known = _by_name = (means, Cache.from_url(url))
    return known[1]


def serve_program() -> Program:
    """Serve every call of this process from the cache that the environment names.

    The SDKs are patched when the first client of one is made, and the cache is the outermost block
    of every thread. When the process ends, it says on stderr what was saved; its sub-processes add
    to that.
    """
    program = Program()
    sys.meta_path.insert(0, program.clients)
    blocks.serve_program(program.blocks)
    blocks.made = program.own.saw
    return program


class Program:
    """A program, as its processes share it: the cache, and the count of what it saved.

    Attributes:
        clients: what sees that a client is made.
        own: the caches that the program makes itself.
    """

    def __init__(self) -> None:
        self.clients = FirstClient(self.open)
        self.own = OwnCaches()
        self._lock = threading.RLock()
        self._opened = False
        self._blocks = blocks.OUTSIDE
        self._cache: Cache | None = None
        self._told = False
        self._began = time.time()
        self._first = TALLY not in os.environ
        if self._first:
            name = f"cachewrap-{os.urandom(16).hex()}"
            os.environ[TALLY] = os.path.join(_temporary(), name)
            if RUN_ID not in os.environ:  # where `cachewrap run` did not start it
                from cachewrap.ledger.names import new_unnamed

                os.environ[RUN_ID] = new_unnamed()
        self._path = os.environ[TALLY]
        atexit.register(self.finish)
        systems.in_forked_child(self._forked)

    def blocks(self) -> blocks.Stack:
        """What stands outside every block of the program."""
        if not self._opened:
            self.open()
        return self._blocks

    def open(self) -> None:
        """Open the cache, at the first call; say so on stderr where it cannot be."""
        with self._lock:
            if self._opened:
                return
            self.clients.stop()
            self._cache = self._open()
            if self._cache is not None:
                self._blocks = blocks.OUTSIDE.entered(self._cache)
            self._opened = True

    def _open(self) -> Cache | None:
        from cachewrap.errors import CachewrapError

        try:
            from cachewrap.cache import Cache

            cache = Cache.from_url(os.environ.get(URL) or "disk:.cache")
            self.own.forget(cache.stats)
            cache.check()
            _patch_all()
        except (CachewrapError, ImportError) as error:
            sys.stderr.write(f"cachewrap: this program goes without a cache: {error}\n")
            return None
        import wrapt

        wrapt.register_post_import_hook(self._watch_workers, "multiprocessing.util")
        return cache

    def _forked(self) -> None:
        """In a forked child: it counts for itself."""
        self._lock = threading.RLock()
        self.clients.renew()
        self.own.renew()
        self._first = self._told = False
        if self._cache is not None:
            self._cache.stats.reset()

    def _watch_workers(self, util: Any) -> None:
        # Workers of multiprocessing end without the functions that atexit was given.
        def watch(program: Program) -> None:
            util.Finalize(None, program.finish, exitpriority=-100)

        util.register_after_fork(self, watch)
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            watch(self)

    def finish(self) -> None:
        """Tell what was saved, or add it to what the first process will tell."""
        if self._told:
            return
        self._told = self._opened = True  # what looks up prices imports an SDK's parts
        if self._cache is not None:
            self._cache.close()
        if self._first:
            self._tell()
        else:
            self._add()

    def _add(self) -> None:
        import json

        lines: list[list[Any]] = [
            [url, stats.as_dict()] for url, stats in self.own.counts().items()
        ]
        if self._cache is not None:
            stats = self._cache.stats
            # The first process may have no cache, and can import none at its end.
            place = self._place_apart(stats, stats.missed)
            lines.append([self._cache.url, stats.as_dict(), stats.missed, place])
        told = "".join(f"{json.dumps(line)}\n" for line in lines)
        if told:
            systems.append(self._path, told.encode(), follows=False)

    def _tell(self) -> None:
        others: list[str] = []
        with suppress(OSError):
            told = systems.files.contents(self._path, follows=False)
            others = told.decode(errors="replace").splitlines()
            os.unlink(self._path)
        if os.environ.get(QUIET):
            return
        if self._cache is None and not others and not self.own.counts():
            lines = ["no call of a model was seen: no client of one was made, no function cached"]
        else:
            lines = self._lines(others)
        with suppress(OSError, ValueError):  # stderr may be closed by now
            sys.stderr.write("".join(f"cachewrap: {line}\n" for line in lines))

    def _lines(self, others: list[str]) -> list[str]:
        """What is said at the end: what was saved, and what kept calls from being cached."""
        import json

        from cachewrap.call.stats import Stats

        stats = Stats() if self._cache is None else self._cache.stats
        place = "" if self._cache is None else self._cache.url
        missed, apart = list(stats.missed), None
        own = self.own.counts()
        for line in others:
            url, counted, *more = json.loads(line)
            if not more:
                own.setdefault(url, Stats()).add(counted)
                continue
            stats.add(counted)
            missed += more[0]
            apart = apart or more[1]
            place = place or url  # as they have it: that of the environment may hold a password
        if place in own:
            stats.add(own.pop(place).as_dict())
        apart = self._place_apart(stats, missed[:3]) or apart
        return lines_of(stats, place, own, apart)

    def _place_apart(self, stats: Stats, missed: list[str]) -> tuple[str, str] | None:
        """In which one place the calls that missed differ from what is stored."""
        if self._cache is None:
            return None
        try:
            return apart_of(self._cache, stats, missed, self._began)
        finally:
            self._cache.close()


def lines_of(
    stats: Stats, place: str, own: dict[str, Stats], apart: tuple[str, str] | None
) -> list[str]:
    """What is said at the end: what was saved, and what kept calls from being cached.

    Args:
        stats: what was counted.
        place: the URL of the cache.
        own: what caches of the program's own counted, by their URLs.
        apart: kind and name of the one place in which nearly all calls that missed differ, or
            ``"set"`` and the name of the rules that make them equal to stored ones.
    """
    from cachewrap.call.stats import summary, unknown_hosts
    from cachewrap.telemetry.usage import can_price

    told = {url: one for url, one in own.items() if one.total.calls + one.absent}
    lines = [summary(one, where) for where, one in _of_own(told)]
    if not lines or stats.total.calls + stats.absent + stats.bypassed:
        lines.insert(0, summary(stats, place))
    lines += unknown_hosts(stats)
    whole = [stats, *told.values()]
    if not can_price() and any(one.total.tokens_in_spent for one in whole):
        lines.append("for what it cost: pip install 'cachewrap[prices]'")
    if stats.total.calls or told:
        lines += _of_run(place)
    if apart and (many := nearly_all_missed(stats)):
        kind, name = apart
        alone = f"each differs from a stored one in the {kind} {name} alone (--unkeyed {name})"
        if kind == "set":
            alone = f"each is equal to a stored one by the rules of {name} (--same FILE)"
        lines.append(f"{many}: {alone}")
    return lines


def _of_run(place: str) -> list[str]:
    """What is said of the run, where it was given a name: how to look at it."""
    import shlex

    from cachewrap.policy import LEDGER_VARIABLE

    name = os.environ.get(RUN)
    if not name or os.environ.get(LEDGER_VARIABLE) == "0" or not place or "memory:" in place[:7]:
        return []
    words = ["cachewrap", "runs", "show", *_as_typed(place), name]
    return [f"run {name}: {shlex.join(words)}"]


def _as_typed(url: str) -> list[str]:
    """A cache as commands are given it; nothing for the one that they take by themselves."""
    from cachewrap.urls import parse_url

    kind, place, options = parse_url(url)
    if kind not in ("disk", "jsonl") or options.keys() - {"cache_seed"}:
        return [url]
    place = place.removeprefix(os.path.join(systems.absolute("."), ""))
    return [] if (kind, place) == ("disk", ".cache") else [place]


def apart_of(cache: Cache, stats: Stats, missed: list[str], began: float) -> tuple[str, str] | None:
    """Kind and name of the one place in which nearly all calls that missed differ; else None.

    Args:
        cache: the cache of the run.
        stats: what was counted.
        missed: keys of some of the calls.
        began: when the run began, in seconds since the epoch.
    """
    if not missed or not nearly_all_missed(stats):
        return None
    from cachewrap.errors import CachewrapError
    from cachewrap.run.misses import place_apart

    try:
        return place_apart(cache, missed, began)
    except CachewrapError:
        return None


def _of_own(own: dict[str, Stats]) -> list[tuple[str, Stats]]:
    """The caches of a program's own as they are told: each by itself, or many together."""
    if len(own) <= _OWN_TOLD:
        named = {url: "memory" if url.startswith("memory:") else url for url in own}
        return [(f"{named[url]} (the program's own)", one) for url, one in own.items()]
    first, *rest = own.values()
    for one in rest:
        first.add(one.as_dict())
    return [(f"{len(own):,} caches of the program's own", first)]


def nearly_all_missed(stats: Stats) -> str:
    """How many calls over HTTP missed, if that is nearly all, and not too few to tell; else ""."""
    groups = [one for source, one in stats.by_source.items() if source.startswith("POST /")]
    misses, calls = sum(one.misses for one in groups), sum(one.calls for one in groups)
    if misses < _FEWEST_MISSES or (calls - misses) * 10 >= calls:
        return ""
    return f"{misses:,} of {calls:,} calls missed"


def _temporary() -> str:
    """The folder of temporary files, as `tempfile` would find it, which costs more to import."""
    if os.name == "nt":
        return os.environ.get("TEMP") or os.getcwd()
    return os.environ.get("TMPDIR") or "/tmp"


def _patch_all() -> Patches:
    from cachewrap.sdk.others import patch_all

    return patch_all()
