"""The line that tells how far work has come: silent at first, and true from then on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from cachewrap.cli import text
from cachewrap.cli.text import Meter, size_text


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> list[str]:
        """What stood on the line, one after the other."""
        return [one.rstrip() for one in self.getvalue().split("\r") if one.strip()]


Work = Callable[[int, float], Iterator[int]]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Work on so many items, each of so many seconds."""
    now = [1000.0]
    monkeypatch.setattr(text, "monotonic", lambda: now[0])

    def working(items: int, seconds: float) -> Iterator[int]:
        for item in range(items):
            now[0] += seconds
            yield item

    return working


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(text, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setenv("COLUMNS", "80")
    return stream


def never() -> float:
    raise AssertionError("nothing is counted where nothing is told")


def test_work_of_less_than_a_second_is_silent(work: Work, terminal: Terminal) -> None:
    assert list(Meter("verifying", never).over(work(90, 0.01))) == list(range(90))
    assert terminal.getvalue() == ""


def test_nothing_is_told_where_there_is_no_terminal(
    work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    list(Meter("verifying", never).over(work(100, 1.0)))
    assert capsys.readouterr() == ("", "")


def test_the_end_is_true_from_the_start(work: Work, terminal: Terminal) -> None:
    list(Meter("verifying", lambda: 300.0).over(work(300, 0.01)))
    assert terminal.shown[0] == "verifying: 101 of 300 (33%), 100/s, 2s left"
    assert len(terminal.shown) <= 12
    assert terminal.getvalue().endswith(f"\r{' ' * len(terminal.shown[-1])}\r")


@pytest.mark.parametrize(
    ("items", "seconds", "told"),
    [
        pytest.param(10, 2.0, "copying: 1 of 10 (10%), 2.00s each, 18s left", id="slow"),
        pytest.param(90_000, 0.01, "copying: 101 of 90,000 (0%), 100/s, 15m left", id="long"),
    ],
)
def test_speed_and_end(
    work: Work, terminal: Terminal, items: int, seconds: float, told: str
) -> None:
    for number, _ in enumerate(Meter("copying", lambda: float(items)).over(work(items, seconds))):
        if number > 150:
            break
    assert told in terminal.shown


def test_bytes_are_told_as_such(work: Work, terminal: Terminal) -> None:
    meter = Meter("importing", lambda: 4096.0 * 1000, shown=size_text, done=lambda: 2048 * 1000)
    list(meter.over(work(2, 2.0)))
    assert terminal.shown[0] == "importing: 2.0 MB of 3.9 MB (50%), 1.0 MB/s, 2s left"


def test_where_no_end_is_known_none_is_told(work: Work, terminal: Terminal) -> None:
    list(Meter("importing", lambda: 0.0).over(work(4, 1.0)))
    assert terminal.shown == [f"importing: {n}, 1/s" for n in range(1, 5)]


def test_a_narrow_terminal_is_not_overrun(
    work: Work, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    list(Meter("verifying", lambda: 300.0).over(work(300, 0.01)))
    assert max(map(len, terminal.getvalue().split("\r"))) == 19
