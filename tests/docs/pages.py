"""The pages of the documentation and the blocks of code in them, as Sybil finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document, Example
from sybil.parsers.myst import CodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("python", "console", "toml", "yaml", "json", "ini", "text")

_FILE = re.compile(r"# (?P<name>[\w./-]*\w\.\w[\w.-]*|[\w/]*\.\w+)(?P<more>, continued)?\n")
_NEEDS = re.compile(r"^<!---+ needs: (?P<module>[\w.]+) --+>$", re.MULTILINE)
_NOT_RUN = re.compile(r"<!---+ not run: (?P<reason>[^>]*?)\s*--+>\s*\Z")


@dataclass(frozen=True)
class Block:
    """One block of code of a page.

    Args:
        page: the file.
        line: where its code begins.
        language: what the fence says.
        code: what is in it.
        hidden: whether it stands in a comment, which no reader sees.
        shown: the output that follows a block of Python, or None.
        shown_line: where that begins.
        not_run: why it is not run, or nothing.
    """

    page: Path
    line: int
    language: str
    code: str
    hidden: bool
    shown: str | None
    shown_line: int
    not_run: str

    @property
    def name(self) -> str:
        """How the block is called in the list of tests."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the first line names."""
        found = _FILE.match(self.code)
        return found and found["name"]

    @property
    def continues(self) -> bool:
        """Whether its file begins in a block before."""
        found = _FILE.match(self.code)
        return bool(found and found["more"])


def name_of(page: Path) -> str:
    """How a page is called in the list of tests."""
    return page.relative_to(ROOT).as_posix()


def needed(page: Path) -> str | None:
    """The module that is named by a page whose blocks run in an environment that has it."""
    found = _NEEDS.search(page.read_text("utf-8"))
    return found and found["module"]


def blocks(page: Path) -> list[Block]:
    """What is evaluated of a page, in its order; output belongs to the block before it."""
    return list(_blocks(Document.parse(str(page), *_PARSERS)))


def _evaluated(example: Example) -> None:
    """Evaluates nothing by itself: a page holds its state between its blocks."""


# A block that a comment hides may hold anything that a visible one holds.
_PARSERS = [CodeBlockParser(language, _evaluated) for language in LANGUAGES]


def _blocks(document: Document) -> Iterator[Block]:
    examples = list(document.examples())
    taken: set[int] = set()
    for index, example in enumerate(examples):
        language, hidden = _language(example), _is_hidden(document, example)
        following = examples[index + 1] if index + 1 < len(examples) else None
        shown = None
        if following is not None and language == "python" and _language(following) == "text":
            between = document.text[example.end : following.start]
            if not between.strip() and not _is_hidden(document, following):
                shown, _ = str(following.parsed), taken.add(index + 1)
        if index in taken:
            continue
        before = _NOT_RUN.search(document.text[: example.start])
        yield Block(
            page=Path(document.path),
            line=_line(example),
            language=language,
            code=str(example.parsed),
            hidden=hidden,
            shown=shown,
            shown_line=_line(following) if following is not None and shown is not None else 0,
            not_run=before["reason"] if before else "",
        )


def _language(example: Example) -> str:
    return str(example.region.lexemes["arguments"])


def _is_hidden(document: Document, example: Example) -> bool:
    return document.text[example.start :].lstrip().startswith("<!--")


def _line(example: Example) -> int:
    return int(example.line + example.parsed.line_offset + 1)
