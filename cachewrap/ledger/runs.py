"""Runs as plain objects: what each asked, in what order, and where the answers are."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, overload

from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.ledger import names
from cachewrap.ledger.calls import OUTCOMES, Call, Place, Rows
from cachewrap.ledger.joining import lives
from cachewrap.ledger.pieces import Begin, End, read
from cachewrap.ledger.recording import flush
from cachewrap.stores.base import Logs

if TYPE_CHECKING:
    from cachewrap.ledger.diff import Diff
    from cachewrap.ledger.prefixes.loss import Prefixes
    from cachewrap.ledger.recorder import Section
    from cachewrap.ledger.recording import Recording


ENDED: Final = "ended"
RUNNING: Final = "running"
KILLED: Final = "killed"
UNKNOWN: Final = "unknown"

_LATEST: Final = 5
"""Runs that are looked at, or named, where a name is none."""


class Run:
    """One run: the calls that it made, as they were written down.

    It is read when it is looked at first, and again by `reload`.

    Attributes:
        name: its name; of one that was given none, when it began, in UTC, and a number.
        number: which run of that name it is, from 1; 0 of one that was given no name.
        size: bytes that its log takes.
        changed: when it was written last, in seconds since the epoch; 0.0 where not known.
        newer: how many runs of its name were newer when it was found.
        cache: a cache of the place that it is in, which has its answers.
    """

    def __init__(self, cache: Place, name: names.LogName, size: int = 0, section: str = "") -> None:
        self.cache = cache
        self.name = name.name
        self.number = name.number
        self.size = size
        self.changed = 0.0
        self.newer = 0
        self._log = name.log
        self._section = section
        self._read: Contents | None = None
        self._order: tuple[float, int] | None = None
        self._recording: Recording | None = None

    def __repr__(self) -> str:
        calls = len(self.calls())
        return f"<Run {self.label}: {calls} call{'s' * (calls != 1)}>"

    @classmethod
    def of_block(cls, cache: Place, section: Section | None, name: str) -> Run:
        """The run of a block that goes on, whose log is not decided before it is first written.

        Args:
            cache: of the block.
            section: where its calls belong; None where nothing is kept of them.
            name: the name of the block.
        """
        if section is None:
            return cls(cache, names.LogName("", name, 1))
        recording = section.recording
        run = cls(cache, names.LogName("", recording.name, 1), section=section.path)
        run._recording = recording
        return run

    @property
    def named(self) -> bool:
        """Whether it was given a name: it is kept until it is removed."""
        return self.number > 0

    @property
    def label(self) -> str:
        """What it is asked for by: ``baseline``, or ``baseline~1``, or of a block in it ``a/b``."""
        back = f"~{self.newer}" if self.newer else ""
        return f"{self.name}{back}/{self._section}" if self._section else f"{self.name}{back}"

    @property
    def order(self) -> tuple[float, int]:
        """By what runs are in order: when it began, as its log begins. No call is read for it."""
        if self._order is None:
            store: Any = self.cache.store
            parts = read(store.read_log(self._log))
            first = next((one for one in parts if isinstance(one, Begin)), None)
            self._order = (first.started if first else 0.0, self.number)
            self.name = self.name or (first.name if first else "")
        return self._order

    @property
    def section(self) -> str:
        """The path of the block inside that it is; ``""`` of a whole run."""
        return self._section

    @property
    def log(self) -> str:
        """The name of its log in the store; ``""`` while nothing of it was written."""
        if self._recording is not None:
            self._follow()
        return self._log

    def reload(self) -> None:
        """Forget what was read."""
        self._read = None

    def _whole(self) -> Contents:
        if self._recording is not None:
            self._read = None  # it goes on
            if self._recording.goes_on or self._recording.waits():
                self._recording.try_to_write()
            self._follow()
        if self._read is None:
            store: Any = self.cache.store
            pieces = store.read_log(self._log) if self._log else ()
            self._read = Contents(pieces, self._section)
            self.name = self.name or self._read.name
        return self._read

    def _follow(self) -> None:
        """Take over what is decided of a run that goes on by now; let go of one that has ended."""
        recording = self._recording
        assert recording is not None
        if (name := names.parsed(recording.log)) is not None:
            self._log, self.number = name.log, name.number
        if self._log and not (recording.goes_on or recording.waits()):
            self._recording = None

    @property
    def started(self) -> datetime:
        """When it began, in UTC; 1970 where that is not known."""
        return datetime.fromtimestamp(self._whole().started, UTC)

    @property
    def ended(self) -> datetime | None:
        """When its last process ended, in UTC; None while one has not, or was killed."""
        ended = self._whole().ended
        return datetime.fromtimestamp(ended, UTC) if ended else None

    @property
    def state(self) -> str:
        """Whether it goes on.

        ``"ended"``; ``"running"`` while a process of it lives; ``"killed"`` where one has not ended
        and is no more; ``"unknown"`` where that cannot be told, as it is on another host.
        """
        begun = self._whole().open
        if not begun:
            return ENDED if self.processes else UNKNOWN
        if any(lives(one, self.changed) for one in begun):
            return RUNNING
        here = os.name != "nt" and all(one.host == socket.gethostname() for one in begun)
        return KILLED if here else UNKNOWN

    @property
    def processes(self) -> list[Begin]:
        """The processes that took part, in the order in which they began."""
        return self._whole().begun

    @property
    def lost(self) -> int:
        """Calls that are missing, as the store could not be written for too long."""
        return self._whole().lost

    @property
    def seconds(self) -> float:
        """From the beginning of its first call to the end of its last one."""
        calls = self.calls()
        if not calls:
            return 0.0
        return max(call.started + call.seconds for call in calls) - calls[0].started

    def calls(self) -> Rows[Call]:
        """Its calls, in the order in which they began."""
        return self._whole().calls

    def to_dicts(self) -> list[dict[str, Any]]:
        """Its calls, each as a dictionary of plain values."""
        return self.calls().to_dicts()

    def block(self, path: str) -> Run:
        """The part of it that was made in a block inside: ``a/b`` is ``b`` inside ``a``."""
        part = f"{self._section}/{path}" if self._section else path
        run = Run(self.cache, names.LogName(self.log, self.name, self.number), self.size, part)
        run.changed, run.newer = self.changed, self.newer
        return run

    def has_block(self, path: str) -> bool:
        """Whether something was asked in a block of that path inside."""
        return any(f"{call.path}/".startswith(f"{path}/") for call in self.calls())

    def as_dict(self) -> dict[str, Any]:
        """What is known of it as plain values: a row of a table."""
        calls = self.calls()
        counted: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        for call in calls:
            counted[call.outcome] += 1
        served = [call for call in calls if call.served]
        return {
            "name": self.name,
            "number": self.number,
            "started": self.started,
            "ended": self.ended,
            "calls": len(calls),
            **counted,
            "tokens_saved": sum(call.tokens_in + call.tokens_out for call in served),
            "seconds_saved": sum(call.upstream_seconds for call in served),
            "processes": len(self.processes),
            "bytes": self.size,
        }

    def raw_answer(self, call: Call) -> bytes | None:
        """The stored bytes of the answer that a call was given; None where they are gone.

        An answer that another has replaced since is found where a run has kept it, see
        `ledger.answers`. Raises `StoreError`.
        """
        from cachewrap.ledger.answers import Answers

        return Answers.of(self.cache).raw(call)

    def prefix(self) -> Prefixes:
        """What its prompts begin with, and why the provider's own cache missed. See `Prefixes`.

        Raises `StoreError`.
        """
        from cachewrap.ledger.prefixes.breaks import prefixes_of

        return prefixes_of(self)

    def diff(self, other: Run | str, *, ignore: Iterable[str] = ()) -> Diff:
        """What is different in another run: this one is the baseline, the other the candidate.

        Args:
            other: a run of the same cache or of another one; or what one of the same is asked for
                by, as in `Runs`.
            ignore: fields of requests that make no difference, see `ledger.diff`.
        """
        from cachewrap.ledger.diff import compare

        if isinstance(other, str):
            other = runs_of(self.cache)[other]
        return compare(self, other, ignore=ignore)


class Contents:
    """The contents of a run's log, or of a block of it."""

    def __init__(self, pieces: Iterable[bytes], section: str) -> None:
        self.calls: Rows[Call] = Rows()
        self.lost = 0
        ends: dict[int, float] = {}
        begun: dict[int, Begin] = {}
        for part in read(pieces):
            if isinstance(part, Begin):
                begun.setdefault(part.writer, part)  # it may have been sent twice
            elif isinstance(part, End):
                if part.ended:
                    ends[part.writer] = part.ended
                self.lost += part.lost
            elif isinstance(part, list):
                self.calls += part
        if section:
            inside = f"{section}/"
            self.calls = Rows(
                one for one in self.calls if one.path == section or one.path.startswith(inside)
            )
        self.calls.sort(key=_began)
        for number, call in enumerate(self.calls):
            call.number = number
        self.begun = sorted(begun.values(), key=lambda one: one.started)
        self.name = self.begun[0].name if self.begun else ""
        self.started = self.begun[0].started if self.begun else 0.0
        self.open = [one for one in self.begun if one.writer not in ends]
        self.ended = max(ends.values()) if self.begun and not self.open else 0.0


