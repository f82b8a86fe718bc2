"""Answers by what they say, apart from how they were sent, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final, TypeAlias

from cachewrap.entries.conversation import body_parts, event_piece, jsonable, objects_in
from cachewrap.entries.parts import Part, Stream, parts_of
from cachewrap.entries.values import bare, said_by
from cachewrap.entry import Entry, HttpAnswer, Items, Kind
from cachewrap.errors import printable
from cachewrap.explain.differences import differences
from cachewrap.explain.texts import places
from cachewrap.format import codec
from cachewrap.format.aliases import alias_in

Spoken: TypeAlias = tuple[str, Any]
"""What a part of an answer is, ``""`` for text, and the text or JSON in it."""

_SENT: Final = frozenset(
    "created created_at completed_at id model object request_id response_id responseId"
    " service_tier system_fingerprint usage usageMetadata usage_metadata x_groq".split()
)
"""Fields of an answer that are new each time, or tell how it was made."""

_FENCE: Final = "```"
_MOST_LINES: Final = 40
_MOST_LINE: Final = 400
_HEAD: Final = "body"  # which `differences` leaves out of paths
_WHOLE: Final = "answer"


@dataclass(slots=True)
class Said:
    """All that an answer says.

    Attributes:
        parts: its parts, in their order.
        text: all of it, for people.
        exact: the value itself, where it is no text and of no API.
    """

    parts: list[Spoken] = field(default_factory=list)
    text: str = ""
    exact: Any = None


def said_in(entry: Entry) -> Said:
    """What the answer of an entry says. Raises `CorruptEntryError`."""
    if entry.kind is Kind.HTTP:
        return _of_http(codec.decode(Kind.HTTP, entry.answer))
    if entry.kind is Kind.ITEMS:
        items: Items = codec.decode(Kind.ITEMS, entry.answer)
        return _of_items([codec.plain_form(*item) for item in items.values])
    if (alias := alias_in(entry)) is not None:
        return _of_text(f"the answer under {alias.target}")
    plain = codec.plain_form(entry.kind, entry.answer)
    if isinstance(plain, str):
        return _of_text(plain)
    found = [part for role, content in said_by(plain) or () for part in _said_parts(role, content)]
    return _of_parts(found) if found else _of_value(bare(plain), plain)


def _of_text(text: str) -> Said:
    return Said([("", text)], text)


def _of_value(value: Any, exact: Any = None) -> Said:
    shown = json.dumps(jsonable(value), ensure_ascii=False, indent=2, default=str)
    return Said([(_WHOLE, value)], shown, exact)


def _of_parts(parts: list[Part]) -> Said:
    said: list[Spoken] = []
    texts = []
    for part in parts:
        if part.kind == "call":
            said.append((f"call of {part.name or 'a tool'}", part.text))
            texts.append(f"{part.name or 'call'}({part.text})")
        elif part.kind == "picture":
            said.append(("picture", hashlib.sha256(part.data.encode()).hexdigest()))
            texts.append(part.text)
        else:
            kind = {"text": "", "result": f"result {part.name}".strip()}.get(part.kind, part.kind)
            if said and said[-1][0] == kind == "":  # how a text is cut into parts says nothing
                said[-1] = "", f"{said[-1][1]}\n{part.text}"
            else:
                said.append((kind, part.text))
            texts.append(part.text)
    return Said(said, "\n".join(texts))


def _of_http(answer: HttpAnswer) -> Said:
    if answer.streamed and (parts := Stream(answer).parts()):
        return _of_parts(parts)
    body = b"".join(answer.chunks)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _of_bytes(body)
    if isinstance(value, dict):
        if vectors := [item["embedding"] for item in objects_in(value, "data") if _is_vector(item)]:
            size = f"{len(vectors[0])} numbers" if isinstance(vectors[0], list) else "encoded"
            text = "\n".join([f"[{size}]"] * len(vectors))
            return Said([("embedding", vector) for vector in vectors], text)
        if found := [part for role, said in body_parts(value) for part in _said_parts(role, said)]:
            return _of_parts(found)
    return _of_value(_unsent(value))


def _is_vector(item: Any) -> bool:
    return "embedding" in item


def _said_parts(role: str, content: Any) -> Iterator[Part]:
    if role:
        yield from parts_of(content)
        return
    for _, part in body_parts(content):
        yield from parts_of(part)


def _unsent(value: Any) -> Any:
    """A body without what is new each time."""
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if name not in _SENT}


def _of_bytes(body: bytes) -> Said:
    try:
        return _of_text(body.decode())
    except UnicodeDecodeError:
        text = f"[{len(body)} bytes]"
        return Said([("bytes", hashlib.sha256(body).hexdigest())], text)


def _of_items(plain: list[Any]) -> Said:
    """What a generator gave: texts, and the chunks of a model, as what they make together."""
    if plain and all(isinstance(item, str) for item in plain):
        return _of_text("".join(plain))
    shown = [bare(item) for item in plain]
    are_chunks = bool(shown) and all(isinstance(item, dict) for item in shown)
    if are_chunks and (text := "".join(map(event_piece, shown))):
        return _of_text(text)
    return _of_value(shown, plain)


# -- how two differ ------------------------------------------------------------------------------


def same(one: Said, other: Said) -> bool:
    """Whether two answers say the same."""
    return repr(one.parts) == repr(other.parts) and repr(one.exact) == repr(other.exact)


def differing(old: Said, new: Said) -> tuple[str, ...]:
    """How an answer differs from an older one, a line for each part; nothing where it does not."""
    if same(old, new):
        return ()
    lines = list(_parts(old.parts, new.parts))
    if not lines and repr(old.exact) != repr(new.exact):
        lines = [*_values("", old.exact, new.exact)]
    found = list(dict.fromkeys(printable(line, _MOST_LINE) for line in lines))
    more = len(found) - _MOST_LINES
    return tuple([*found[:_MOST_LINES], f"and {more} more"] if more > 0 else found)


def _parts(old: list[Spoken], new: list[Spoken]) -> Iterator[str]:
    one, other = [kind for kind, _ in old], [kind for kind, _ in new]
    if one == other:
        for at, ((kind, was), (_, now)) in enumerate(zip(old, new, strict=True)):
            yield from _part(_label(kind, at, one), was, now)
        return
    for step, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if step == "equal":
            for at, to in zip(range(a, b), range(c, d), strict=True):
                yield from _part(_label(one[at], to, other), old[at][1], new[to][1])
            continue
        for kind, was in old[a:b]:
            yield f"{kind or 'text'} removed{_note(was)}"
        for kind, now in new[c:d]:
            yield f"{kind or 'text'} added{_note(now)}"


def _label(kind: str, at: int, kinds: list[str]) -> str:
    """What a part is called, where there is more than one, or it is no text."""
    return f"{kind or 'text'} {at + 1}" if kinds.count(kind) > 1 else kind


def _part(label: str, old: Any, new: Any) -> Iterator[str]:
    if repr(old) == repr(new):
        return
    head = f"{label}: " if label and label != _WHOLE else ""
    if label.startswith(("picture", "bytes")):
        yield f"{head}other bytes"
    elif label.startswith("embedding"):
        yield f"{head}{_numbers(old, new)}"
    elif isinstance(old, str) and isinstance(new, str):
        one, other = json_in(old), json_in(new)
        if one is None or other is None:
            yield from (f"{head}{line}" for line in _texts(old, new))
        else:
            yield from _values(head, one, other)
    else:
        yield from _values(head, old, new)


def _values(head: str, old: Any, new: Any) -> Iterator[str]:
    name = _HEAD if isinstance(old, dict) and isinstance(new, dict) else _WHOLE
    for found in differences({name: old}, {name: new}):
        yield f"{head}{found.line}"


def _texts(old: str, new: str) -> Iterable[str]:
    """Where two texts differ; of two that have little in common only how they begin."""
    return places(old, new, _MOST_LINES)


def _numbers(old: Any, new: Any) -> str:
    if not isinstance(old, list) or not isinstance(new, list):
        return "other numbers"
    if len(old) != len(new):
        return f"{len(old)} numbers → {len(new)} numbers"
    count = sum(one != other for one, other in zip(old, new, strict=True))
    return f"{count} of {len(old)} numbers differ"


def _note(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(jsonable(value), default=str)
    text = " ".join(text.split())
    return f": {text[:60]!r}{'…' if len(text) > 60 else ''}" if text else ""


def json_in(text: str) -> Any:
    """The object or list that a text is in JSON, in a fence or not; None for another text."""
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        text = text[:-3].partition("\n")[2].strip()
    if text[:1] not in ("{", "[") or text[-1:] not in ("}", "]"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
