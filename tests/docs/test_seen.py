"""The comparison of a page with what is seen: what may differ, and what may not."""

from __future__ import annotations

import pytest
from docs.seen import differences, keys


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        pytest.param("as it is", "as it is", id="the same"),
        pytest.param("a  b", "a b  ", id="columns"),
        pytest.param("in 1.92s", "in 3 ms", id="durations"),
        pytest.param("took 1m 5s.", "took 12s.", id="two units"),
        pytest.param("2h  1.4 KB", "10m 599 B", id="ages and sizes"),
        pytest.param("00:12", "01:00:40", id="clocks"),
        pytest.param("on 2026-01-02 03:04:05Z", "on 2025-12-31T23:59:59+00:00", id="dates"),
        pytest.param("8662e857f436 a", "123456789012 a", id="keys"),
        pytest.param("8662e857  2h\n9d2a1c0b  1s", "12345678  2h\nabcdefab  1s", id="short keys"),
        pytest.param(
            "0  hit  8662e857  m\nasks 8662e857",
            "0  hit  12345678  m\nasks 12345678",
            id="keys in a row",
        ),
        pytest.param("saved $0.0002", "saved $1,200", id="money"),
        pytest.param("50% of", "33.3 % of", id="shares"),
        pytest.param("at 40.1 calls/s", "at 2/s", id="rates"),
        pytest.param("http://127.0.0.1:8000/v1", "http://127.0.0.1:41234/v1", id="ports"),
        pytest.param("/home/me/.cache/41", "/tmp/x0/.cache/41", id="the folder"),
        pytest.param("made … of it", "made a lot of it", id="a part of a line"),
        pytest.param("a\n…\nd", "a\nb\nc\nd", id="lines"),
        pytest.param("a\n…\nd", "a\nd", id="no lines"),
        pytest.param("…\nthe end", "1\n\n2\nthe end\n", id="all before the end"),
        pytest.param("50/50", "\x1b[1m10/50\r20/50\r50/50\x1b[0m", id="a line written over"),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(page: str, seen: str) -> None:
    assert differences(page, seen, "/tmp/x0") == ""


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        pytest.param("2 of 2 calls", "1 of 2 calls", id="counts"),
        pytest.param("hits=1, misses=2", "hits=2, misses=1", id="statistics"),
        pytest.param("22 tokens", "23 tokens", id="tokens"),
        pytest.param("a\nb", "a", id="a line less"),
        pytest.param("a", "a\nb", id="a line more"),
        pytest.param("a\n\nb", "a\nb", id="an empty line"),
        pytest.param("a … c", "a b d", id="the end of a line"),
        pytest.param("…\nb", "a\nc", id="the last line"),
        pytest.param("a … c", "a\nc", id="a part of a line is no line"),
        pytest.param("a decade", "a facade", id="words of the digits of keys"),
        pytest.param("sample 3", "sample 4", id="samples"),
        pytest.param("seed=41", "seed=7", id="seeds"),
        pytest.param("/home/me/.cache", "/elsewhere/.cache", id="another folder"),
        pytest.param("", "a", id="nothing"),
        pytest.param("a", "", id="something"),
    ],
)
def test_all_else_counts(page: str, seen: str) -> None:
    assert differences(page, seen, "/tmp/x0")


def test_the_difference_is_shown_in_both() -> None:
    told = differences("a …\n2 hits\nend", "a b\n1 hit\nend")
    assert "-2 hits\n+1 hit\n" in told
    assert "\n a b\n" in told


@pytest.mark.parametrize(
    ("page", "seen", "known"),
    [
        pytest.param("KEY\n8662e857  a\n9dfa2541  b", "KEY\n0123abcd  a\n45678901  b", 2, id="all"),
        pytest.param("8662e857  a\n…", "0123abcd  a\n45678901  b", 0, id="not all are shown"),
    ],
)
def test_the_keys_of_a_page_are_known_by_their_place(page: str, seen: str, known: int) -> None:
    assert len(keys(page, seen)) == known
