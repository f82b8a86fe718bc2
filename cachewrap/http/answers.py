"""Answers as they are kept and come back: headers by a list, and credentials covered."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final

from cachewrap.entry import HttpAnswer
from cachewrap.errors import CorruptEntryError
from cachewrap.secrets import HIDDEN, Walk, is_placeholder, is_secret
from cachewrap.urls import bare


def value_of(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of a header, whose name is given in lower case."""
    for key, value in pairs:
        if key.lower() == name:
            return value
    return None


# What a response tells of its answer. Nothing that makes a client, a browser or a proxy do more.
_TOLD: Final = frozenset(
    "content-type content-length content-encoding content-language date age server via"
    " num_chars num_tokens".split()
)
_TOLD_OF: Final = re.compile(
    r"(?:x|openai|anthropic|azureml|apim|ms-azureml|cf|llm_provider|litellm|helicone|portkey|groq"
    r"|together|fireworks|cohere|mistral|deepseek|openrouter|goog|google|amzn|bedrock)-[-\w.]+"
    r"|(?:[-\w.]+-)?(?:request|trace|correlation|generation|inference)-?id|server-timing"
    r"|(?:[-\w.]+-)?ratelimit(?:-[-\w.]+)?",
    re.IGNORECASE | re.ASCII,
)
_NEVER_TOLD: Final = re.compile(
    r"cookie|location|redirect|refresh|retry|upload|callback|ur[il](?:-|$)|authenticat|pingback|sourcemap|cachewrap"
    r"|-(?:accel|sendfile|lighttpd|forwarded|original|rewrite|http-method|method-override|frame"
    r"|xss|content-type|content-security|permitted|dns-prefetch|ua-compatible|download-options"
    r"|webkit|robots|host|proxy)(?:-|$)",
    re.IGNORECASE,
)
_CODING: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})
_FRAMING: Final = frozenset({"content-type", "content-encoding", "content-length"})
_NO_TEXT: Final = frozenset({"idna", "punycode", "undefined", "raw-unicode-escape"})
_MOST_HEADERS: Final = 256
_LONGEST: Final = 8192
_LONGEST_NAME: Final = 128

is_sound: Final = re.compile(rf"[\t\x20-\x7e\xa0-\xff]{{0,{_LONGEST}}}").fullmatch
"""Matches the value of a header that may stand in a response."""


@lru_cache(maxsize=512)
def is_told(name: str) -> bool:
    """Whether a header of this name, which is no longer than names are, may come back."""
    name = name.lower()
    return name in _TOLD or (
        _TOLD_OF.fullmatch(name) is not None
        and _NEVER_TOLD.search(name) is None
        and not is_secret(name)
    )


def kept_headers(response: Any) -> list[tuple[str, str]]:
    """A response's headers that are stored, and how its body comes, for those who read along."""
    pairs = response.headers.multi_items()
    kept = [
        (name, value)
        for name, value in pairs
        if len(name) <= _LONGEST_NAME
        and (is_told(name) or name.lower() == "transfer-encoding")
        and is_sound(value)
    ]
    return kept[:_MOST_HEADERS]


def served_headers(answer: HttpAnswer) -> list[tuple[str, str]]:
    """The headers of a stored answer that come back with it, whoever has written it.

    What tells how its body was sent is left out where that is not so.

    Raises `CorruptEntryError` for headers that no response has.
    """
    if len(answer.headers) > _MOST_HEADERS:
        raise CorruptEntryError(f"an answer with {len(answer.headers)} headers")
    served: list[tuple[str, str]] = []
    framing: dict[str, int] = {}  # where each of them is: two contradict each other
    coding = ""
    for name, value in answer.headers:
        if len(name) > _LONGEST_NAME or not is_told(name):
            continue
        if not is_sound(value):
            raise CorruptEntryError(f"the value of its header {name.lower()} is none")
        if (lower := name.lower()) in _FRAMING:
            if lower in framing:
                continue
            framing[lower] = len(served)
            if lower == "content-type":
                value = _readable_type(value)
            elif lower == "content-encoding":
                coding = value.strip().lower()
                if coding not in _CODING and coding != "identity":
                    continue
        served.append((name, value))
    at = framing.get("content-length")
    if at is not None:
        length = served[at][1]
        is_length = length.isascii() and length.isdigit() and len(length) < 16
        # A body that was compressed has been decoded: its length is that of what was sent.
        if not is_length or (coding not in _CODING and int(length) != sum(map(len, answer.chunks))):
            del served[at]
    return served


