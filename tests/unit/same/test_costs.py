"""Costs of regular expressions: what may take for ever is refused, and nothing else takes long."""

from __future__ import annotations

import re
import time
import warnings
from typing import Any

import pytest

from cachewrap import CacheWarning
from cachewrap.errors import ConfigurationError
from cachewrap.same import replace
from cachewrap.same.applied import check_rules
from cachewrap.same.costs import bounded

MEGABYTE = 1_000_000

FOR_EVER = (
    *(r"(a+)+$", r"([a-zA-Z]+)*$", r"(a|aa)+$", r"(a|a?)+$", r"(.*a){12}x", r"^(\d+)*$"),
    *(r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(\w+\s?)+$", r"(x+x+)+y", r"(.|\s)*z", r"(?:a|b|ab)*c"),
    *(r"^(a|b|c|ab)*$", r"(a*b?)*c", r"(?:(?=(a+))a?)*b", r"(\d+|\d+\.\d*)+x", r"(\n\s*)+$"),
    *(r"(a|a){40}$", r"((ab)*)*c", r"([\w-]+\.?)+@", r".*.*.*.*="),
    *(r"(?:[a-z]+[0-9]*)+!", r"^(?:(?:a+)?b?)+$", r"(a?){50}a{50}", r"(?s)(.*?,){20}x"),
    *(r"(\w+)(?:,\s*\1)*;", r"(?>(a+)+)b", r"(?:a{0,60}){0,60}b", r"([^\s]|\S\S)+x"),
)
"""Published examples of patterns whose time explodes, and their like."""

BOUNDED = (
    *(r"\s+$", r"\d+ items", r"Today is .*", r".*.*=.+", r"\w+@\w+\.\w+", r"(?:\w+ )+end"),
    *(r'"[^"]*"x', r"(?s).*z", r"([^,]*,)*x", r"(['\"]).*?\1x", r"a*b*c*d", r"(\w+)\s+\1"),
    *(r'(?:[^"\\]|\\.)*"x', r"(?<=a)é+c", r"(?!x)a+b", r"(?>a+)b", r"[^é]++b", r"(a|é)*?c"),
    *(r"a{0,5000}b", r"[\s\S]*?END", r"(\S+\s+){3}END", r"\d*\.\d*;", r"."),
)

# What is looked for first must be bounded as well.
BOUNDED += (r"\d<[^>]*>", r"\w@.*.*=", r"é\s.*a.*b.*;")
# So must what is tried at every place.
BOUNDED += (r"(?!\w(?:c|(.+)(?!b$))\b)\W{0,200}c", r"a++|(?=(.{2,}(?:é|\w)))!")
PIECES = ("aé", "a ", "1.", " ", '"', "a@a.", "<")


@pytest.mark.parametrize("pattern", FOR_EVER)
def test_what_may_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="may take for ever") as raised:
        replace(pattern, "")
    assert "write it so that" in str(raised.value)


def test_the_part_is_named() -> None:
    with pytest.raises(ConfigurationError, match=re.escape(r"for its part (\w+\s?)+: write")):
        replace(r"(?:id|no) [(] (\w+\s?)+ (?:a|b)", "")


@pytest.mark.parametrize("pattern", ["a*", "", "(?=a)", "^", r"\b", "(a|b?)"])
def test_what_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="also matches where nothing is"):
        replace(pattern, "")


@pytest.mark.parametrize("pattern", BOUNDED)
def test_no_text_takes_long(pattern: str) -> None:
    """Each takes a fifth of a second, by its bound; most would take minutes without it."""
    rules = check_rules(replace(pattern, "…"))
    assert rules is not None
    texts = [(piece * (MEGABYTE // len(piece)))[:-1] + "!" for piece in PIECES]
    took = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        for text in texts:
            begun = time.thread_time()
            rules.apply({"function": "f", "arguments": {"text": text}})
            took.append(time.thread_time() - begun)
    assert max(took) < 3


def many_texts(text: str, count: int) -> dict[str, Any]:
    return {"function": "f", "arguments": {"texts": [text] * count, "last": "a1 items"}}


def test_what_would_take_too_long_is_left_and_told() -> None:
    rules = check_rules(replace(r"[a-zé\d]+(?: items|=n)", "N"))
    assert rules is not None
    asked = {"function": "f", "arguments": {"long": "aé" * MEGABYTE, "short": "a1 items"}}
    with pytest.warns(CacheWarning, match="might take too long on a text, which is left as it is"):
        found = rules.apply(asked).request["arguments"]
    assert found == {**asked["arguments"], "short": "N"}


def test_many_texts_have_one_bound() -> None:
    rules = check_rules(replace(r"[a-z\d]+(?: items|=n)", "N"))
    assert rules is not None
    few, lots = many_texts("a" * 1000, 4), many_texts("a" * 1000, 400)
    assert rules.apply(few).request["arguments"]["last"] == "N"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        assert rules.apply(lots) == (lots, ())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"data:image/png;base64,{'iVBORw0KGgo' * 1000}", True),
        (f"data:text/plain;charset=utf-8;base64,{'aaaa' * 2000}", True),
        ("iVBORw0KGgo/" * 1000, True),
        ("iVBORw0KGgo/" * 100, False),
        ("run " + "iVBORw0KGgo/" * 1000, False),
    ],
)
def test_data_is_passed_over(text: str, left: bool) -> None:
    rules = check_rules(replace("BORw0", "…"))
    assert rules is not None
    found = rules.apply({"function": "f", "arguments": {"text": text}})
    assert (found.request["arguments"]["text"] == text) is left


def test_long_prose_is_searched() -> None:
    prose = "The quick brown fox was 42 years old.\n\n" * (MEGABYTE // 40)
    for pattern in (r"\d+ years", r"fox \w+ \d+", r"\d\d"):
        rules = check_rules(replace(pattern, "…"))
        assert rules is not None
        found = rules.apply({"function": "f", "arguments": {"text": prose}})
        assert found.request["arguments"]["text"] == re.sub(pattern, "…", prose)


def test_a_bound_is_that_of_the_text_alone() -> None:
    search = bounded(re.compile(r"\w+@"))
    assert len({search.bound("ab " * 1000) for _ in range(5)}) == 1


@pytest.mark.parametrize("given", ["é", "É", "\u212a", "k", "K", "\u017f", "s"])
def test_cases_of_one_letter_overlap(given: str) -> None:
    """Else a repeat of alternatives would pass for one that can be read in one way."""
    for other in ("é", "k", "s"):
        if re.fullmatch(f"(?i){given}", other):
            with pytest.raises(ConfigurationError):
                replace(f"(?i)({given}x?|{other}y?x?)+$", "")
