"""Pairs of stored requests that may mean the same, for a person or a judge to approve.

Their last words differ, and nothing else. How much these are alike decides nothing: ``turn on`` and
``turn off`` are as alike as two ways to ask for one thing. What turns meaning around is marked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cachewrap.entries.conversation import PEOPLE
from cachewrap.entries.stored import StoredEntry
from cachewrap.entry import Kind
from cachewrap.patterns import later
from cachewrap.request.key import decode_request
from cachewrap.suggest import embedding
from cachewrap.suggest.contrasts import turns
from cachewrap.suggest.outlines import ODD, scope_of

AT_LEAST: Final = 0.85
"""How much two texts are alike, at least, by default."""

LONGEST: Final = 1000
"""Characters of a text that is compared: the mean of a longer one says little."""

NEAREST: Final = 5
"""Pairs, at most, of each text."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two stored requests that differ in their last words alone, and these are alike.

    Attributes:
        one: the key of the newer one, which would be an alias.
        other: the key of the older one, whose entry would answer both.
        texts: the last words of both.
        likeness: how much they are alike, up to 1. It decides nothing.
        turns: what may turn the meaning around: ``"on / off"``, ``"2019 / 2020"``, ``"not"``. ""
            says that no word is known to.
        place: where both are, as it was given.
    """

    one: str
    other: str
    texts: tuple[str, str]
    likeness: float
    turns: str
    place: Any = None


class Asked:
    """The last words of stored requests, by all else that is in them.

    Attributes:
        entries: how many entries were looked at.
        compared: how many distinct requests of them can be compared.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.compared = 0
        self._frames: dict[tuple[Any, bytes], dict[str, tuple[float, bytes]]] = {}

    def add(self, place: Any, entry: StoredEntry) -> None:
        """Look at an entry. Requests in different places are no pair."""
        if entry._entry.kind is Kind.ALIAS:
            return
        self.entries += 1
        try:
            request = decode_request(entry._raw_request) if entry._raw_request else None
            told = _asked(request)
            if told is None or not told[0].strip() or len(told[0]) > LONGEST:
                return
            text, frame = told[0], [entry.source, entry.kind, scope_of(entry), told[1]]
            digest = hashlib.blake2b(_packed(frame), digest_size=16).digest()
        except ODD:
            return
        texts = self._frames.setdefault((place, digest), {})
        known = texts.get(text)
        self.compared += known is None
        if known is None or entry.stored_at < known[0]:  # the first of its samples
            texts[text] = entry.stored_at, bytes.fromhex(entry.key)

    def pairs(self, at_least: float = AT_LEAST) -> list[Pair]:
        """The pairs, those first that are most alike.

        Raises `ConfigurationError` where ``pip install 'cachewrap[meaning]'`` is missing.
        """
        embedding.model()
        found: list[Pair] = []
        for (place, _), frame in self._frames.items():
            if len(frame) > 1:
                found += _pairs(place, frame, at_least)
        return sorted(found, key=lambda pair: (-pair.likeness, pair.one, pair.other))


def alike(entries: Iterable[StoredEntry], at_least: float = AT_LEAST) -> list[Pair]:
    """Pairs of stored requests that may mean the same, those first that are most alike.

    Nothing is changed by it: ``cache.alias(pair.one, pair.other)`` is what approves a pair.

    Args:
        entries: what is compared, such as ``cache.entries()``.
        at_least: how much the texts are alike, at least.

    Raises `ConfigurationError` where ``pip install 'cachewrap[meaning]'`` is missing.
    """
    asked = Asked()
    for entry in entries:
        asked.add(entry.seed, entry)
    return asked.pairs(at_least)


_packed: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def _pairs(place: Any, frame: dict[str, tuple[float, bytes]], at_least: float) -> Iterator[Pair]:
    texts = list(frame)
    for first, second, likeness in embedding.alike(texts, at_least, NEAREST):
        newer, older = sorted(
            (texts[first], texts[second]), key=lambda text: frame[text], reverse=True
        )
        keys = frame[newer][1].hex(), frame[older][1].hex()
        yield Pair(*keys, (newer, older), likeness, turns(newer, older), place)


# -- what is asked -----------------------------------------------------------------------------

_CONVERSATIONS: Final = ("messages", "input", "contents", "history", "conversation")
_PROMPTS: Final = ("prompt", "question", "query", "message", "text", "input", "content", "user")
_OTHERWISE: Final = later(
    r"embed|moderation|count_?tokens|rerank|tokenize|audio|images", re.IGNORECASE
)
"""Endpoints whose answers are about the very words."""


def _asked(request: Any) -> tuple[str, Any] | None:
    """The last words of a request, and the request without them; None for one that has none."""
    if type(request) is not dict or _OTHERWISE.search(str(request.get("url", ""))):
        return None
    for name in ("body", "arguments"):
        part = request.get(name)
        if type(part) is dict and (found := _asked_in(part)) is not None:
            return found[0], {**request, name: found[1]}
    return None


def _asked_in(part: dict[str, Any]) -> tuple[str, Any] | None:
    for name in _CONVERSATIONS:
        said = part.get(name)
        if type(said) is list:
            told = _last(said)
            return None if told is None else (told[0], {**part, name: told[1]})
    names = [name for name in _PROMPTS if type(part.get(name)) is str]
    texts = names or [name for name, value in part.items() if type(value) is str]
    if not names and len(texts) != 1:
        return None
    return part[texts[0]], {**part, texts[0]: None}


def _last(said: list[Any]) -> tuple[str, list[Any]] | None:
    """The text of the last message of a person, and the messages without it."""
    for at in range(len(said) - 1, -1, -1):
        message = said[at]
        if type(message) is not dict or message.get("role", "user") not in PEOPLE:
            continue
        for name in ("content", "parts"):
            told = _words(message.get(name))
            if told is not None:
                return told[0], [*said[:at], {**message, name: told[1]}, *said[at + 1 :]]
    return None


def _words(content: Any) -> tuple[str, Any] | None:
    """The text of a content that has one, and the content without it."""
    if type(content) is str:
        return content, None
    if type(content) is not list:
        return None
    texts = [
        at
        for at, part in enumerate(content)
        if type(part) is dict and type(part.get("text")) is str
    ]
    if len(texts) != 1:
        return None
    (at,) = texts
    return content[at]["text"], [*content[:at], {**content[at], "text": None}, *content[at + 1 :]]
