"""The recorders of calls: each tells runs of what one cache has served, as it ends."""

from __future__ import annotations

import sys
import threading
from time import time
from typing import Any, Final, Literal, TypeAlias

from cachewrap.blocks import blocks
from cachewrap.entry import Entry, Outcome
from cachewrap.ledger import recording
from cachewrap.ledger.calls import BYPASSED, FAILED, HIT, JOINED, MISS, OUTCOMES
from cachewrap.ledger.pieces import Manner
from cachewrap.ledger.recording import Recording, wake
from cachewrap.stores.base import Logs, Store
from cachewrap.telemetry.usage import NO_DETAILS, Details

Told: TypeAlias = tuple[int, int, float, Details]

_HIT: Final = OUTCOMES.index(HIT)
_NUMBERS: Final = {
    Outcome.HIT: _HIT,
    Outcome.MISS: OUTCOMES.index(MISS),
    Outcome.JOINED: OUTCOMES.index(JOINED),
    Outcome.BYPASSED: OUTCOMES.index(BYPASSED),
}
_FAILED: Final = OUTCOMES.index(FAILED)

ALIAS: Final = "alias"
"""Why a call is a hit that was answered by the entry of another key."""

CUT_OFF: Final = "cut off"
"""Why the answer of a call is not stored whose caller has left before its end."""


class Section:
    """The place of calls in a run: the run, and the blocks inside it.

    Attributes:
        recording: the run.
        path: the blocks, outermost first, with ``/`` between; ``""`` for none.
        logs_url: where the run is written.
        append: has a call written.
        hits: the manner of hits, by seed and URL of the cache.
        outer: the run, or the block of it, around.
    """

    __slots__ = ("_manners", "append", "hits", "logs_url", "outer", "path", "recording")

    def __init__(self, run: Recording, path: str = "") -> None:
        self.recording = run
        self.path = path
        self.logs_url = run.store.logs_url
        self.append = run.rows.append
        self.hits: dict[str, Manner] = {}
        self.outer: Section | None = None
        self._manners: dict[tuple[int, str, str, str, tuple[str, ...]], Manner] = {}

    def manner(
        self, outcome: int, seed: str, place: str, reason: str, rules: tuple[str, ...] = ()
    ) -> Manner:
        """The manner in which calls end here, see `Manner`."""
        name = outcome, seed, place, reason, rules
        known = self._manners.get(name)
        if known is None:
            manner = Manner(outcome, seed, place, self.path, reason, rules)
            known = self._manners.setdefault(name, manner)
        return known


_modules: Final = sys.modules
_here = threading.local()


def lane() -> str:
    """The name of the task that runs, or else of the thread."""
    asyncio: Any = _modules.get("asyncio")
    if asyncio is not None:
        loop = getattr(asyncio, "_get_running_loop", _none)()
        if loop is not None and (task := asyncio.current_task(loop)) is not None:
            return str(task.get_name())
    if "trio" in _modules and _runs_trio():
        return str(_modules["trio"].lowlevel.current_task().name)
    try:
        found: str = _here.name
    except AttributeError:
        found = _here.name = threading.current_thread().name
    return found


def _none() -> None:
    return None


def _runs_trio() -> bool:
    sniffio: Any = _modules.get("sniffio")  # to ask trio itself costs an exception
    return getattr(getattr(sniffio, "thread_local", None), "name", None) == "trio"


