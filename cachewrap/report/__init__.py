"""The page as it is written: its frame, its policy, and data that can never be read as code."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, BinaryIO, Final

MARK: Final = b'<meta name="generator" content="cachewrap report">'
"""Tells a report from any other file. It stands among the first bytes."""

_MARK_WITHIN: Final = 1024
_AT_ONCE: Final = 100
_BYTES_AT_ONCE: Final = 2**20
"""Conversations are written, and later read by the page, so many at a time."""

_LONG_TURN: Final = 100
"""Bytes from which a turn is written once."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of page.

    Args:
        script: the parts of its one script, which share their names, in their order.
        renders: whether it shows conversations, for which it has another script beside its own.
        skip: the first link: where it leads, and its text.
    """

    script: tuple[str, ...]
    renders: bool
    skip: tuple[str, str]


_FIRST: Final = ("elements.js", "units.js", "given.js", "theme.js", "json.js", "copying.js")
_LISTS: Final = ("pager.js", "words.js")

REPORT: Final = Layout(
    (
        *_FIRST,
        "data.js",
        "markdown.js",
        "charts.js",
        "replay.js",
        "found.js",
        "links.js",
        "conversation.js",
        *_LISTS,
        "table.js",
        "runs.js",
        "lanes.js",
        "drawing.js",
        "timeline.js",
        "run.js",
        "diff.js",
        "main.js",
    ),
    renders=True,
    skip=("#conversations", "Skip to the conversations"),
)
"""What a cache holds."""

PAIRS: Final = Layout(
    (*_FIRST, *_LISTS, "pairs.js"), renders=False, skip=("#commands", "Skip to the commands")
)
"""Pairs of requests that may mean the same, to be ticked."""

_HERE: Final = "<!-- {} -->"

# What ends a line of JavaScript but not of JSON, what no UTF-8 has, and what would show a reader of
# the source something else than it says.
_UNSEEN: Final = (
    "\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\uffff"
)
# And what ends a script element, or begins a comment in one.
_UNSAFE: Final = re.compile(f"[<>&{_UNSEEN}]")
_NO_TITLE: Final = re.compile(f"[\x00-\x1f{_UNSEEN}]")


def embed(value: Any) -> bytes:
    """JSON that may stand in a script element of an HTML document.

    Raises `ValueError` for a number that JSON does not have.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def is_report(beginning: bytes) -> bool:
    """Whether a file that begins so is a report."""
    return MARK in beginning[:_MARK_WITHIN]


@cache
def asset(name: str) -> str:
    """The text of a file that comes with this package."""
    return resources.files("cachewrap.report").joinpath(name).read_text("utf-8")


@cache
def vendored() -> str:
    """The script that is not ours, under its licence, without the address of its source map."""
    name = "js/vendor/markdown-it"
    code = re.sub(r"\n?//# sourceMappingURL=\S*\s*$", "\n", asset(f"{name}.min.js"))
    return f"/*!\nmarkdown-it\n\n{asset(f'{name}.LICENSE')}*/\n{code}"


@cache
def script(layout: Layout = REPORT) -> str:
    """A page's one script."""
    return '"use strict";\n' + "\n".join(asset(f"js/{name}") for name in layout.script)


def security_policy(layout: Layout = REPORT) -> str:
    """What a page may do: run its scripts, use its one style sheet, show pictures in itself.

    No markup is ever made from text in it, by its own script either: trusted types refuse that.
    """
    scripts = [vendored(), script(layout)] if layout.renders else [script(layout)]
    codes = " ".join(f"'{_digest(text)}'" for text in scripts)
    style = _digest(asset("page.css"))
    return (
        f"default-src 'none'; script-src {codes}; style-src '{style}'; img-src data:; "
        "base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class Document:
    """A page that is written piece by piece: first conversations, then the figures.

    Args:
        file: where it is written to.
        title: the page's title, any text.
        layout: what kind of page it is.

    Attributes:
        written: bytes so far.
    """

    def __init__(self, file: BinaryIO, title: str, layout: Layout = REPORT) -> None:
        self._file = file
        self._script = script(layout)
        self.written = 0
        self._lines: list[bytes] = []
        self._talks: list[bytes] = []
        self._turns: dict[bytes, int] = {}
        self._waiting = 0
        self._pictures: dict[str, int] = {}
        self._has_talks = False
        head, _, self._tail = asset("page.html").partition(_HERE.format("data"))
        to, name = map(html.escape, layout.skip)
        given = {
            "policy": html.escape(security_policy(layout)),
            "skip": f'<a class="skip" id="skip" href="{to}">{name}</a>',
            "generator": MARK.decode(),
            "style": asset("page.css"),
            "title": html.escape(_NO_TITLE.sub("\ufffd", title)),
        }
        # In one go: what is put in is not looked at again.
        place = re.compile("|".join(re.escape(_HERE.format(name)) for name in given))
        self._write(place.sub(lambda found: given[found[0][5:-4]], head).encode())

    def add(self, line: Any, talk: Any) -> None:
        """Add a line of the table, and its conversation; None leaves that out.

        An agent asks again and again with all that was said before: of what is ``asked`` in a
        conversation each long turn is written once for all conversations that are read together.
        """
        if talk and "asked" in talk:
            talk = {**talk, "asked": [self._turn(turn) for turn in talk["asked"]]}
        self._lines.append(embed(line))
        self._talks.append(embed(talk))
        self._has_talks = self._has_talks or talk is not None
        self._waiting += len(self._talks[-1])
        if len(self._lines) >= _AT_ONCE or self._waiting >= _BYTES_AT_ONCE:
            self._flush()

    def _turn(self, turn: Any) -> Any:
        """A short turn; of a long one the number."""
        data = embed(turn)
        if len(data) < _LONG_TURN:
            return turn
        if data not in self._turns:
            self._turns[data] = len(self._turns)
            self._waiting += len(data)
        return self._turns[data]

    def picture(self, address: str) -> int:
        """The number of a picture, which the page holds once, however often it is shown.

        Args:
            address: its bytes, as `cachewrap.report.pictures` gives them.
        """
        name = hashlib.sha256(address.encode()).hexdigest()
        if name not in self._pictures:
            self._pictures[name] = len(self._pictures)
            self._data("image", embed(address))
        return self._pictures[name]

    def put(self, name: str, value: Any) -> None:
        """Add data that the page reads by its name, in the order in which it was added."""
        self._data(name, embed(value))

    def _flush(self) -> None:
        if self._lines:
            self._data("lines", b"[%s]" % b",\n".join(self._lines))
            turns, talks = b",\n".join(self._turns), b",\n".join(self._talks)
            self._data("talks", b'{"turns":[%s],\n"talks":[%s]}' % (turns, talks))
        self._lines, self._talks, self._turns, self._waiting = [], [], {}, 0

    def finish(self, facts: Any) -> None:
        """Add the figures, and the script that draws the page."""
        self._flush()
        self._data("facts", embed(facts))
        # Where nothing is said, nothing is to be rendered.
        codes = [vendored(), self._script] if self._has_talks else [self._script]
        code = "\n".join(f"<script>{text}</script>" for text in codes)
        self._write(self._tail.replace(_HERE.format("script"), code).encode())

    def _data(self, name: str, json: bytes) -> None:
        # A type that no browser runs: the policy would let it run no other script either.
        self._write(b'<script type="application/json" data-of="%s">' % name.encode())
        self._write(json)
        self._write(b"</script>\n")

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.written += len(data)
