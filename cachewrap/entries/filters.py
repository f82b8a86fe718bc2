"""Filters of entries: by model, by what was called, by age, by size, by what is said."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final, Protocol, TypeAlias

from cachewrap.errors import ConfigurationError
from cachewrap.policy import ttl_seconds

Age: TypeAlias = str | float | timedelta | date
"""An age, or the moment itself: ``"2d"``, seconds, a `timedelta`; ``"2026-11-01"``, a `datetime`.
"""

Size: TypeAlias = int | str
"""A size in bytes, or a text such as ``"10k"`` or ``"2M"``, in steps of 1024."""

_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_SPAN: Final = re.compile(rf"{_NUMBER}\s*([smhdw])")
_SIZE: Final = re.compile(rf"{_NUMBER}\s*([kmgt]?)(?:i?b)?")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")

ANY: Final = "any"
NONE: Final = "none"
_DIGEST: Final = re.compile("[0-9a-f]{1,32}")


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment that was given as an age or as a date.

    Args:
        at: the moment, in seconds since the epoch.
        given: how it was given, for people.
    """

    at: float
    given: str

    def __str__(self) -> str:
        return self.given


def read_moment(given: Age, name: str = "it") -> Moment:
    """An age, counted back from now, or a date, as a moment.

    Args:
        given: ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``, seconds or a `timedelta`: so long ago.
            Or ``2026-11-01`` or ``2026-11-01T12:00``, in UTC unless it names another zone; a
            `date`, in UTC; a `datetime`, which is local time where it is naive.
        name: what it is for, in messages.

    Raises `ConfigurationError` for anything else.
    """
    try:
        if isinstance(given, str):
            text = given.strip()
            if (match := _SPAN.fullmatch(text.lower())) is not None:
                return Moment(time.time() - float(match[1]) * _SPANS[match[2]], text)
            return Moment(_of_date(text), text)
        if isinstance(given, datetime):
            return Moment(given.timestamp(), given.isoformat())
        if isinstance(given, date):
            return Moment(_of_date(given.isoformat()), given.isoformat())
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"{name}: {given!r} is neither an age nor a date: "
            "write 90s, 15m, 12h, 30d, 2w, 2026-11-01 or 2026-11-01T12:00Z"
        ) from None
    seconds = ttl_seconds(given, name)
    assert seconds is not None
    return Moment(time.time() - seconds, f"{seconds:g}s")


def _of_date(text: str) -> float:
    if _DATE.match(text) is None:  # Python also reads weeks, and digits without dashes
        raise ValueError(text)
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def read_size(given: Size, name: str = "it") -> int:
    """A size in bytes: a number, or ``500``, ``10k``, ``2G``, in steps of 1024.

    Args:
        given: the size.
        name: what it is for, in messages.

    Raises `ConfigurationError` for anything else.
    """
    if type(given) is int and given >= 0:
        return given
    match = _SIZE.fullmatch(given.strip().lower()) if isinstance(given, str) else None
    if match is None:
        raise ConfigurationError(f"{name}: {given!r} is no size: write 500, 10k, 500M or 2G")
    return int(float(match[1]) * _SIZES[match[2]])


def read_rules(given: str, name: str = "it") -> str:
    """Which rules of equality are meant: ``any``, ``none``, or the beginning of their digest.

    Args:
        given: which.
        name: what it is for, in messages.

    Raises `ConfigurationError` for anything else.
    """
    if (text := given.strip().lower()) in (ANY, NONE) or _DIGEST.fullmatch(text):
        return text
    raise ConfigurationError(
        f"{name}: {given!r} are no rules: write any, none, or the beginning of their digest, as"
        " `cachewrap show` has it"
    )


class Known(Protocol):
    """The facts of an entry by which it is filtered."""

    @property
    def model(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def stored_at(self) -> float: ...
    @property
    def size(self) -> int: ...
    @property
    def rules(self) -> str: ...
    def says(self, text: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice of entries: those that fit every field that is given.

    Args:
        model: the model's name, with ``*`` and ``?`` as in a shell.
        source: what was called, an endpoint or a function: whole, by its last part or its path.
        function: the same of functions alone.
        newer_than: stored at this moment or later.
        older_than: stored before this moment.
        min_size: bytes, at least.
        max_size: bytes, at most.
        text: a text in what was asked or answered, in any case.
        rules: the beginning of the digest of the rules of equality that it is stored under, or
            ``any`` or ``none``.
    """

    model: str | None = None
    source: str | None = None
    function: str | None = None
    newer_than: Moment | None = None
    older_than: Moment | None = None
    min_size: int | None = None
    max_size: int | None = None
    text: str | None = None
    rules: str | None = None

    def __call__(self, entry: Known) -> bool:
        return (
            self.fits(entry.model, entry.source, entry.stored_at)
            and (self.min_size is None or entry.size >= self.min_size)
            and (self.max_size is None or entry.size <= self.max_size)
            and (self.rules is None or _fits_rules(entry.rules, self.rules))
            and (self.text is None or entry.says(self.text))
        )

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return self != _ALL

    def fits(self, model: str, source: str, when: float) -> bool:
        """Whether model, source and time fit: what is known of calls as well as of entries."""
        return (
            (self.model is None or fnmatchcase(model, self.model))
            and (self.source is None or _fits_source(source, self.source))
            and (self.function is None or _fits_function(source, self.function))
            and (self.newer_than is None or when >= self.newer_than.at)
            and (self.older_than is None or when < self.older_than.at)
        )


_ALL: Final = Filter()


def make_filter(
    *,
    model: str | None = None,
    source: str | None = None,
    function: str | None = None,
    text: str | None = None,
    newer_than: Age | None = None,
    older_than: Age | None = None,
    min_size: Size | None = None,
    max_size: Size | None = None,
    rules: str | None = None,
) -> Filter:
    """The filter of what people give. Raises `ConfigurationError` for what cannot be read."""
    texts = {"model": model, "source": source, "function": function, "text": text, "rules": rules}
    for name, given in texts.items():
        if given is not None and not isinstance(given, str):
            raise ConfigurationError(f"{name} must be a str, got {type(given).__name__}")
    return Filter(
        model,
        source,
        function,
        None if newer_than is None else read_moment(newer_than, "newer_than"),
        None if older_than is None else read_moment(older_than, "older_than"),
        None if min_size is None else read_size(min_size, "min_size"),
        None if max_size is None else read_size(max_size, "max_size"),
        text,
        None if rules is None else read_rules(rules, "rules"),
    )


def is_endpoint(source: str) -> bool:
    """Whether a source is an endpoint (``POST /chat/completions``), and no function."""
    return " /" in source


def short_source(source: str) -> str:
    """The path of an endpoint, or the name of a function without its module."""
    return source.rpartition(" /")[2] if is_endpoint(source) else source.rpartition(":")[2]


def _fits_rules(rules: str, wanted: str) -> bool:
    if wanted in (ANY, NONE):
        return bool(rules) is (wanted == ANY)
    return rules.startswith(wanted)


def _fits_source(source: str, wanted: str) -> bool:
    parts = {source, source.rpartition(":")[2], source.rpartition(" ")[2].lstrip("/")}
    return any(fnmatchcase(part, wanted) for part in parts)


def _fits_function(source: str, wanted: str) -> bool:
    return not is_endpoint(source) and _fits_source(source, wanted)