class Recorder:
    """The recorder of the calls of one cache, which tells runs of them.

    A call belongs to the innermost run whose block it was made in, whatever cache served it;
    outside any, to the run of the whole process at the cache's place.

    Args:
        store: of the cache.
        url: of the cache.
        seed: of the cache.
        writes: whether the cache stores what it is answered: else only what has a name is kept.
    """

    __slots__ = ("_logs_url", "_name", "_own", "_seed", "_store", "_url", "_writes")

    def __init__(self, store: Store, url: str, seed: str, *, writes: bool) -> None:
        self._store = store
        self._url = url
        self._seed = seed
        self._writes = writes
        self._logs_url: str | None = None
        self._name = f"{seed} {url}"
        self._own: Section | Literal[False] | None = False  # False: not yet known

    def section(self) -> Section | None:
        """Where a call of this context belongs; None where it is written nowhere."""
        section: Section | None = blocks.get().run
        if section is not None:
            return section
        own = self._own
        return self._find() if own is False else own

    def tell(self, section: Section) -> None:
        """Tell this run of what is asked outside any block, wherever it is written."""
        self._own = section

    def _find(self) -> Section | None:
        store = self._store
        run = None
        if isinstance(store, Logs):
            run = recording.standing(store, self._url)
            if run is not None and not run.name and not self._writes:
                run = None
        self._own = None if run is None else Section(run)
        return self._own

    def _place(self, section: Section) -> str:
        """The URL of the cache, unless it has the run."""
        mine = self._logs_url
        if mine is None:
            store = self._store
            mine = self._logs_url = store.logs_url if isinstance(store, Logs) else ""
        return "" if mine == section.logs_url else self._url

    def _manner(self, section: Section) -> Manner:
        manner = section.manner(_HIT, self._seed, self._place(section), "")
        section.hits[self._name] = manner
        return manner

    def hit(
        self,
        entry: Entry,
        source: str,
        model: str,
        told: Told,
        key: str,
        started: float,
        rules: tuple[str, ...] = (),
    ) -> None:
        """Tell of a call that was answered from the store just now.

        Args:
            entry: the answer.
            source: what was called.
            model: the model.
            told: what the entry tells, as `Ended` has it.
            key: of the request.
            started: when the call began.
            rules: the rules of equality without which it would have been none.
        """
        section: Any = blocks.get().run
        if section is None:
            section = self._own
            if section is False:
                section = self._find()
            if section is None:
                return
        try:  # in line, for a thread that runs no tasks
            asyncio: Any = _modules.get("asyncio")
            in_loop = asyncio is not None and asyncio._get_running_loop() is not None
            named = lane() if in_loop or ("trio" in _modules and _runs_trio()) else _here.name
        except AttributeError:
            named = lane()
        if rules:
            manner = section.manner(_HIT, self._seed, self._place(section), "", rules)
        else:
            manner = section.hits.get(self._name) or self._manner(section)
        section.append(
            (
                (source, model, manner),
                key,
                0,
                started,
                time() - started,
                told,
                entry.created,
                named,
            )
        )
        if section.recording.asleep:
            wake(section.recording)

    def begin(self, exchange: Any, seconds: float = 0.0) -> Began | None:
        """The beginning of a call; None where it is written nowhere.

        Args:
            exchange: the request.
            seconds: how long ago it began.
        """
        section = self.section()
        if section is None:
            return None
        sample = getattr(exchange, "sample", 0)
        source, model, started = exchange.source, exchange.model, time() - seconds
        return Began(self, section, exchange.key, source, model, sample, started)

    def bypassed(self, source: str, reason: str) -> None:
        """Tell of a call that goes past the cache."""
        if (section := self.section()) is not None:
            began = Began(self, section, "", source, "", 0, time())
            began.ended(Outcome.BYPASSED, None, "", NO_DETAILS, reason)

    def refused(self, source: str) -> None:
        """Tell of a call that mode replay lets go nowhere."""
        if (section := self.section()) is not None:
            Began(self, section, "", source, "", 0, time()).failed("ReplayMissError")


class Began:
    """A call that a run will be told of once: when it has ended, or nobody waits for it any more.

    Attributes:
        key: the key of the request.
        left: how it has ended where nobody waits for it any more.
        told: whether the run was told.
    """

    __slots__ = (
        *("_lane", "_model", "_recorder", "_sample", "_section", "_source", "_started"),
        *("key", "left", "told"),
    )

    def __init__(
        self,
        recorder: Recorder,
        section: Section,
        key: str,
        source: str,
        model: str | None,
        sample: int,
        started: float,
    ) -> None:
        self._recorder = recorder
        self._section = section
        self.key = key
        self._source = source
        self._model = model
        self._sample = sample
        self._started = started
        self._lane = lane()
        self.left = Outcome.MISS
        self.told = False

    def __del__(self) -> None:
        # Its caller left a stream without closing it, or broke a generator off. A finaliser may run
        # under any lock: nobody is woken, and what waits is written with the next call or block.
        # In a forked child it is for the parent to tell.
        if not getattr(self, "told", True) and self._started >= self._section.recording.since:
            self.ended(self.left, None, self._model or "", NO_DETAILS, CUT_OFF, wakes=False)

    def ended(
        self,
        outcome: Outcome | None,
        entry: Entry | None,
        model: str,
        details: Details,
        reason: str = "",
        *,
        stored: bool = True,
        wakes: bool = True,
        rules: tuple[str, ...] = (),
    ) -> None:
        """Tell how it ended, unless that is told; an outcome of None is a call that raised."""
        if self.told:
            return
        self.told = True
        section, recorder = self._section, self._recorder
        number = _FAILED if outcome is None else _NUMBERS[outcome]
        manner = section.manner(number, recorder._seed, recorder._place(section), reason, rules)
        told: Told = (0, 0, 0.0, NO_DETAILS)
        answered = 0.0
        if entry is not None:
            told = entry.tokens_in, entry.tokens_out, entry.seconds, details
            answered = entry.created if stored else 0.0
        took = max(0.0, time() - self._started)
        what = self._source, model, manner
        section.append(
            (what, self.key, self._sample, self._started, took, told, answered, self._lane)
        )
        if wakes and section.recording.asleep:
            wake(section.recording)

    def __enter__(self) -> None:
        """The call is made in this block; it fails where the block raises."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self.failed(type(error).__name__)

    def finished(self, reply: Any, model: str, details: Details) -> None:
        """Tell how it was answered."""
        entry = reply.entry or reply.unkept
        stored, reason = reply.entry is not None, ALIAS if reply.alias else reply.reason
        self.ended(reply.outcome, entry, model, details, reason, stored=stored, rules=reply.by)

    def failed(self, reason: str) -> None:
        """Tell that it raised."""
        self.ended(None, None, self._model or "", NO_DETAILS, reason)

    def replaced(self, value: bytes, created: float) -> None:
        """Keep what was stored under the key until now."""
        self._section.recording.replaced(self.key, self._recorder._seed, created, value)