def _began(call: Call) -> float:
    return call.started


class Runs(Rows[Run]):
    """The runs of a place, the oldest first.

    ``runs["baseline"]`` is the newest of that name, ``runs["baseline~1"]`` the one before it,
    ``runs["baseline/block"]`` the calls of a block inside. A run without a name is known by the
    beginning of the name that it was given, and ``runs["@"]`` is the newest of all.
    """

    @overload
    def __getitem__(self, which: SupportsIndex | str) -> Run: ...
    @overload
    def __getitem__(self, which: slice) -> list[Run]: ...
    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, str):
            return super().__getitem__(which)
        found = self.find(which)
        if found is None:
            raise KeyError(self.missing(which))
        return found

    def find(self, which: str) -> Run | None:
        """The run that is meant by a name; None where there is none, or more than one."""
        whole, _, path = which.partition("/")
        name, _, back = whole.partition("~")
        if back and not back.isdecimal():
            return None
        if name == "@":
            found = list(self)
        else:
            found = sorted((run for run in self if run.name == name), key=_number)
            if not found and len(name) >= 4:
                found = [run for run in self if not run.named and run.name.startswith(name)]
                if len(found) > 1:
                    return None
        at = len(found) - 1 - int(back or 0)
        if at < 0:
            return None
        return found[at].block(path) if path else found[at]

    def missing(self, which: str) -> str:
        """What is said where no run is meant by a name."""
        import difflib

        known = list(dict.fromkeys(run.name for run in self if run.named))
        for run in self[: -_LATEST - 1 : -1]:
            if self.find(run.name) is run and run.has_block(which):
                return f"no run {which!r}: it is a block of {run.name}, {run.name}/{which}"
        close = difflib.get_close_matches(which, known, 1)
        if close:
            return f"no run {which!r}: did you mean {close[0]!r}?"
        be = "is" if len(known) == 1 else "are"
        more = f" and {len(known) - _LATEST} more" if len(known) > _LATEST else ""
        told = f"there {be} {', '.join(known[-_LATEST:])}{more}" if known else "none has a name"
        return f"no run {which!r}: {told}" if self else f"no run {which!r}: no run was kept"