@lru_cache(maxsize=64)
def _readable_type(value: str) -> str:
    """A content type without a charset that is no encoding of text, or a slow one."""
    kind, _, rest = value.partition(";")
    charset = rest.lower().partition("charset=")[2].partition(";")[0].strip(" \t\"'")
    if not charset or charset == "utf-8":
        return value
    try:
        found = codecs.lookup(charset)
    except (LookupError, ValueError):
        return kind.strip()
    known = getattr(found, "_is_text_encoding", True) and found.name not in _NO_TEXT
    return value if known else kind.strip()


# -- credentials that an answer tells again ------------------------------------------------------


_echoes: Final = re.compile(rb'"(?:tools|mcp_servers|variables|metadata)"').search


def masked(answer: HttpAnswer, taken: Collection[str]) -> HttpAnswer:
    """An answer as it is stored: without the credentials of its request that it tells again.

    They are covered character by character, so that what tells of lengths stays right, and a
    stream keeps its chunks.

    Args:
        answer: the answer.
        taken: the credentials that were left out of the request.
    """
    body = clean = b"".join(answer.chunks)
    headers = answer.headers
    told = "\n".join([value for _, value in headers])
    for value in _telling(taken):
        for form in _in_json(value):
            if form in clean:
                clean = clean.replace(form, _cover(form))
        if value in told:
            cover = _cover(value.encode()).decode()[: len(value)]
            headers = [(name, text.replace(value, cover)) for name, text in headers]
    if _echoes(clean):
        clean = _echoed(clean)
    if clean == body and headers is answer.headers:
        return answer
    chunks, at = [], 0
    for chunk in answer.chunks:
        chunks.append(clean[at : at + len(chunk)])
        at += len(chunk)
    return replace(answer, headers=headers, chunks=chunks)


# A word that people would write anyway is no value to look for.
_PROSE: Final = re.compile(r"[a-z]+([-_. /][a-z]+)*", re.IGNORECASE)
_SHORTEST: Final = 8


def _telling(taken: Iterable[str]) -> list[str]:
    """The credentials that can be looked for by their value, without schemes, the longest first."""
    values = {value.strip().rpartition(" ")[2] for value in taken}
    found = [
        value
        for value in values
        if len(value) >= _SHORTEST and not (_PROSE.fullmatch(value) or is_placeholder(value))
    ]
    return sorted(found, key=len, reverse=True)


def _in_json(value: str) -> set[bytes]:
    """A value as the writers of JSON have it inside of quotation marks."""
    texts = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return {form.encode() for text in texts for form in (text, text.replace("/", "\\/"))}


def _cover(value: bytes) -> bytes:
    return (HIDDEN.encode() + b"*" * len(value))[: len(value)]


def _echoed(body: bytes) -> bytes:
    """A body that loses the credentials of remote tools, variables of a prompt, and metadata."""
    for shown in _documents(body):
        walk = Walk(HIDDEN, address=bare, wary=True)
        walk.of([*_remote(shown)], ())
        for found in walk.found:
            if isinstance(name := found.path[-1], str):
                for form in _in_json(found.value):
                    field = re.compile(
                        rb'("(?:%s)"\s{0,4}:\s{0,4}")%s(?=")'
                        % (b"|".join(map(re.escape, _in_json(name))), re.escape(form))
                    )
                    body = field.sub(partial(_covered, _cover(form)), body)
    return body


def _covered(cover: bytes, match: re.Match[bytes]) -> bytes:
    return match[1] + cover


def _documents(body: bytes) -> Iterator[Any]:
    """The JSON of an answer, or of each event that tells of tools."""
    lines = body.splitlines() if body[:1] not in (b"{", b"[") else [body]
    for line in lines:
        if _echoes(line):
            try:
                yield json.loads(line.removeprefix(b"data:"))
            except (ValueError, RecursionError):
                continue


def _remote(shown: Any) -> Iterator[Any]:
    """The settings that a document tells again, without functions, which a model reads."""
    ahead = [shown]
    while ahead:
        value = ahead.pop()
        if isinstance(value, list):
            ahead += value
        elif isinstance(value, dict):
            for name in ("tools", "mcp_servers"):
                for tool in value[name] if isinstance(value.get(name), list) else ():
                    if isinstance(tool, dict) and tool.get("type") not in ("function", "custom"):
                        yield tool
            for name in ("variables", "metadata"):
                if isinstance(value.get(name), dict):
                    yield {name: value[name]}
            ahead += value.values()
