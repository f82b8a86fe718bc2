"""The page's parts: data that cannot be read as code, its policy, and steps of time."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cachewrap.cli.survey import Timeline
from cachewrap.report import (
    MARK,
    PAIRS,
    REPORT,
    Document,
    Layout,
    asset,
    embed,
    is_report,
    script,
    vendored,
)

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "<img src=x onerror=alert(1)>",
    "]]>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} `",
    "<!-- data --><!-- script --><!-- style -->",
    "\u202egnp.exe\u2066 \u200f",
    "\u2028\u2029\x00\x1b\x7f\x85\ufeff\uffff",
    "\ud800 lone \udfff",
    "&lt;&amp;#60;",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_data_is_plain_letters_for_html(text: str) -> None:
    data = embed([text, {text: text}])
    assert json.loads(data) == [text, {text: text}]
    assert not set(data.decode()) & set("<>&\u2028\u2029\u202e\x00\x7f\x85\ufeff")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_data_says_what_was_given(value: Any) -> None:
    assert json.loads(embed(value).decode("utf-8")) == value


def test_a_number_that_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embed(float("nan"))


class Elements(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.texts.setdefault(self.found[-1][0], []).append(data)


def page(title: str = "t", lines: int = 1, text: str = "", layout: Layout = REPORT) -> bytes:
    file = io.BytesIO()
    document = Document(file, title, layout)
    for _ in range(lines):
        document.add([text], {text: text} if layout.renders else None)
    document.finish({"title": text})
    assert document.written == len(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_adds_an_element(text: str) -> None:
    plain, hostile = Elements(page()), Elements(page(text, text=text))
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]


def test_the_title_is_text() -> None:
    told = Elements(page("<b>&amp; \x00\u202e"))
    assert "".join(told.texts["title"]).strip() == "<b>&amp; \ufffd\ufffd"


@pytest.mark.parametrize("layout", [REPORT, PAIRS], ids=["report", "pairs"])
def test_the_policy_lets_its_scripts_and_the_one_style_run(layout: Layout) -> None:
    scripts = (vendored(), script(REPORT)) if layout is REPORT else (script(PAIRS),)
    elements = Elements(page(layout=layout))
    (policy,) = (
        attrs["content"] or ""
        for tag, attrs in elements.found
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = {
        "script-src": scripts,
        "style-src": (asset("page.css"),),
    }
    for name, texts in allowed.items():
        sums = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        digests = " ".join(f"'sha256-{one}'" for one in sums)
        assert f"; {name} {digests}; " in policy
    assert "; img-src data:; " in policy
    assert "; require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert policy.startswith("default-src 'none'; ")
    found = [attrs for tag, attrs in elements.found if tag == "script"]
    run = [attrs for attrs in found if attrs.get("type") != "application/json"]
    assert run == [{}] * len(scripts)
    written = re.findall(r"<script>(.*?)</script>", page(layout=layout).decode(), re.S)
    assert tuple(written) == scripts


def test_the_page_names_no_other_place() -> None:
    for text in (asset("page.html"), asset("page.css"), script(), script(PAIRS), vendored()):
        found = set(re.findall(r"(?:https?:)?//[\w.]+/|url\(|@import|\bfetch\b", text))
        assert found <= {"http://www.w3.org/"}


def test_its_script_makes_no_markup_and_runs_no_text() -> None:
    refused = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\("
    assert re.findall(refused, script() + script(PAIRS) + vendored()) == []


def test_what_is_not_ours_is_what_was_published_under_its_licence() -> None:
    data = asset("js/vendor/markdown-it.min.js").encode()
    told = asset("js/vendor/README.md")
    assert f"`{hashlib.sha256(data).hexdigest()}`" in told
    assert "Permission is hereby granted" in asset("js/vendor/markdown-it.LICENSE")
    assert asset("js/vendor/markdown-it.LICENSE").strip() in vendored()
    assert "sourceMappingURL" not in vendored()


@pytest.mark.parametrize("text", ["<script", "</script"])
def test_no_script_ends_before_its_end(text: str) -> None:
    assert text not in (script() + script(PAIRS) + vendored()).lower()


def test_a_page_without_conversations_has_no_renderer() -> None:
    file = io.BytesIO()
    document = Document(file, "t")
    document.add(["x"], None)
    document.finish({})
    assert vendored().encode() not in file.getvalue()
    assert script().encode() in file.getvalue()


def test_a_turn_that_is_asked_again_is_written_once() -> None:
    file = io.BytesIO()
    document = Document(file, "t")
    long, short = ["user", "x" * 200, 0], ["user", "x", 0]
    for _ in range(150):
        document.add([], {"asked": [long, short, long]})
    document.finish({})
    assert file.getvalue().count(b"x" * 200) == 2  # once in each hundred
    blocks = re.findall(rb'data-of="talks">(.*?)</script>', file.getvalue(), re.S)
    read = [json.loads(block) for block in blocks]
    assert [block["turns"] for block in read] == [[long], [long]]
    assert [len(block["talks"]) for block in read] == [100, 50]
    assert read[1]["talks"][7] == {"asked": [0, short, 0]}


def test_a_picture_is_on_the_page_once() -> None:
    file = io.BytesIO()
    document = Document(file, "t")
    assert [document.picture(address) for address in ("a", "b", "a")] == [0, 1, 0]
    assert file.getvalue().count(b'data-of="image"') == 2


def test_a_report_is_told_by_its_beginning() -> None:
    assert is_report(page())
    assert not is_report(b"<!doctype html>" + b" " * 1024 + MARK)


def test_conversations_are_written_a_hundred_at_a_time() -> None:
    blocks = re.findall(rb'data-of="(\w+)"', page(lines=250))
    assert blocks == [b"lines", b"talks"] * 3 + [b"facts"]


HOUR, DAY, WEEK = 3600, 86_400, 604_800

SPANS = [
    ("one answer", [5000.0], 60, [[4980, 1]]),
    ("a minute apart", [60.0, 125.0], 60, [[60, 1], [120, 1]]),
    ("a gap is shown", [60.0, 185.0], 60, [[60, 1], [120, 0], [180, 1]]),
    ("a day", [DAY, 2 * DAY - 1.0], 1800, None),
    ("a week", [WEEK, 2 * WEEK - 1.0], 3 * HOUR, None),
    ("a year", [WEEK, 53 * WEEK - 1.0], WEEK, None),
    ("all time", [1.0, 253_402_300_799.0], 3_144_960_000, None),
    ("none", [], 60, []),
]


@pytest.mark.parametrize(
    ("moments", "length", "steps"), [s[1:] for s in SPANS], ids=[s[0] for s in SPANS]
)
def test_steps_grow_with_the_time_they_cover(
    moments: list[float], length: int, steps: list[list[int]] | None
) -> None:
    timeline = Timeline()
    for moment in moments:
        timeline.add(moment)
    found = timeline.steps()
    assert found[0] == length
    assert len(found[1]) <= 81
    assert sum(count for _, count in found[1]) == len(moments)
    if steps is not None:
        assert found[1] == steps


@pytest.mark.parametrize("moment", [0.0, -1.0, 1e300, float("inf"), float("nan")])
def test_a_time_that_is_none_is_counted_apart(moment: float) -> None:
    timeline = Timeline()
    timeline.add(moment)
    assert (timeline.undated, timeline.steps()[1]) == (1, [])


def test_kinds_are_counted_apart() -> None:
    timeline = Timeline(2)
    timeline.add(60.0, 3, 1)
    timeline.add(60.0, 0, 4)
    assert timeline.steps()[1] == [[60, 3, 5]]


def test_a_timeline_stays_small() -> None:
    timeline = Timeline()
    for minute in range(1, 50_000):
        timeline.add(60.0 * minute)
    assert len(timeline._counts) <= 4000
    assert sum(count for _, count in timeline.steps()[1]) == 49_999