def _number(run: Run) -> int:
    return run.number


def runs_of(cache: Place) -> Runs:
    """The runs of the place of a cache, the oldest first; none where its store keeps none.

    Raises `StoreError`.
    """
    store = cache.store
    if not isinstance(store, Logs):
        return Runs()
    flush(store)
    found = []
    for facts in store.logs():
        if (name := names.parsed(facts.name)) is not None:
            run = Run(cache, name, facts.size)
            run.changed = facts.changed
            found.append(run)
    found.sort(key=lambda run: run.order)
    newer: Counter[str] = Counter()
    for run in sorted(found, key=_number, reverse=True):
        run.newer = newer[run.name]
        newer[run.name] += 1
    return Runs(found)


def remove(run: Run) -> None:
    """Remove a run, and what it has kept that no other run needs.

    Raises `ConfigurationError` while it goes on, and `StoreError`.
    """
    from cachewrap.ledger.answers import sweep

    _check_ended(run)
    store: Any = run.cache.store
    store.remove_log(run.log)
    sweep(run.cache)


def rename(run: Run, name: str) -> Run:
    """Give a run a name, of which it is the newest then.

    Raises `ConfigurationError` for what is no name, or while the run goes on; `StoreError`.
    """
    name = names.check_name(name)
    _check_ended(run)
    store: Any = run.cache.store
    numbers = [one.number for one in runs_of(run.cache) if one.name == name and one.named]
    to = names.named_log(name, max(numbers, default=0) + 1)
    if not _copy(store, run.log, to, name):
        raise StoreError(f"nothing of {run.name} can be read: its log is damaged")
    kept = f"{names.REPLACED}{run.log}"
    if any(facts.name == kept for facts in store.logs()):
        _copy(store, kept, f"{names.REPLACED}{to}", name)
        store.remove_log(kept)
    store.remove_log(run.log)
    return runs_of(run.cache)[name]


def _check_ended(run: Run) -> None:
    if run.state == RUNNING:
        raise ConfigurationError(f"the run {run.label} goes on: end it first")


def _copy(store: Any, log: str, to: str, name: str) -> int:
    import msgspec

    from cachewrap.ledger.pieces import Reader, encode

    copied = 0
    for piece in store.read_log(log):
        part = Reader().read(piece) if piece[1:2] == b"B" else None
        if isinstance(part, Begin):
            piece = encode(msgspec.structs.replace(part, name=name))
        store.append_to_log(to, [piece])
        copied += 1
    return copied
