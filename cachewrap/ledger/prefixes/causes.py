"""Causes: what two prompts differ in first, in words, and whether that changes by itself."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from cachewrap.errors import printable
from cachewrap.explain.texts import common_prefix
from cachewrap.patterns import later

ORDER: Final = "order"
TIME: Final = "time"
ID: Final = "id"
COUNTER: Final = "counter"
SPACE: Final = "white space"
TEXT: Final = "text"
ADDED: Final = "added"
REMOVED: Final = "removed"
DEFINITION: Final = "definition"
PICTURE: Final = "picture"
ADDRESS: Final = "address"
MODEL: Final = "model"
SETTING: Final = "setting"
WINDOW: Final = "window"
SUMMARY: Final = "summary"
PAUSE: Final = "pause"
LOOKBACK: Final = "lookback"
UNREAD: Final = "unread"

BY_ITSELF: Final = frozenset({ORDER, TIME, ID, SPACE})
"""Kinds of differences that nobody makes on purpose."""


class Cause(NamedTuple):
    """The first difference of two prompts.

    Attributes:
        kind: what it is of, one of the names of this module.
        where: the field: ``tools[2].function.description``.
        text: all of it, for people.
        before: the words that stand before what differs, in a text.
    """

    kind: str
    where: str
    text: str
    before: str = ""


def labelled(where: str, value: Any) -> str:
    """A field for people: a message of the system prompt is called so."""
    role = value.get("role") if isinstance(value, dict) else None
    return f"{where} ({role})" if role in ("system", "developer") else where


# -- values --------------------------------------------------------------------------------------

_FIRST: Final = ("type", "role", "name", "id", "tool_call_id", "content")


def of_values(where: str, old: Any, new: Any) -> Cause:
    """The first difference of two values."""
    if isinstance(old, str) and isinstance(new, str):
        return of_texts(where, old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        return _of_objects(where, old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _of_lists(where, old, new)
    return Cause(TEXT, where, f"{where}: {_shown(old)} → {_shown(new)}")


def _of_objects(where: str, old: dict[str, Any], new: dict[str, Any]) -> Cause:
    if old == new:
        moved = (
            next((one, other) for one, other in zip(old, new, strict=True) if one != other)
            if list(old) != list(new)
            else ("", "")
        )
        if moved[0]:
            return _swapped(where, list(old), list(new), "key")
    for name in sorted(old.keys() | new.keys(), key=_rank):
        path = f"{where}.{name}"
        if name not in new:
            return Cause(REMOVED, path, f"{path} was removed")
        if name not in old:
            return Cause(ADDED, path, f"{path} was added: {_shown(new[name])}")
        if old[name] != new[name] or _order(old[name]) != _order(new[name]):
            return of_values(path, old[name], new[name])
    return Cause(ORDER, where, f"{where}: its keys are in another order")


def _rank(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), name


def _order(value: Any) -> Any:
    """What tells the order of the members of an object, at every level."""
    if isinstance(value, dict):
        return [(name, _order(inner)) for name, inner in value.items()]
    return [_order(inner) for inner in value] if isinstance(value, list) else None


def _of_lists(where: str, old: list[Any], new: list[Any]) -> Cause:
    one, other = [_key(item) for item in old], [_key(item) for item in new]
    if Counter(one) == Counter(other) and one != other:
        return _swapped(where, one, other, "item")
    at = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    path = f"{where}[{at}]"
    if at < len(new) and at < len(old):
        if one[at] in other[at + 1 :] and other[at] not in one:
            return Cause(ADDED, path, f"{path} was put in: {_shown(new[at])}")
        if other[at] in one[at + 1 :] and one[at] not in other:
            return Cause(REMOVED, path, f"{path} was removed: {_shown(old[at])}")
        return of_values(path, old[at], new[at])
    if at < len(new):
        return Cause(ADDED, path, f"{path} was added: {_shown(new[at])}")
    return Cause(REMOVED, path, f"{path} was removed: {_shown(old[at])}")


def _key(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _swapped(where: str, old: Sequence[str], new: Sequence[str], what: str) -> Cause:
    found = [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    if what == "key":
        names = f"{_shown(new[found[0]])} before {_shown(old[found[0]])}"
        return Cause(ORDER, where, f"{where}: the keys are in another order, {names}")
    if len(found) == 2:
        one, other = found
        text = f"{where}[{one}] and {where}[{other}] have changed places"
    else:
        text = f"{where}: the same {len(old)} {what}s in another order, from {where}[{found[0]}] on"
    return Cause(ORDER, where, text)


# -- tools and messages ----------------------------------------------------------------------------


def tool_name(tool: Any) -> str:
    """What a tool is called."""
    if isinstance(tool, dict):
        for holder in (tool, tool.get("function"), tool.get("toolSpec")):
            if isinstance(holder, dict) and isinstance(holder.get("name"), str):
                return str(holder["name"])
        return str(tool.get("type", ""))
    return ""


def of_tools(old: list[tuple[str, Any]], new: list[tuple[str, Any]]) -> Cause:
    """The first difference of two lists of tools, of which each has a label."""
    one, other = [tool_name(tool) for _, tool in old], [tool_name(tool) for _, tool in new]
    if Counter(one) == Counter(other) and one != other:
        found = [at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
        first = new[found[0]][0]
        if len(found) == 2:
            text = f"{first} and {new[found[1]][0]} have changed places"
            text += f" ({_shown(one[found[0]])}, {_shown(one[found[1]])})"
        else:
            text = f"the same {len(new)} tools in another order: {first} is now"
            text += f" {_shown(other[found[0]])}, was {_shown(one[found[0]])}"
        return Cause(ORDER, "tools", text)
    for at, ((label, was), (_, now)) in enumerate(zip(old, new, strict=False)):
        if was == now and _order(was) == _order(now):
            continue
        if one[at] == other[at]:
            cause = of_values(label, was, now)
            kind = cause.kind if cause.kind in BY_ITSELF | {COUNTER} else DEFINITION
            what = " was defined otherwise" if kind == DEFINITION else ""
            name = f"tool {_shown(one[at])}{what}: " if one[at] else ""
            return Cause(kind, label, f"{name}{cause.text}", cause.before)
        break
    else:
        at = min(len(old), len(new))
    gone, come = [n for n in one if n not in other], [n for n in other if n not in one]
    if not new or not old:
        kind = ADDED if new else REMOVED
        what = "were added" if new else "were left out"
        return Cause(kind, "tools", f"tools: all {len(new or old)} tools {what}")
    told = [f"{_names(come)} came in"] * bool(come) + [f"{_names(gone)} went out"] * bool(gone)
    label = (new[at] if at < len(new) else old[at])[0]
    text = f"{label}: another set of tools: {' and '.join(told) or 'one is there twice'}"
    return Cause(ADDED if come else REMOVED, "tools", text)


def _names(names: list[str]) -> str:
    shown = ", ".join(_shown(name) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def of_message(where: str, old: Any, new: Any) -> Cause:
    """The first difference of a message that was sent and of what stands in its place later."""
    cause = of_values(where, old, new)
    if cause.kind in BY_ITSELF | {COUNTER, PICTURE, ADDRESS}:
        return cause
    where = cause.where
    what = "was edited after it was sent"
    return cause._replace(text=f"{where} {what}: {cause.text.removeprefix(where).lstrip(': ')}")


def said(value: Any) -> str:
    """The texts in a value, but for pictures and their like."""
    if isinstance(value, str):
        return "" if _is_encoded(value) else value
    if isinstance(value, dict):
        return "\n".join(filter(None, (said(value[name]) for name in value if name != "role")))
    return "\n".join(filter(None, map(said, value))) if isinstance(value, list) else ""


def shares(old: Any, new: Any) -> tuple[float, float]:
    """Which share of a value is the same before and behind what differs from an older one."""
    one, other = said(old), said(new)
    if not other:
        return 0.0, 0.0
    head = common_prefix(one, other)
    tail = common_prefix(one[head:][::-1], other[head:][::-1])
    return head / len(other), tail / len(other)


def alike(old: Any, new: Any) -> bool:
    """Whether a message may be what another one was edited to."""
    one, other = said(old), said(new)
    if not one or not other:
        return False
    if min(len(one), len(other)) >= 12 and (one in other or other in one):
        return True
    head = common_prefix(one, other)
    tail = common_prefix(one[head:][::-1], other[head:][::-1])
    return (head + tail) * 2 >= max(len(one), len(other))


# -- texts -----------------------------------------------------------------------------------------

_DAY: Final = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b"
_MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_HOUR: Final = r"\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\b\.?)?"
_ZONE: Final = r"(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_AT: Final = rf"(?:,? +(?:at )?{_HOUR}{_ZONE})?"
_NTH: Final = r"\d\d?(?:st|nd|rd|th)?"
_DATES: Final = (
    rf"\d{{4}}[-/.]\d\d?[-/.]\d\d?(?:[T _,]+(?:at )?{_HOUR}{_ZONE})?",
    rf"\d\d?[-/.]\d\d?[-/.]\d{{2,4}}{_AT}",
    rf"(?:{_DAY},? +)?{_MONTH} +{_NTH}\b(?:,? +\d{{4}}\b)?{_AT}(?: +\d{{4}}\b)?",
    rf"(?:{_DAY},? +)?{_NTH} +{_MONTH}(?:,? +\d{{4}}\b)?{_AT}",
    rf"{_DAY}{_AT}",
)
_STAMP: Final = r"\b1[5-9]\d{8}(?:\d{3,9})?(?:\.\d+)?\b"
_MOMENT: Final = later(rf"{'|'.join(_DATES)}|{_HOUR}{_ZONE}|{_STAMP}")
_CLOCK: Final = later(rf"{_HOUR}|\b1[5-9]\d{{8}}")
_IDS: Final = later(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|0x[0-9a-fA-F]{4,16}\b"
    r"|(?:/private)?/(?:var/)?(?:tmp|folders)/[^\s\"'<>()\[\]{},;]+"
    r"|\b(?=[0-9A-Za-z_-]*\d)(?=[0-9A-Za-z_-]*[A-Za-z])[0-9A-Za-z]+(?:[_-][0-9A-Za-z]+)*\b"
)
_NUMBER: Final = later(r"[+-]?\d+(?:[.,]\d+)*")
_NOW: Final = later(
    r"(?i)\b(?:today|now|current(?:ly)?|date|time|clock|as of|since|updated|it is|sent|started"
    r"|generated|created|at the moment|timestamp|stamp|utc)\b"
)
_TODAY: Final = later(r"(?i)\b(?:today|now|current(?:ly)?|as of|it is)\b")
_SECONDS: Final = later(r"\d:\d\d:\d\d|^\d{10,}")
_WORDS: Final = later(r"[^\s,;\"'{}\[\]()]+")
_AROUND: Final = 80
_LONGEST: Final = 400_000
_SHOWN: Final = 60


def of_texts(where: str, old: str, new: str) -> Cause:
    """The first difference of two texts."""
    if _is_encoded(old) and _is_encoded(new):
        what = f"other bytes of what is encoded there ({len(old):,} → {len(new):,} characters)"
        return Cause(PICTURE, where, f"{where}: {what}, as of a picture that was encoded again")
    head = common_prefix(old, new)
    before = old[max(0, head - _AROUND) : head]
    at = f"at character {head}"
    if old.startswith(("http://", "https://")) and old.partition("?")[0] == new.partition("?")[0]:
        return Cause(ADDRESS, where, f"{where}: the query of an address changed, as of a signature")
    if max(len(old), len(new)) <= _LONGEST:
        if "".join(old.split()) == "".join(new.split()):
            return Cause(SPACE, where, f"{where}: white space {at}: {_pair(old, new, head)}")
        if unicodedata.normalize("NFKC", old) == unicodedata.normalize("NFKC", new):
            what = "letters that look alike are encoded otherwise"
            return Cause(SPACE, where, f"{where}: {what} {at}")
    if (found := _token(_MOMENT, old, new, head)) and not _is_task(found, before):
        kind = "a time stamp" if _CLOCK.search(found[1]) else "a date"
        before = old[max(0, found[0] - _AROUND) : found[0]]
        return Cause(TIME, where, f"{where}: {kind} at character {found[0]}: {_two(found)}", before)
    if (found := _token(_IDS, old, new, head)) and _is_random(found[1]) and _is_random(found[2]):
        text = f"{where}: a random id at character {found[0]}: {_two(found)}"
        return Cause(ID, where, text, old[max(0, found[0] - _AROUND) : found[0]])
    if moved := _moved(old, new, head):
        return Cause(ORDER, where, f"{where}: {moved} {at}: {_pair(old, new, head)}")
    if found := _token(_NUMBER, old, new, head):
        text = f"{where}: a counter or another number at character {found[0]}: {_two(found)}"
        return Cause(COUNTER, where, text, old[max(0, found[0] - _AROUND) : found[0]])
    if new[head:].endswith(old[head:]) and len(new) > len(old):
        more = new[head : len(new) - len(old) + head]
        return Cause(ADDED, where, f"{where}: text was added {at}: {_shown(more)}", before)
    if old[head:].endswith(new[head:]) and len(old) > len(new):
        less = old[head : len(old) - len(new) + head]
        return Cause(REMOVED, where, f"{where}: text was removed {at}: {_shown(less)}", before)
    if old.casefold() == new.casefold():
        return Cause(TEXT, where, f"{where}: upper and lower case {at}: {_pair(old, new, head)}")
    return Cause(TEXT, where, f"{where}: text changed {at}: {_pair(old, new, head)}", before)


def volatile_head(old: str, new: str) -> tuple[str, int] | None:
    """The cause of two texts that go on alike behind a time, an id or white space, and how far."""
    head = common_prefix(old, new)
    for kind, pattern in ((TIME, _MOMENT), (ID, _IDS)):
        found = _token(pattern, old, new, head)
        if found and (kind == TIME or (_is_random(found[1]) and _is_random(found[2]))):
            one, other = old[found[0] + len(found[1]) :], new[found[0] + len(found[2]) :]
            return kind, common_prefix(one, other)
    return None


def is_moved(old: str, new: str) -> bool:
    """Whether two texts say the same in another order."""
    return bool(_moved(old, new, common_prefix(old, new)))


def _last_number(text: str) -> float:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else 0.0


_OF_CALLS: Final = later(
    r"(?i)\b(?:requests?|calls?|messages?|attempts?|turns?|invocations?|counter|counted|count"
    r"|seq(?:uence)?|nonce|so far)\b[^a-zA-Z]{0,4}(?:(?:no|nr|num|number|id)\b[^a-zA-Z]{0,4})?$"
)
_OF_TASKS: Final = later(
    r"(?i)\b(?:doc(?:ument)?s?|files?|articles?|papers?|tickets?|orders?|customers?|users?"
    r"|patients?|products?|sku|commits?|cases?|accounts?|invoices?|repo(?:sitory)?|items?)\b"
    r"[^a-zA-Z]{0,4}(?:(?:no|nr|number|id)\b[^a-zA-Z]{0,4})?$"
)


def count_calls(causes: Sequence[Cause]) -> bool:
    """Whether numbers count calls, one after the other, and are not what calls are about."""
    if len(causes) < 3 or not all(_OF_CALLS.search(cause.before) for cause in causes):
        return False
    numbers = [_last_number(cause.text) for cause in causes]
    return all(one + 1 == other for one, other in pairwise(numbers))


def _token(pattern: Any, old: str, new: str, head: int) -> tuple[int, str, str] | None:
    """What both texts have where they first differ that fits a pattern, and where it begins."""
    start = max(0, head - _AROUND)
    found = []
    for text in (old, new):
        part = text[start : head + _AROUND]
        spans = [
            one
            for one in pattern.finditer(part)
            if one.start() + start <= head <= one.end() + start
        ]
        if not spans:
            return None
        found.append(spans[-1])
    one, other = found
    if one.start() != other.start() or one[0] == other[0]:
        return None
    return one.start() + start, one[0], other[0]


def _is_random(token: str) -> bool:
    """Whether something looks as if nobody had chosen it."""
    if token.startswith(("/tmp", "/var", "/private", "0x")):
        return True
    longest = max(token.replace("-", "_").split("_"), key=len)
    if token.count("-") == 4 and len(token) == 36:
        return True
    digits = sum(one.isdigit() for one in longest)
    if len(longest) < 6 or not digits:
        return False
    if set(longest.lower()) <= set("0123456789abcdef"):
        return digits < len(longest) or len(longest) >= 12
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(longest))
    return len(longest) >= 8 and changes >= 3


def is_of_task(cause: Cause) -> bool:
    """Whether an id is of what a call is about."""
    return _OF_TASKS.search(cause.before) is not None


def is_clock(cause: Cause, *, alone: bool) -> bool:
    """Whether a time is that of a call, and not what the call is about.

    Args:
        cause: the cause, of the kind `TIME`.
        alone: whether a date with an hour says so by itself.
    """
    token = _QUOTED.findall(cause.text)
    told = token[0] if token else ""
    if not _CLOCK.search(told):
        return _TODAY.search(cause.before[-40:]) is not None
    return bool(
        len(cause.before) <= 2
        or _NOW.search(cause.before[-40:])
        or _SECONDS.search(told)
        or (alone and "-" in told)
    )


_QUOTED: Final = later(r"'([^']*)' → ")


def _is_task(found: tuple[int, str, str], before: str) -> bool:
    # A day without an hour may be what a request is about.
    return not _CLOCK.search(found[1]) and not _NOW.search(before)


def _moved(old: str, new: str, head: int) -> str:
    """What is there in another order in two texts; ``""`` for nothing."""
    if max(len(old), len(new)) > _LONGEST:
        return ""
    spans = [(old, new)]
    for cut in ("\n\n", "\n"):
        spans.append((_around(old, head, cut), _around(new, head, cut)))
    for one, other in spans:
        if one == other or abs(len(one) - len(other)) > 2:
            continue
        lines, others = one.split("\n"), other.split("\n")
        words, more = _WORDS.findall(one), _WORDS.findall(other)
        if len(words) < 3 or Counter(words) != Counter(more):
            continue
        if '":' in one or "':" in one:
            return "JSON keys in another order"
        if len(lines) > 2 and Counter(map(str.strip, lines)) == Counter(map(str.strip, others)):
            return f"the same {len(lines)} lines in another order"
        return "the same words in another order, as of a list that is sorted anew"
    return ""


def _around(text: str, head: int, cut: str) -> str:
    start = text.rfind(cut, 0, head)
    end = text.find(cut, head)
    return text[start + len(cut) if start >= 0 else 0 : end if end >= 0 else len(text)]


def _is_encoded(text: str) -> bool:
    if text.startswith("data:"):
        return True
    return len(text) >= 200 and _ENCODED.fullmatch(text) is not None


_ENCODED: Final = later(r"[A-Za-z0-9+/=_-]+")


def shown_pair(old: Any, new: Any) -> str:
    """Two lists of names, as far as they differ."""
    return ", ".join(
        f"{_shown(one)} → {_shown(other)}"
        for one, other in zip(old, new, strict=True)
        if one != other
    )


def _two(found: tuple[int, str, str]) -> str:
    return f"{_shown(found[1])} → {_shown(found[2])}"


def changed(label: str, old: Any, new: Any) -> str:
    """What is said of a setting that changed."""
    return f"{label} changed: {_shown(old)} → {_shown(new)}"


def _pair(old: str, new: str, head: int) -> str:
    start = max(0, head - 12)
    start = old.rfind(" ", 0, start) + 1 if start and head - start < 12 else start
    return f"{_shown(old[start : start + 40])} → {_shown(new[start : start + 40])}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"
        return repr(text)
    return printable(json.dumps(value, ensure_ascii=False, default=str), _SHOWN)
