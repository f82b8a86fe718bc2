"""How long the stress tests go on, and the table of what they found."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

import pytest
from standin import Upstream

ROUNDS = int(os.environ.get("CACHEWRAP_STRESS_ROUNDS") or 1)

Row = dict[str, float]
_rows: defaultdict[tuple[str, str], Row] = defaultdict(dict)


class Figures:
    """Sums up what the rounds of one kind of test found."""

    def __init__(self, what: str, store: str) -> None:
        self._row = _rows[what, store]

    def add(self, **counts: float) -> None:
        """Add to the counts of this row."""
        for name, count in counts.items():
            self._row[name] = self._row.get(name, 0) + count

    def most(self, **values: float) -> None:
        """Keep the greatest value."""
        for name, value in values.items():
            self._row[name] = max(self._row.get(name, 0), value)


@pytest.fixture
def rounds() -> int:
    """How many times a test is to do its worst: CACHEWRAP_STRESS_ROUNDS, 1 by default."""
    return ROUNDS


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """The row of this test's name, for the store that it runs over."""
    kind = getattr(request.node, "callspec", None)
    store = kind.id if kind else ""
    what = request.node.originalname.removeprefix("test_").replace("_", " ")
    return Figures(what, store)


@pytest.fixture
def up() -> Iterator[Upstream]:
    """A real HTTP upstream that takes a moment, so that callers meet."""
    with Upstream(delay=0.05) as upstream:
        yield upstream


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROUNDS == 1 or not _rows:
        return
    write = terminalreporter.write_line
    write("")
    write("| what | store | found |")
    write("| --- | --- | --- |")
    for (what, store), row in _rows.items():
        found = ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in row.items())
        write(f"| {what} | {store or '-'} | {found} |")
