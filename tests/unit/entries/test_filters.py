"""Ages, dates and sizes, as the command line and Python take them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from cachewrap.entries.filters import Filter, read_moment, read_size
from cachewrap.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("0.5h", 1800),
        (" 2 D ", 172_800),
    ],
)
def test_an_age(text: str, seconds: float) -> None:
    assert time.time() - read_moment(text).at == pytest.approx(seconds, abs=5)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:00", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01 12:00:30", datetime(2026, 11, 1, 12, 0, 30, tzinfo=UTC)),
        ("2026-11-01T12:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00+02:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T12:00:00.1234567Z", datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)),
    ],
)
def test_a_date(text: str, moment: datetime) -> None:
    assert read_moment(text).at == pytest.approx(moment.timestamp(), abs=1e-5)


@pytest.mark.parametrize(
    "text",
    ["", "5", "d", "-5d", "5y", "1e3s", "2026", "2026-11", "2026-W01-1", "2026-02-30", "9999-99"],
)
def test_neither_an_age_nor_a_date(text: str) -> None:
    with pytest.raises(ConfigurationError, match="neither an age nor a date"):
        read_moment(text)


def test_a_moment_is_shown_as_it_was_given() -> None:
    assert (str(read_moment("7d")), str(read_moment("2026-11-01"))) == ("7d", "2026-11-01")


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (500, 500),
        ("500", 500),
        ("10k", 10_240),
        ("2G", 2 * 2**30),
        ("1.5m", 1_572_864),
        ("3 MiB", 3 * 2**20),
    ],
)
def test_a_size(given: Any, count: int) -> None:
    assert read_size(given) == count


@pytest.mark.parametrize("given", ["", "k", "-5", "5x", "1,000", -5, True, 1.5, None])
def test_no_size(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no size"):
        read_size(given)


def test_a_filter_that_leaves_nothing_out_is_false() -> None:
    assert (bool(Filter()), bool(Filter(model="*"))) == (False, True)
