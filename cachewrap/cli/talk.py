"""Conversations as the page of a report shows them: turns in parts, bounded, and which go on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from cachewrap.cli.entries import Row
from cachewrap.entries.conversation import (
    CONVERSATIONS,
    KEY_ALONE,
    PEOPLE,
    Turn,
    answer_pieces,
    answer_turns,
    jsonable,
    prompt_of,
    request_settings,
    request_turns,
)
from cachewrap.entries.parts import Part, Stream, StreamPiece, parts_of
from cachewrap.entry import HttpAnswer, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format import codec
from cachewrap.report.pictures import picture_of

NAME: Final = 200
"""Characters of a name, at most."""

_PREVIEW: Final = 160
_SETTING: Final = 2_000
TEXT: Final = 50_000
"""Characters of a text, at most."""

_TALK: Final = 1_000_000
"""Characters of what is asked in a conversation, at most, and of what is answered."""

_MARKS: Final = re.compile(r"^#{1,6} |\*\*|`+", re.M)

Show = Callable[[str], int | None]
"""What puts a picture on the page, given its address, and tells its number there; None without."""

_Shown = list[tuple[str, list[Part]]]


class Talk:
    """An entry as a conversation: who says what, a stream in its pieces, or why it cannot be told.

    Very long texts are cut, and how much was cut is told.

    Args:
        row: the entry.
        show: puts its pictures on the page.

    Attributes:
        told: what the page reads.
        title: the beginning of the last thing that a person said, on one line; where nobody said
            anything that is known, of the answer, behind an arrow.
        sample: which sample of its request it is; 0 for the first, and where that is not known.
        gist: the beginning of what was answered, on one line.
        asked: role and part, of all that was asked, with the turn that each part is of.
        answered: role and part, of all that was answered.
    """

    def __init__(self, row: Row, show: Show) -> None:
        self._room = _TALK
        self._show = show
        self.title = self.gist = ""
        self.sample = row.sample or 0
        self.asked: list[tuple[int, str, Part]] = []
        self.answered: list[tuple[str, Part]] = []
        try:
            self.told = self._tell(row)
        except (CorruptEntryError, RecursionError) as error:
            self.told = {"error": str(error)}

    def _tell(self, row: Row) -> dict[str, Any]:
        request, entry = row.request, row.entry
        asked = _asked(request)
        self.asked = [(at, role, part) for at, (role, ps) in enumerate(asked) for part in ps]
        is_function = isinstance(request, Mapping) and "function" in request
        last = prompt_of(request, row.messages) if is_function else _last_said(asked)
        self.title = _one_line(last)
        told: dict[str, Any] = {
            "kept": request is not None,
            "settings": [[name, _setting(v)] for name, v in request_settings(request).items()],
            "asked": self._turns(asked, _given(request)),
        }
        if row.rules:
            told["rules"] = [row.rules, [rule[:NAME] for rule in row.by]]
        self._room = _TALK
        answer: HttpAnswer | None = None
        if entry.kind is Kind.HTTP:
            answer = codec.decode(Kind.HTTP, entry.answer)
        if answer is not None and answer.streamed:
            stream = Stream(answer)
            pieces, parts = stream.pieces, stream.parts()
            told["calls"] = [[name[:NAME], name_id[:NAME]] for name, name_id in stream.calls]
        else:
            pieces = [StreamPiece(piece.delay, piece.text) for piece in answer_pieces(entry)]
            parts = [Part("text", piece.text) for piece in pieces]
        if pieces:
            answered: _Shown = [("assistant", parts)]
            told["pieces"], told["cut"] = self._pieces(pieces)
            told["between"] = "" if entry.kind is Kind.HTTP else "\n"
        else:
            answered = _answered(entry, answer)
            told["answered"] = self._turns(answered)
        self.answered = [(role, part) for role, parts in answered for part in parts]
        gist = " ".join(_brief(part) for _, part in self.answered)
        self.gist = _one_line(_MARKS.sub("", gist[: 8 * _PREVIEW]))
        if self.gist and (not self.title or asked[-1][0] == KEY_ALONE):
            self.title = f"→ {self.gist}"[:_PREVIEW]
        return told

    def _turns(self, turns: _Shown, given: Sequence[Any] = ()) -> list[list[Any]]:
        """Role, parts and the number of characters that were cut, of each."""
        told: list[list[Any]] = []
        for role, parts in turns:
            lost = 0
            shown: list[Any] = list(map(list, given)) if given and not told else []
            if not shown:
                for part in parts:
                    one, cut = self._part(part)
                    shown.append(one)
                    lost += cut
            single = shown[0] if len(shown) == 1 and isinstance(shown[0], str) else shown
            told.append([role[:NAME], single if shown else "", lost])
        return told

    def _part(self, part: Part) -> tuple[Any, int]:
        if part.kind == "picture":
            return self._picture(part), 0
        text, cut = self._text(part.text)
        if part.kind == "text":
            return text, cut
        if part.kind == "call":
            return ["call", part.name[:NAME], text, part.id[:NAME]], cut
        if part.kind == "result":
            return ["result", part.id[:NAME], text], cut
        return ["thinking", text], cut

    def _picture(self, part: Part) -> list[Any] | str:
        picture = picture_of(part.data)
        number = None if picture is None else self._show(picture.address)
        if picture is None or number is None:
            return ["note", part.text[:NAME]]
        size = len(picture.data)
        return ["image", number, picture.kind, picture.width, picture.height, size]

    def _pieces(self, pieces: Iterable[StreamPiece]) -> tuple[list[list[Any]], int]:
        """The pieces of a stream, and how many characters were cut."""
        kept: list[list[Any]] = []
        lost = 0
        for piece in pieces:
            text, cut = self._text(piece.text)
            lost += cut
            if text or piece.number is not None:
                told: list[Any] = [round(_finite(piece.delay), 4), text]
                kept.append(told if piece.number is None else [*told, piece.number])
        return kept, lost

    def _text(self, text: str) -> tuple[str, int]:
        shown = text[: min(TEXT, self._room)]
        self._room -= len(shown)
        return shown, len(text) - len(shown)


def _asked(request: Any) -> _Shown:
    shown = [(turn.role, _turn_parts(turn)) for turn in request_turns(request)]
    if isinstance(request, Mapping) and isinstance(request.get("arguments"), Mapping):
        for name in CONVERSATIONS:
            messages = request["arguments"].get(name)
            if isinstance(messages, list) and all(_is_message(one) for one in messages):
                turns = request_turns({"body": {"messages": messages}})
                shown += [(turn.role, _turn_parts(turn)) for turn in turns]
    return shown


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str)


def _given(request: Any) -> list[Any]:
    """The arguments of a function by name, as the only part of its turn."""
    if not isinstance(request, Mapping) or not isinstance(request.get("arguments"), Mapping):
        return []
    shown, room = [], TEXT
    for name, value in request["arguments"].items():
        if name in CONVERSATIONS and isinstance(value, list) and all(map(_is_message, value)):
            value = f"[{len(value)} message{'' if len(value) == 1 else 's'}]"
        text = value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
        if len(text) > room:
            return []
        room -= len(text)
        shown.append([str(name)[:NAME], text])
    return [["given", shown]] if shown else []


def _turn_parts(turn: Turn) -> list[Part]:
    if turn.content is not None:
        return parts_of(turn.content)
    return [Part("text", turn.text)] if turn.text else []


def _answered(entry: Any, answer: HttpAnswer | None) -> _Shown:
    if answer is not None and (picture := picture_of(b"".join(answer.chunks))):
        return [("image", [Part("picture", "", data=picture.address)])]
    shown: _Shown = []
    vectors: list[str] = []
    for turn in answer_turns(entry):
        if turn.role == "embedding":
            vectors.append(turn.text)
        else:
            shown.append((turn.role, _turn_parts(turn)))
    if vectors:
        same = f", each {vectors[0]}" if len(set(vectors)) == 1 else f", of {vectors[0]} and others"
        text = vectors[0] if len(vectors) == 1 else f"{len(vectors)} embeddings{same}"
        shown.append(("embedding", [Part("text", text)]))
    return shown


def _last_said(asked: _Shown) -> str:
    """The text of the last thing that a person said; of the last thing where nobody did."""
    last = ""
    for role, parts in reversed(asked):
        said = " ".join(part.text for part in parts if part.kind == "text")
        if said.strip() and role in PEOPLE:
            return said
        last = last or said or " ".join(map(_brief, parts))
    return last


def _brief(part: Part) -> str:
    return f"{part.name}({part.text})" if part.kind == "call" else part.text


def _one_line(text: str) -> str:
    return " ".join(text[: 4 * _PREVIEW].split())[:_PREVIEW]


def _setting(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
    return text if len(text) <= _SETTING else f"{text[:_SETTING]} …"


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0


class Conversations:
    """Requests of conversations that grow: each has what the one before asked, and its answer."""

    def __init__(self) -> None:
        self._ends: dict[bytes, int] = {}
        self._prefixes: list[tuple[list[bytes], array[int]]] = []
        self._gists: list[tuple[float, str]] = []

    def add(self, row: Row, talk: Talk | None) -> None:
        """Take the next line of the page."""
        number = len(self._prefixes)
        said, turns = [], array("L")
        if talk is not None and talk.asked and talk.answered:
            state = hashlib.blake2b(
                f"{row.place.seed}\n{row.source}\n{row.model}".encode(), digest_size=16
            )
            for turn, role, part in talk.asked:
                if _hash(state, role, part):
                    said.append(state.digest())
                    turns.append(turn)
            asked = len(said)
            for role, part in talk.answered:
                _hash(state, role, part)
            if asked and state.digest() != said[-1]:
                self._ends.setdefault(state.digest(), number)
        self._prefixes.append((said, turns))
        self._gists.append((row.entry.created, talk.gist if talk else ""))

    def found(self) -> list[list[list[Any]]]:
        """The conversations of more than one request, and of each request, the oldest first, its
        line, how many of its turns the one before has, and the beginning of its answer.
        """
        before: dict[int, tuple[int, int]] = {}
        for number, (said, turns) in enumerate(self._prefixes):
            for at in range(len(said) - 1, -1, -1):
                other = self._ends.get(said[at])
                if other is not None and other != number:
                    known = turns[at + 1] if at + 1 < len(said) else turns[at] + 1
                    before[number] = other, known
                    break
        groups: dict[int, list[int]] = {}
        for number in {*before, *(other for other, _ in before.values())}:
            groups.setdefault(_first(number, before), []).append(number)
        return [
            [
                [one, before[one][1] if one in before else 0, self._gists[one][1]]
                for one in sorted(
                    group, key=lambda one: (len(self._prefixes[one][0]), self._gists[one][0])
                )
            ]
            for _, group in sorted(groups.items())
        ]


def _first(number: int, before: Mapping[int, tuple[int, int]]) -> int:
    seen = set()
    while number in before and number not in seen:
        seen.add(number)
        number = before[number][0]
    return number


def _hash(state: Any, role: str, part: Part) -> bool:
    """Take a part into the hash of a conversation; whether it is one that requests repeat."""
    if part.kind == "thinking":
        return False
    text = " ".join(part.text.split())
    if part.kind == "call":
        with suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(part.text or "{}"), sort_keys=True)
    if not text and part.kind == "text":
        return False
    who = role if role in ("system", "user", "developer") else ""
    state.update(json.dumps([who, part.kind, part.name, text]).encode())
    return True
