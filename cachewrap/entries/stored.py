"""`StoredEntry`: one stored answer, what was asked for it, and what is known of both."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from cachewrap.entries.conversation import (
    Turn,
    answer_turns,
    prompt_of,
    request_turns,
    turns_text,
)
from cachewrap.entries.filters import Filter, is_endpoint
from cachewrap.entries.values import bare
from cachewrap.entry import Declared, Entry, HttpAnswer, Kind
from cachewrap.errors import CachewrapError, CorruptEntryError, StoreError, UnkeyableError
from cachewrap.format import codec
from cachewrap.format.aliases import alias_in
from cachewrap.request.key import (
    decode_request,
    element_key,
    encode,
    key_of,
    may_tell_secrets,
    readable,
    salted,
)
from cachewrap.secrets import hidden
from cachewrap.stores.base import Store, scan
from cachewrap.stores.jsonl import JsonlStore
from cachewrap.telemetry.reading import usage_of, usage_of_parts
from cachewrap.telemetry.usage import Usage

if TYPE_CHECKING:
    from cachewrap.same.applied import Rules

E = TypeVar("E", bound="StoredEntry")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StoredEntry:
    """One stored answer, as `Cache.entries` gives them.

    The facts are there at once. What was asked and answered is read from the stored bytes when it
    is first looked at, and needs none of your classes.

    >>> from cachewrap import Cache, llm_cached
    >>> @llm_cached
    ... def ask(prompt: str) -> str:
    ...     return "Rain, then sun."
    >>> with Cache.memory() as cache:
    ...     answer = ask("How is the weather?")
    ...     [(entry.prompt, entry.answer) for entry in cache.entries()]
    [('How is the weather?', 'Rain, then sun.')]

    Attributes:
        key: the key of the request, 64 hexadecimal characters: `Cache.get` and `Cache.delete`
            take it.
        seed: the seed that it is stored under.
        source: what was called: a function (``module:name``) or an endpoint
            (``POST /chat/completions``).
        model: the model that upstream reported, or ``""``.
        tokens_in: tokens of the prompt that upstream counted, or 0.
        tokens_out: tokens of the answer that upstream counted, or 0.
        seconds: how long upstream took.
        size: bytes that the entry takes in the store.
    """

    __slots__ = (
        "_answered",
        "_asked",
        "_entry",
        "_raw_request",
        "_samples",
        "key",
        "model",
        "seconds",
        "seed",
        "size",
        "source",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self, key: str, seed: str, size: int, entry: Entry, samples: Samples) -> None:
        record = entry.read_record()
        if not math.isfinite(entry.expires):  # it is never, and JSON has no room for it
            entry.expires = 0.0
        self.key = key
        self.seed = seed
        self.size = size
        self.source: str = record["source"]
        self.model: str = record["model"]
        self.seconds = entry.seconds
        self.tokens_in = entry.tokens_in
        self.tokens_out = entry.tokens_out
        self._entry = entry
        self._raw_request: bytes = record["request"]
        self._samples = samples
        self._asked: Any = None
        self._answered: list[Turn] | None = None

    def __repr__(self) -> str:
        called = self.model or self.source
        return f"<StoredEntry {self.key[:8]} seed={self.seed} {called} {self.created:%Y-%m-%d}>"

    @property
    def kind(self) -> str:
        """What is stored: ``"text"``, ``"value"``, ``"items"`` of a generator, ``"http"``, or an
        ``"alias"``.
        """
        return self._entry.kind.name.lower()

    @property
    def alias_of(self) -> str:
        """Of an alias the key of the entry that answers; else ``""``.

        Raises `CorruptEntryError` for an alias that cannot be read.
        """
        alias = alias_in(self._entry)
        return "" if alias is None else alias.target

    @property
    def stored_at(self) -> float:
        """When the answer was stored, in seconds since the epoch."""
        return self._entry.created

    @property
    def created(self) -> datetime:
        """When the answer was stored, in UTC; 1970 where that is not known."""
        return _moment(self._entry.created)

    @property
    def expires(self) -> datetime | None:
        """When it stops being served, in UTC; None for never."""
        return _moment(self._entry.expires) if self._entry.expires else None

    @property
    def function(self) -> str:
        """The function that was called, ``module:name``; ``""`` for a request to an endpoint."""
        return "" if is_endpoint(self.source) else self.source

    @property
    def sample(self) -> int | None:
        """Which sample of its request it is: 0 is the first, and every answer without samples.

        None where it cannot be told: the request was not stored, or a credential was taken out of
        it, or a rule of equality changed it, or it was asked inside a sampled call, or by a
        function whose ``seed=`` is neither 41 nor the cache's.
        """
        entry, raw = self._entry, self._raw_request
        told = entry.kind, self.source, self.seed
        keys = request_keys(*told, raw, declared=entry.declared) if raw else []
        return self._samples.number_of(self.key, keys, self.source)

    @property
    def rules(self) -> str:
        """The digest of the rules of equality that it is stored under: caches that have others, or
        none, do not see it. ``""`` for an exact entry."""
        declared = self._entry.declared
        return "" if declared is None else declared.rules

    @property
    def by(self) -> tuple[str, ...]:
        """The rules that changed its request before it was counted, as they are in Python."""
        declared = self._entry.declared
        return () if declared is None else tuple(rule for rule, _ in declared.by)

    @property
    def element(self) -> bool:
        """Whether it answers one element of a list that was asked element by element."""
        declared = self._entry.declared
        return declared is not None and declared.element

    @property
    def request(self) -> Any:
        """The request as it was asked, without credentials; None where it was left out.

        Of an endpoint its method, URL, headers and body; of a function its name and arguments.
        Raises `CorruptEntryError` for one that cannot be read.
        """
        raw = self._raw_request
        if not raw:
            return None
        try:
            return shown_request(raw)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise CorruptEntryError(f"its request cannot be read: {error}") from None

    @property
    def prompt(self) -> str:
        """The last thing that a person said in the request; ``""`` where it was not stored.

        Of a function it is the argument that is named like a prompt, else the only one that is
        text, else all of them; of `Cache.set` the key. Raises `CorruptEntryError` for a request
        that cannot be read.
        """
        return self._request_said()[0]

    @property
    def messages(self) -> list[Turn]:
        """What was asked, as turns of a role and a text; empty where it was not stored.

        Raises `CorruptEntryError` for a request that cannot be read.
        """
        return self._request_said()[1]

    @property
    def answer(self) -> str:
        """The text of the answer: what a model said and which tools it called, a stream joined.

        Of a function that returns no text it is JSON: of objects their fields. Raises
        `CorruptEntryError` for an answer that cannot be read.
        """
        return turns_text(self.answers())

    @property
    def conversation(self) -> list[Turn]:
        """What was asked and what was answered, as turns of a role and a text.

        Raises `CorruptEntryError` for what cannot be read.
        """
        return [*self.messages, *self.answers()]

    @property
    def usage(self) -> Usage:
        """The model and the tokens that upstream reported, and how many of them were what."""
        return stored_usage(self._entry, self.model)

    def answers(self) -> list[Turn]:
        """What was answered, as turns: one for each choice of a model, or item of a generator.

        Raises `CorruptEntryError` for an answer that cannot be read.
        """
        if self._answered is None:
            self._answered = answer_turns(self._entry)
        return self._answered

    def value(self) -> Any:
        """What was answered, as `Cache.get` gives it for the key: in the types that went in.

        Of a generator's call it is the list of its items, of an HTTP request's the JSON in its
        answer, or its text, or its bytes. Only classes that this process has imported are made,
        and no code of theirs runs.

        Raises `MissingTypeError` for a class that was not imported, and `CorruptEntryError`.
        """
        return codec.value_of(self._entry)

    def says(self, text: str) -> bool:
        """Whether a text is in what was asked or answered, in any case."""
        text = text.casefold()
        return (
            text in turns_text(self.messages).casefold()
            or text in turns_text(self.answers()).casefold()
        )

    def as_dict(self) -> dict[str, Any]:
        """What is known of the entry, by name: a row of a table, with prompt and answer as text.

        ``pandas.DataFrame(entry.as_dict() for entry in cache.entries())`` is such a table. Raises
        `CorruptEntryError` for what cannot be read.
        """
        return {**self._facts(), "prompt": self.prompt, "answer": self.answer}

    def _facts(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "seed": self.seed,
            "source": self.source,
            "model": self.model,
            "kind": self.kind,
            "sample": self.sample,
            "created": self.created,
            "expires": self.expires,
            "seconds": round(self.seconds, 6),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "bytes": self.size,
            **({"alias_of": self.alias_of} if self._entry.kind is Kind.ALIAS else {}),
            "rules": self.rules,
            "by": list(self.by),
            "element": self.element,
        }

    def _request_said(self) -> tuple[str, list[Turn]]:
        if self._asked is None:
            request = self.request
            turns = request_turns(request)
            self._asked = prompt_of(request, turns), turns
        said: tuple[str, list[Turn]] = self._asked
        return said


# What tells in an answer that some of its tokens are counted apart.
_TELLS: Final = (
    *(b"cached_tokens", b"cache_read_input_tokens", b"cache_creation_input_tokens"),
    *(b"reasoning_tokens", b"audio_tokens", b"prompt_cache_hit_tokens", b"usageMetadata"),
    *(b"image_tokens", b"web_search_requests"),
)
_NAMES: Final = b"|".join(_TELLS)
_IN_JSON: Final = re.compile(rb"(?:%b)\"\s*:\s*[1-9{]" % _NAMES)
_IN_VALUES: Final = re.compile(rb"(?:%b)[\x01-\x7f\xcc-\xcf]" % _NAMES)


def stored_usage(entry: Entry, model: str) -> Usage:
    """The usage that an answer reported. Raises `CorruptEntryError`.

    Of one that an earlier version has stored it is read from the answer, which did not keep it.
    """
    known = Usage(model, entry.tokens_in, entry.tokens_out, entry.details)
    answer = entry.answer
    if entry.detailed or not any(name in answer for name in _TELLS):
        return known
    try:
        if entry.kind is Kind.HTTP and _IN_JSON.search(answer):
            http: HttpAnswer = codec.decode(Kind.HTTP, answer)
            read = usage_of_parts(_parts(b"".join(http.chunks)))
        elif entry.kind is Kind.VALUE and _IN_VALUES.search(answer):
            read = usage_of(bare(codec.plain_form(Kind.VALUE, answer)))
        else:
            return known
    except (CachewrapError, ValueError, TypeError, AttributeError, RecursionError):
        return known
    return replace(read, model=model or read.model) if read.details else known


def _parts(body: bytes) -> Iterator[Any]:
    """The JSON in the body of an answer, or in those of its events that tell of usage."""
    if body.lstrip()[:1] in (b"{", b"["):
        whole = json.loads(body)
        yield from whole if isinstance(whole, list) else [whole]
        return
    for line in body.splitlines():
        if line.startswith(b"data:") and b"sage" in line:
            event = json.loads(line[5:])
            yield from (event, event.get("response"), event.get("message"))


def shown_request(raw: bytes) -> Any:
    """An encoded request for people, without credentials. Raises what a damaged one makes of it."""
    shown = readable(decode_request(raw))
    return hidden(shown) if may_tell_secrets(raw) else shown


def _moment(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return _EPOCH


# -- numbers of samples --------------------------------------------------------------------------

MOST: Final = 256
"""How many numbers of samples are tried."""

_LEAST: Final = 4


class Samples:
    """The numbers of the samples that entries are: each is tried until one fits.

    Of a source whose keys fit none, fewer and fewer numbers are tried.
    """

    def __init__(self) -> None:
        self._tried: dict[str, int] = {}

    def number_of(self, key: str, base: Sequence[str], source: str) -> int | None:
        """The number of the sample that is stored under a key; None where no number fits.

        Args:
            key: the key.
            base: the keys that the request itself may have.
            source: what was called.
        """
        if key in base or not base:
            return 0 if base else None
        most = self._tried.get(source, MOST)
        for number in range(1, most):
            if any(_sampled(one, number) == key for one in base):
                self._tried.pop(source, None)
                return number
        self._tried[source] = max(_LEAST, most // 2)
        return None


_BEGUN: Final = [hashlib.sha256(salted("sample", str(number))) for number in range(MOST)]


def _sampled(key: str, number: int) -> str:
    hashed = _BEGUN[number].copy()
    hashed.update(key.encode())
    return hashed.hexdigest()


def request_keys(
    kind: Kind,
    source: str,
    seed: str,
    request: bytes,
    seeds: Iterable[str] = (),
    *,
    declared: Declared | None = None,
    same: Rules | None = None,
) -> list[str]:
    """The keys that a stored request may have; none where rules changed it that are not here.

    Args:
        kind: what was answered.
        source: what was called.
        seed: the seed of the cache.
        request: the encoded request.
        seeds: the ``seed=`` of decorated functions, beside 41 and that of the cache.
        declared: what makes its key another than that of the request.
        same: rules of equality, which may be those that it is stored under.
    """
    salts: Iterable[tuple[str, ...]]
    if is_http(kind, source):
        salts = [()]
    elif source == "cache.set":
        salts = [("key",)]
    else:
        salts = [(salt,) for salt in {seed, "41", source, *seeds}]
    if declared is None:
        return [key_of(salted(*salt), request) for salt in salts]
    if declared.by:
        if same is None or same.digest != declared.rules:
            return []
        try:
            request = encode(same.apply(decode_request(request)).request)
        except (UnkeyableError, RecursionError):  # it was not asked: somebody has written it
            return []
    keys = [key_of(salted(*salt, rules=declared.rules), request) for salt in salts]
    return [element_key(key) for key in keys] if declared.element else keys


def is_http(kind: Kind, source: str) -> bool:
    """Whether a request went over HTTP, by what is stored for it and by what was called."""
    return kind is Kind.HTTP or (kind is Kind.ALIAS and is_endpoint(source))


# -- reading them --------------------------------------------------------------------------------


def raw_entries(store: Store) -> Iterator[tuple[str, bytes]]:
    """Every key and what is stored under it, without loading them all at once.

    A line of a file that cannot be read has no bytes, which are no entry: it may have been edited
    by hand, which is no reason to read no other one.
    """
    if not isinstance(store, JsonlStore):
        yield from scan(store)
        return
    for key in store.keys():
        try:
            raw = store.get(key)
        except StoreError:
            if key not in store.keys():
                raise
            raw = b""
        if raw is not None:
            yield key, raw


def read_entries(
    store: Store,
    read: Callable[[str, bytes], E],
    wanted: Filter,
    left_out: Callable[[CorruptEntryError], object],
) -> Iterator[E]:
    """The entries that fit a filter, one by one.

    Args:
        store: where they are.
        read: opens one of its key and its bytes. Raises `CorruptEntryError`.
        wanted: the filter.
        left_out: is told of each that cannot be read.
    """
    for key, raw in raw_entries(store):
        try:
            entry = read(key, raw)
            fits = wanted(entry)
        except CorruptEntryError as error:
            left_out(error)
            continue
        if fits:
            yield entry
