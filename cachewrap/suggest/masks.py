"""Parts of texts that vary from call to call: dates, times, UUIDs, addresses, paths, counters.

Each is found with the regular expression that a rule would have for it. What is found in a system
prompt or the description of a tool is noise; in what a person says it may be what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from cachewrap.patterns import later
from cachewrap.secrets import HIDDEN

LONGEST: Final = 1 << 18
"""Characters of a text that is looked through; a longer one is left as it is."""


class Span(NamedTuple):
    """A part of a text that varies.

    Attributes:
        start: where it begins.
        end: where it ends.
        pattern: the regular expression that finds its like.
        doubtful: whether it may be what is asked.
        anchored: whether the pattern says by itself what it is, without the words around it.
    """

    start: int
    end: int
    pattern: str
    doubtful: bool
    anchored: bool = False


_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_WEEKDAY: Final = "(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK: Final = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AaPp][Mm]\b)?"
_ZONE: Final = r"(?:Z\b|[+-]\d\d:?\d\d(?!\d)| ?(?:UTC|GMT)(?:[+-]\d\d:?\d\d)?\b)"
_DAY: Final = (
    rf"\d{{4}}[-/.]\d\d[-/.]\d\d|\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{4}}"
    rf"|{_WEEKDAY} {_MONTH} [ \d]\d {_CLOCK}(?: [A-Z]{{3,4}})? \d{{4}}"
    rf"|(?:{_WEEKDAY},? )?(?:{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH},? \d{{4}})"
)
_SHORT: Final = (
    rf"(?:{_WEEKDAY}(?:,? {_MONTH} \d{{1,2}}(?:st|nd|rd|th)?)?|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?)"
)
_EDGE: Final = r"(?<![\w.-])"
_UUID: Final = (
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}"
)
_TEMPORARY: Final = (
    r"(?:/private)?/(?:var/)?tmp/(?:pytest-of-[\w-]+/pytest-\d+|tmp\w{6,}|[\w-]*\d[\w-]*)"
    r"|(?:/private)?/var/folders/\w\w/\w+/T/[\w-]+"
    r"|[A-Z]:\\{1,2}(?:[\w. -]+\\{1,2}){1,8}(?:Temp|TEMP|temp|Tmp)\\{1,2}tmp\w+"
)
_NOW: Final = r"(?i:(?:now|today|date|time|clock|timestamp|as of|generated at|created at)\W)"

_MOMENT: Final = (
    rf"(?P<moment>{_EDGE}(?:{_DAY})(?:(?:T|,? at |,? ){_CLOCK}{_ZONE}?)(?![\w]))"
    rf"|(?P<day>{_EDGE}(?:{_DAY})(?![\w-]))"
    rf"|(?P<clock>{_EDGE}{_CLOCK}{_ZONE}?(?![\w:]))"
)
_SHARED: Final = (
    rf"(?P<uuid>(?<![0-9A-Za-z-])(?:{_UUID})(?![0-9A-Za-z-]))"
    r"|(?P<address>\bat 0x[0-9a-fA-F]{6,16}\b)"
    rf"|(?P<temporary>(?<![\w/.])(?:{_TEMPORARY})(?![\w-]))"
    rf"|{_MOMENT}"
)
_STEERING: Final = later(
    rf"{_SHARED}"
    r"|(?P<path>(?<![\w/.:])/(?:home|Users|root|workspaces?|mnt|srv|opt|work)/[\w./-]*\w)"
    r"|(?P<id>(?<![\w-])(?:req|request|run|sess|session|trace|span|msg|resp|call|thread|job|conv|evt"
    r"|chatcmpl|tx)[_-](?=[A-Za-z]{0,40}\d)[A-Za-z0-9]{8,}(?![\w-]))"
    r"|(?P<hex>(?<![\w-])(?=[a-f]*\d)(?=\d*[a-f])(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![\w-]))"
    r"|(?P<epoch>(?<![\w.-])1[5-9]\d{8}(?:\d{3})?(?:\.\d{1,9})?(?![\w-]))"
    r"|(?i:(?<![\w-])(?:request|run|session|trace|job|seq|sequence|build|nonce|correlation)"
    r"(?:[ _-](?:id|no\.?|number|count))?[ ]?[:=#]?[ ]?#?)(?P<counter>\d{1,12})(?![\w-])"
    rf"|{_NOW}(?:is|:|=|\s){{0,3}} ?(?P<weekday>{_SHORT})\b(?!,? (?:\d|{_MONTH} {{1,2}}\d))"
)
_SAID: Final = later(_SHARED)
_of_now: Final = later(rf"(?s:.*){_NOW}")
_DOUBTFUL_SAID: Final = frozenset({"uuid", "temporary", "moment", "day", "clock"})
_NEEDS_NOW: Final = frozenset({"day", "clock"})
_LONGEST_OBJECT: Final = 256
"""Characters in front of an address in which the object that it is of begins."""

_NEAR: Final = 32
"""Characters in front of a date in which a word says that it is that of now."""


@lru_cache(maxsize=512)
def steering_spans(text: str) -> tuple[Span, ...]:
    """What varies in a system prompt, or in the description of a tool."""
    if len(text) > LONGEST:
        return ()
    found = (_span(match, match.lastgroup == "path") for match in _STEERING.finditer(text))
    return tuple(span for span in found if span.start < span.end)


_SHOWS: Final = (
    ("-", later(r"-(?:[0-9A-Fa-f]{4}-|\d\d-\d\d)")),
    (":", later(r":\d\d")),
    ("/", later(r"/(?:tmp/|folders/|\d\d?/)")),
    (" 20", later(r" 20\d\d\b")),
    (" 19", later(r" 19\d\d\b")),
    (".", later(r"\.\d\d?\.\d")),
    (" 0x", later(r"\bat 0x")),
    ("emp\\", later(r"emp\\{1,2}tmp")),
)
"""What shows that something may be found, each behind what shows that soonest."""


@lru_cache(maxsize=512)
def said_spans(text: str) -> tuple[Span, ...]:
    """What varies in what is said or asked, or in what a tool gave: little, and most in doubt."""
    if len(text) > LONGEST:
        return ()
    for sign, shown in _SHOWS:
        if sign in text and shown.search(text) is not None:
            return tuple(_said(text))
    return ()


def _said(text: str) -> Iterator[Span]:
    for match in _SAID.finditer(text):
        kind = match.lastgroup or ""
        if kind in _NEEDS_NOW:
            start = match.start(kind)
            if _of_now.match(text[max(0, start - _NEAR) : start]) is None:
                continue
        if kind == "address":
            yield _address(text, match)
        else:
            yield _span(match, kind in _DOUBTFUL_SAID)


def _address(text: str, match: re.Match[str]) -> Span:
    """An address that is said: noise where Python prints an object, as ``<f at 0x7f12abcd>``."""
    front = text[max(0, match.start() - _LONGEST_OBJECT) : match.start()]
    of_object = front.rfind("<") > front.rfind(">") and text[match.end() : match.end() + 1] == ">"
    pattern = _pattern("address", match[0]) + "(?=>)" * of_object
    return Span(*match.span(), pattern, not of_object, True)


def _span(match: re.Match[str], doubtful: bool) -> Span:
    kind = match.lastgroup or ""
    value = match[kind]
    return Span(*match.span(kind), _pattern(kind, value), doubtful, kind == "address")


_RUNS: Final = re.compile(r"\d+|[A-Za-z]+|[+-](?=\d\d:?\d\d$)|.", re.DOTALL)


def _pattern(kind: str, value: str) -> str:
    """The narrowest expression that finds the like of a value."""
    if kind == "uuid":
        digits = "[0-9a-f]" if value == value.lower() else "[0-9A-F]"
        return f"{digits}{{8}}(?:-{digits}{{4}}){{3}}-{digits}{{12}}"
    if kind == "address":
        return r"\bat 0x[0-9a-fA-F]+"
    if kind == "hex":
        return f"[0-9a-f]{{{len(value)}}}"
    if kind == "id":
        head = re.split("[_-]", value, maxsplit=1)[0]
        return f"{head}{value[len(head)]}[A-Za-z0-9]{{8,}}"
    if kind == "epoch":
        whole, dot, _ = value.partition(".")
        return rf"1\d{{{len(whole) - 1}}}" + r"\.\d+" * bool(dot)
    if kind == "counter":
        return r"\d+"
    if kind == "path":
        return f"/{value.split('/')[1]}" + r"/[\w./-]+"
    if kind == "temporary":
        return _temporary(value)
    return _of_moment(value)


def _temporary(value: str) -> str:
    if "\\" in value:
        head, sign, _ = value.rpartition("\\")
        return re.escape(head + sign) + r"tmp\w+"
    if "/pytest-of-" in value:
        return value[: value.index("/pytest-of-")] + r"/pytest-of-[\w-]+/pytest-\d+"
    if "/var/folders/" in value:
        return value[: value.index("/var/folders/")] + r"/var/folders/\w\w/\w+/T/[\w-]+"
    head, _, name = value.rpartition("/")
    return head + (r"/tmp\w{6,}" if re.fullmatch(r"tmp\w{6,}", name) else r"/(?=[\w-]*\d)[\w-]+")


_of_ctime: Final = later(rf"{_WEEKDAY} {_MONTH}  ?\d\d? {_CLOCK}")
_ZONES: Final = frozenset({"T", "Z", "UTC", "GMT", "at"})


def _of_moment(value: str) -> str:
    """The expression for a date, a time, or both, in the form that one has."""
    if _of_ctime.match(value) is not None:  # which puts a space in front of a day instead
        return _runs_of(value.replace("  ", " ")).replace(r" \d{1,2}", r" {1,2}\d{1,2}", 1)
    return _runs_of(value)


def _runs_of(value: str) -> str:
    runs = _RUNS.findall(value)
    words = {run for run in runs if run.isalpha()} - _ZONES
    days_first = len(runs[0]) < 3 and runs[1:2] != [":"]
    of_people = bool(words) or days_first  # who write no 0 in front
    made: list[str] = []
    for at, run in enumerate(runs):
        before = runs[at - 1] if at else ""
        if run.isdigit():
            if before in (".", ",") and at > 3 and runs[at - 3] == ":":
                made.append(r"\d+")  # of a second
            elif before == ":" or (len(run) == 2 and not of_people):
                made.append(r"\d\d")
            else:
                made.append(r"\d{4}" if len(run) == 4 else r"\d{1,2}")
        elif run.isalpha():
            made.append(_word(run))
        else:
            made.append("[+-]" if run in "+-" and ":" in runs[:at] else _escaped(run))
    return "".join(made)


def _word(run: str) -> str:
    if run in _ZONES:
        return run
    if run.upper() in ("AM", "PM"):
        return "[AaPp][Mm]"
    return "[a-z]{2}" if run in ("st", "nd", "rd", "th") else "[A-Z][a-z]+"


def masked(text: str, spans: tuple[Span, ...], *, doubtful: bool) -> str:
    """A text with its varying parts left out, and what finds their like in their place.

    Args:
        text: the text.
        spans: the parts.
        doubtful: whether those are left out that may be what is asked.
    """
    made: list[str] = []
    end = 0
    for span in spans:
        if span.doubtful and not doubtful:
            continue
        made += (text[end : span.start], "\0", span.pattern, "\0")
        end = span.end
    return "".join((*made, text[end:])) if made else text


_SENTENCE: Final = later(r"\n|\s[,.;!?]|[,.;!?]\s")
_WORDS: Final = later(r"\s*(?:\S+\s+){0,2}\S*")
_LETTERS: Final = 3
_FAR: Final = 80


def anchored(text: str, spans: tuple[Span, ...], at: int) -> tuple[str, str]:
    """The pattern and the replacement of a rule for a part of a text, with the words around it.

    Args:
        text: the text.
        spans: what varies in it.
        at: which of them the rule is for.
    """
    span = spans[at]
    if span.anchored:
        return span.pattern, "at 0x…"
    front, words, letters = _front(text, spans, at)
    if letters >= _LETTERS:
        return front + span.pattern, f"{words}…"
    end = spans[at + 1].start if at + 1 < len(spans) else len(text)
    if (mark := text.find(HIDDEN, span.end, end)) >= 0:
        end = mark
    after = _nearest(text[span.end : end][:_FAR]).rstrip()
    back = _escaped(after)
    if _letters(after) < _LETTERS:
        back += "$" * (end == len(text) and after == text[span.end :])
    return front + span.pattern + back, f"{words}…{_plain(after)}"


def _front(text: str, spans: tuple[Span, ...], at: int) -> tuple[str, str, int]:
    """What stands in front of a part: the expression, the words, and how many letters they have.

    Where nothing but signs is between it and the part before, that stands in front as well.
    """
    span = spans[at]
    begin = spans[at - 1].end if at else 0
    if (mark := text.rfind(HIDDEN, begin, span.start)) >= 0:  # no request has that in it
        begin = mark + len(HIDDEN)
    between = text[begin : span.start]
    before = _nearest(between[-_FAR:][::-1])[::-1].lstrip()
    if _letters(before) >= _LETTERS or between != before or mark >= 0:
        return _escaped(before), _plain(before), _letters(before)
    if not at:
        return f"^{_escaped(before)}", _plain(before), _letters(before)
    first = spans[at - 1]
    if first.anchored:
        front, words, letters = first.pattern, "at 0x…", _LETTERS
    else:
        front, words, letters = _front(text, spans, at - 1)
        front, words = front + first.pattern, f"{words}…"
    return front + _escaped(before), words + _plain(before), letters


def _plain(text: str) -> str:
    """A text as what is put in the place of what was found."""
    return text.replace("\\", "\\\\")


def _nearest(text: str) -> str:
    """The words that a text begins with, up to three of one sentence.

    What stands in front of a part is given backwards, as its end is nearest.
    """
    cut = _SENTENCE.search(text)
    words = _WORDS.match(text if cut is None else text[: cut.start()])
    return words[0] if words else ""


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _escaped(text: str) -> str:
    """A text as an expression that finds it, without escapes that it can do without."""
    return re.sub(r"[\\.^$*+?{}\[\]|()]", r"\\\g<0>", text).replace("\n", r"\n")
