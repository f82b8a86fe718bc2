"""The form of the pages: what is run of them, how wide they are, and where their links lead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from docs.pages import LANGUAGES, PAGES, ROOT, blocks, name_of

LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
RUN = set(LANGUAGES) - {"text"}
DIRECTIVES = {"{eval-rst}", "{include}", "{toctree}"}
NOT_RUN = 6
"""Blocks that cannot be run here; each says why."""

FENCE = re.compile(r"^\s*(?:[-*>] +)?(?P<fence>`{3,}|~{3,})(?P<language>[^\n`]*)$", re.MULTILINE)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?(?P<target>[^)\s>]+)>?\)")
WORDS = re.compile(
    r"\b(colou?rs?|front doors?|seams?|twins?|flows?|flights?|drivers?)\b", re.IGNORECASE
)  # what nobody but us calls so


def each(pages: list[Path]) -> list[object]:
    """A case for each page."""
    return [pytest.param(page, id=name_of(page)) for page in pages]


def fences(text: str) -> list[str]:
    """The languages of the blocks of a page."""
    found, closing = [], ""
    for match in FENCE.finditer(text):
        if not closing:
            found.append(match["language"].strip())
            closing = match["fence"]
        elif match["fence"].startswith(closing) and not match["language"].strip():
            closing = ""
    return found


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a page outside its blocks and its comments, by their numbers."""
    closing = ""
    hidden = False
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if match and not closing:
            closing = match["fence"]
        elif match and match["fence"].startswith(closing) and not match["language"].strip():
            closing = ""
        elif not closing:
            hidden = hidden or line.startswith("<!--")
            if not hidden:
                yield number, line
            hidden = hidden and "-->" not in line


def anchors(page: Path) -> set[str]:
    """The anchors that a forge gives to the headings of a page."""
    found: set[str] = set()
    for _, line in prose(page.read_text("utf-8")):
        if match := re.match(r"#+ +(.*?) *#*$", line):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).replace("`", "").lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            number = 1
            while (name := slug if number == 1 else f"{slug}-{number - 1}") in found:
                number += 1
            found.add(name)
    return found


@pytest.mark.parametrize("page", each(PAGES))
def test_each_block_of_a_language_is_evaluated(page: Path) -> None:
    written = [language for language in fences(page.read_text("utf-8")) if language in RUN]
    evaluated = [one.language for one in blocks(page) if one.language in RUN and not one.hidden]
    assert evaluated == written


@pytest.mark.parametrize("page", each(PAGES))
def test_a_block_says_what_it_is(page: Path) -> None:
    said = {language.partition(" ")[0] for language in fences(page.read_text("utf-8"))}
    assert said - set(LANGUAGES) - DIRECTIVES == set()


def test_what_is_not_run_says_why() -> None:
    reasons = {one.name: one.not_run for page in PAGES for one in blocks(page) if one.not_run}
    assert {name: reason for name, reason in reasons.items() if len(reason.split()) < 3} == {}
    assert len(reasons) <= NOT_RUN


@pytest.mark.parametrize("page", each(PAGES))
def test_prose_is_at_most_a_hundred_wide(page: Path) -> None:
    lines = prose(page.read_text("utf-8"))
    wide = [
        number
        for number, line in lines
        if len(re.sub(r"\]\([^)]*\)", "]", line)) > 100
        and not line.lstrip().startswith("|")
        and "://" not in line
    ]
    assert wide == []


@pytest.mark.parametrize("page", each([one for one in PAGES if one.name != "architecture.md"]))
def test_words_are_not_ours_alone(page: Path) -> None:
    lines = prose(page.read_text("utf-8"))
    assert [(number, found[0]) for number, line in lines if (found := WORDS.search(line))] == []


@pytest.mark.parametrize("page", each(LINKED))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for number, line in prose(page.read_text("utf-8")):
        for match in LINK.finditer(re.sub(r"`[^`]*`", "`", line)):
            place, _, anchor = unquote(match["target"]).partition("#")
            if "://" in place or place.startswith("mailto:"):
                continue
            target = page.parent / place if place else page
            there = target.exists() and target.resolve().is_relative_to(ROOT)
            if not there or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                dead.append(f"{number}: {match['target']}")
    assert dead == []
