"""Refreshed answers: how they differ from those that the cassettes held before the run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, NamedTuple

from cachewrap.entries.stored import Samples, StoredEntry
from cachewrap.entry import Entry
from cachewrap.errors import CorruptEntryError, printable
from cachewrap.ledger.said import Said, differing, said_in, same
from cachewrap.stores.jsonl.lines import Name

SAME: Final = "same"
CHANGED: Final = "changed"
NEW: Final = "new"
GONE: Final = "no longer asked"

_KINDS: Final = (CHANGED, NEW, GONE, SAME)

_PROMPT: Final = 60
_LINE: Final = 160

# At most, in short and with -v:
_CASSETTES: Final = 20, 1000
_ANSWERS: Final = 3, 50
"""Changed answers of a cassette that are shown."""

_LINES: Final = 2, 20
"""Lines of a changed answer that are shown."""

_ABSENT: Final = -1.0
_UNREADABLE: Final = ("the old answer cannot be read",)


class Refreshed(NamedTuple):
    """An answer that was made anew.

    Attributes:
        kind: ``"same"``, ``"changed"`` or ``"new"``.
        before: when the answer was stored that the cassette held before; -1.0 where it held none.
        told: who asked what, of what is to be shown.
        lines: how the answers differ.
        cut: whether lines were left out.
    """

    kind: str
    before: float
    told: str = ""
    lines: tuple[str, ...] = ()
    cut: bool = False


class Comparison:
    """The refreshed answers of a run, beside what the cassettes held before.

    Args:
        verbose: whether much of it is told.

    Attributes:
        gone: how many entries of a cassette no test has asked for any more, by path.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._most = _ANSWERS[verbose]
        self.gone: dict[str, int] = {}
        self._told: Counter[str] = Counter()
        self._found: defaultdict[str, dict[Name, Refreshed]] = defaultdict(dict)

    def add(
        self,
        path: str,
        name: Name,
        old: Entry | CorruptEntryError | None,
        new: Entry,
        test: str,
        *,
        secret: bool,
    ) -> None:
        """Take an answer of a cassette; of several to one request the last one counts.

        Args:
            path: the cassette.
            name: the seed and key of the answer.
            old: what was there before: None for nothing, or why it cannot be opened.
            new: what is there now.
            test: who asked.
            secret: whether it is encrypted: nothing of it is shown then.
        """
        found = self._found[path]
        if (earlier := found.pop(name, None)) is not None and earlier.told:
            self._told[path] -= 1
        if old is None:
            found[name] = Refreshed(NEW, _ABSENT)
            return
        before = old.created if isinstance(old, Entry) else 0.0
        said, says = _said(old), _said(new)
        if said and says and same(said, says):
            found[name] = Refreshed(SAME, before)
            return
        answer = Refreshed(CHANGED, before)
        if self._told[path] < self._most:
            self._told[path] += 1
            answer = answer._replace(told=f"{test}: (encrypted)")
            if not secret:
                lines = differing(said, says) if said and says else _UNREADABLE
                most = _LINES[self._verbose]
                answer = Refreshed(
                    CHANGED,
                    before,
                    f"{test}: {_prompt(name, new)}",
                    tuple(printable(line, _LINE) for line in lines[:most]),
                    len(lines) > most,
                )
        found[name] = answer

    def as_plain(self) -> dict[str, Any]:
        """The answers as plain values, to be sent from a worker."""
        return {
            path: {name: tuple(answer) for name, answer in found.items()}
            for path, found in self._found.items()
        }

    def add_plain(self, plain: dict[str, Any]) -> None:
        """Add those of a worker.

        Where several have made one answer anew, the one counts that has seen the oldest before it.
        """
        for path, answers in plain.items():
            found = self._found[path]
            for name, values in answers.items():
                answer = Refreshed(*values)
                if name not in found or answer.before <= found[name].before:
                    found[name] = answer

    @property
    def differs(self) -> bool:
        """Whether anything is not as it was."""
        return bool(self.gone) or any(
            answer.kind != SAME for found in self._found.values() for answer in found.values()
        )

    def lines(self, shown: Callable[[str], str]) -> Iterator[str]:
        """What is told at the end of the run; nothing where nothing was made anew.

        Args:
            shown: how a path is shown.
        """
        counts = {path: self._counts(path) for path in sorted({*self._found, *self.gone})}
        if not counts:
            return
        total = sum(counts.values(), Counter[str]())
        cassettes = "1 cassette" if len(counts) == 1 else f"{len(counts)} cassettes"
        yield f"compared with before: {_counted(total)} in {cassettes}"
        different = [path for path, count in counts.items() if count.keys() != {SAME}]
        told = different[: _CASSETTES[self._verbose]]
        cut = len(told) < len(different)
        for path in told:
            yield f"{shown(path)}: {_counted(counts[path])}"
            cut |= yield from self._changed(path)
        if more := len(different) - len(told):
            yield f"and {more} more"
        if cut and not self._verbose:
            yield "(-v shows more of what has changed)"

    def _counts(self, path: str) -> Counter[str]:
        counts = Counter(answer.kind for answer in self._found.get(path, {}).values())
        return counts + Counter({GONE: self.gone.get(path, 0)})

    def _changed(self, path: str) -> Generator[str, None, bool]:
        """The changed answers of a cassette; whether some of it was left out."""
        changed = [one for one in self._found.get(path, {}).values() if one.kind == CHANGED]
        told = [one for one in changed if one.told][: self._most]
        for answer in told:
            yield f"  {answer.told}"
            for line in answer.lines:
                yield f"    {line}"
        if more := len(changed) - len(told):
            yield f"  and {more} more"
        return more > 0 or any(answer.cut for answer in told)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS if counts[kind])


def _said(entry: Entry | CorruptEntryError) -> Said | None:
    """What an answer says; None where it cannot be read."""
    try:
        return said_in(entry) if isinstance(entry, Entry) else None
    except CorruptEntryError:
        return None


def _prompt(name: Name, entry: Entry) -> str:
    seed, key = name
    try:
        stored = StoredEntry(key, seed, 0, entry, Samples())
        text = " ".join(stored.prompt[: 8 * _PROMPT].split()) or stored.source
    except CorruptEntryError:
        return key[:12]
    return printable(text if len(text) <= _PROMPT else f"{text[:_PROMPT].rstrip()} …")
