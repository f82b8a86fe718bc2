"""Parts of texts that vary, and the expressions that find their like."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cachewrap.same import replace
from cachewrap.suggest.masks import anchored, masked, said_spans, steering_spans


def asked(system: str) -> dict[str, Any]:
    return {"body": {"system": system}}


U = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.mark.parametrize(
    ("text", "found", "pattern"),
    [
        ("Be brief. Today is 2026-11-28. Go.", "2026-11-28", r"Today is \d{4}-\d\d-\d\d"),
        ("Today is 2026/11/28", "2026/11/28", r"Today is \d{4}/\d\d/\d\d"),
        ("Today is 1/28/2026", "1/28/2026", r"Today is \d{1,2}/\d{1,2}/\d{4}"),
        ("It is 28.11.2026", "28.11.2026", r"It is \d{1,2}\.\d{1,2}\.\d{4}"),
        ("It is 28 Nov 2026 now", "28 Nov 2026", r"It is \d{1,2} [A-Z][a-z]+ \d{4}"),
        (
            "Date: Thu, 26 Nov 2026 10:00:00 GMT",
            "Thu, 26 Nov 2026 10:00:00 GMT",
            r"Date: [A-Z][a-z]+, \d{1,2} [A-Z][a-z]+ \d{4} \d{1,2}:\d\d:\d\d GMT",
        ),
        (
            "now is Tue Nov  3 10:00:00 2026",
            "Tue Nov  3 10:00:00 2026",
            r"now is [A-Z][a-z]+ [A-Z][a-z]+ {1,2}\d{1,2} \d{1,2}:\d\d:\d\d \d{4}",
        ),
        (
            "now: 2026-11-28T10:00:00.12+02:00",
            "2026-11-28T10:00:00.12+02:00",
            r"now: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d",
        ),
        ("Today is Sunday, May 3rd.", "Sunday, May 3rd", None),
        ("time is 3:04 PM, so", "3:04 PM", r"time is \d{1,2}:\d\d [AaPp][Mm]"),
        (f"<uuid>{U}</uuid>", U, f"<uuid>{UUID}"),
        (f"{U}: answer in German", U, f"^{UUID}: answer in"),
        (U, U, f"^{UUID}$"),
        ("(at 0x7f12abcd)", "at 0x7f12abcd", r"\bat 0x[0-9a-fA-F]+"),
        ("see /tmp/tmpab12cd34/data.csv", "/tmp/tmpab12cd34", r"see /tmp/tmp\w{6,}"),
        ("see /tmp/run-17/x", "/tmp/run-17", r"see /tmp/(?=[\w-]*\d)[\w-]+"),
        (
            r"see C:\Users\ann\AppData\Local\Temp\tmpab12",
            r"C:\Users\ann\AppData\Local\Temp\tmpab12",
            r"see C:\\Users\\ann\\AppData\\Local\\Temp\\tmp\w+",
        ),
        ("Request id: 12345, go", "12345", r"Request id: \d+"),
        ("trace req_abc123def456", "req_abc123def456", "trace req_[A-Za-z0-9]{8,}"),
        ("made at 1764424242", "1764424242", r"made at 1\d{9}"),
        ("hash 0123456789abcdef0123456789abcdef", "0123456789abcdef" * 2, "hash [0-9a-f]{32}"),
        ("work in /home/ann/app", "/home/ann/app", r"work in /home/[\w./-]+"),
    ],
)
def test_what_varies_is_found_with_the_words_around_it(
    text: str, found: str, pattern: str | None
) -> None:
    spans = steering_spans(text)
    assert [text[span.start : span.end] for span in spans] == [found]
    expression, words = anchored(text, spans, 0)
    assert pattern in (None, expression)
    match = re.search(expression, text)
    assert match is not None
    assert found in match[0]
    assert "…" in match.expand(words)
    assert found not in masked(text, spans, doubtful=True)
    assert replace(expression, words, where="system").apply(asked(text)) != (asked(text), [])


@pytest.mark.parametrize(
    "text",
    [
        "Answer in 50 words, with 3 items at most.",
        "version 1.2.3, 10.0.0.1:8080, 16:9, step 3 of 5",
        "Ask for 1234567890 and 555-0199",
        "Up to date as of May 2026, if 5 people may",
        "https://example.org/home/ann and 0x7f12abcd",
        "a" * 300_000 + " Today is 2026-11-28",
    ],
)
def test_nothing_is_found_in_what_is_said_by_words_and_numbers(text: str) -> None:
    assert steering_spans(text) == ()
    assert said_spans(text) == ()


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("What was on 2026-11-28?", []),
        ("What is 10:15 in words?", []),
        ("The date is 2026-11-28. Who plays?", [True]),
        (f"Where is order {U}?", [True]),
        ("Read /tmp/tmpab12cd34/x", [True]),
        ("Call it at 2026-11-28 10:15", [True]),
        ("a plan: <function f at 0x7f12abcd>", [False]),
    ],
)
def test_what_is_found_in_what_is_asked_is_in_doubt(text: str, doubtful: list[bool]) -> None:
    assert [span.doubtful for span in said_spans(text)] == doubtful


def test_what_stands_side_by_side_is_found_part_by_part() -> None:
    text = f"[2026-11-28] [{U}] on"
    spans = steering_spans(text)
    expressions = [anchored(text, spans, at) for at in range(len(spans))]
    for expression, words in reversed(expressions):
        text = re.sub(expression, words, text)
    assert text == "[…] […] on"


def test_what_was_hidden_before_it_was_stored_is_in_no_expression() -> None:
    text = "Use (hidden) 2026-11-28 (hidden) then"
    assert anchored(text, steering_spans(text), 0)[0] == r"\d{4}-\d\d-\d\d"
