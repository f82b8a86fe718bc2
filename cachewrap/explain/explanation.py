"""Explanations of requests: whether one is stored, and which stored ones are nearest to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cachewrap.errors import (
    REMEDIES,
    CachewrapError,
    MissingTypeError,
    ReplayMissError,
    printable,
)
from cachewrap.explain.equal import Equal, sets_of
from cachewrap.request.key import is_scrubbed
from cachewrap.secrets import HIDDEN

_LINES: Final = 12
"""Differences that a message names."""

_EQUAL_LINES: Final = 4
"""Lines of what each rule makes equal that a message has."""


@dataclass(frozen=True, slots=True)
class Near:
    """A stored request that is nearly the one that was asked for.

    Attributes:
        key: the key of its entry.
        request: the canonical request as it is stored, but for what looks like a credential.
        diff: how the request that was asked for differs from it, one line for each field. What a
            rule of equality makes equal is not among them.
        apart: whether they differ in what ``keyed=`` names, by which callers are kept apart.
        by: the rules of the cache that make something equal, each with what that is.
        elsewhere: why it could not be served, whatever is asked: it is stored "without rules",
            "with other rules", "as an element of a list"; "" where it could be.
        lacks: the rules of ready sets (`cachewrap.same`), which the cache has not, that would make
            it equal; none where they would not.
    """

    key: str
    request: dict[str, Any]
    diff: tuple[str, ...]
    apart: bool = False
    by: Equal = ()
    elsewhere: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reason why a request is a hit or a miss. As text it is a message for people.

    Attributes:
        source: the function or endpoint; "" where it is not known.
        key: the key of the request; "" where it is not known.
        stored: whether an answer to the request is there.
        nearest: the nearest stored requests of the same function or endpoint, nearest first.
        place: where was looked, as a URL without credentials.
        served: whether anything was asked that the cache serves. What a call asks by an SDK that is
            not patched goes upstream, also where it is to be explained.
        looked: whether the nearest ones could be looked for.
        by: of a hit, the rules of equality without which it would be none, each with what differs
            between the request and the one that is stored. Of a miss `nearest` has them.
        alias: the key of the entry that answers the request by an alias; "" for its own.
    """

    source: str
    key: str
    stored: bool
    nearest: tuple[Near, ...]
    place: str
    served: bool = True
    looked: bool = True
    by: Equal = ()
    alias: str = ""

    def __str__(self) -> str:
        if not self.served:
            return (
                f"nothing was asked that {self.place} serves; it serves decorated functions, and"
                " models that are asked by an SDK that is patched"
            )
        name = self.source or "the request"
        key = f" (key {self.key[:12]}…)" if self.key else ""
        if self.stored:
            told = f"{name}{key} is stored in {self.place}"
            told += f", as an alias of {self.alias[:12]}…" if self.alias else ""
            if not self.by:
                return told
            return "\n".join((f"{told}, for a request that is equal by rules", *_equal(self.by)))
        lines = [f"{name}{key} is not stored in {self.place}"]
        if not self.looked:
            lines.append("what is stored there was not compared with it")
        elif not self.nearest:
            lines.append("nothing comparable is stored there")
        for near in self.nearest[:1]:
            lines += _told(near)
        if wanted := self.wanted:
            lines += _advice(wanted)
        return "\n".join(lines)

    @property
    def wanted(self) -> Near | None:
        """The nearest stored request that a ready set of rules would make equal, if there is one.

        Its `lacks` are the rules.
        """
        return next((near for near in self.nearest if near.lacks), None)

    def __repr__(self) -> str:
        first, *others = str(self).split("\n")
        more = f"; print it for {len(others)} lines more" if others else ""
        return f"<Explanation: {first}{more}>"

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_text(str(self))

    def error(self, why: CachewrapError | None = None) -> ReplayMissError:
        """The error that mode ``"replay"`` raises.

        Args:
            why: the fault because of which what is stored cannot be served, if that is so.
        """
        nearest, wanted = self.nearest[0] if self.nearest else None, self.wanted
        remedy = "normal"
        message = f"{self}\n(mode replay asks no model; {REMEDIES[remedy]})"
        if why is not None:
            # What is only not imported is whole.
            remedy = "" if isinstance(why, MissingTypeError) else "refresh"
            message = f"{self.source}: mode replay cannot serve what may be stored: {why}"
            message += f"\n({REMEDIES[remedy]})" if remedy else ""
        error = ReplayMissError(
            message,
            key=self.key,
            source=self.source,
            nearest=nearest.request if nearest else None,
            diff=nearest.diff if nearest else (),
            rules=wanted.lacks if wanted else (),
        )
        error.explanation, error.remedy = self, remedy
        return error


def _told(near: Near) -> Iterator[str]:
    entry = f"key {near.key[:12]}…"
    if near.diff:
        where = f", which is stored {near.elsewhere}," if near.elsewhere else ""
        yield f"the nearest stored request ({entry}){where} is different:"
        yield from _listed(near.diff, _LINES)
    elif near.elsewhere:
        equal = "an equal" if near.by else "the very"
        where = f"{near.elsewhere} ({entry}), where this cache does not look"
        yield f"{equal} request is stored {where}"
    else:
        equal = "an equal" if near.by else "the very"
        yield f"{equal} request is stored as another sample or seed ({entry})"
        if is_scrubbed(near.request):
            yield "  (or it differs in what scrub= takes out, which is not stored)"
        if HIDDEN in str(near.request):
            yield "  (or it differs in a credential, which is never stored)"
        if names := _hidden_names(near.request):
            yield (
                f"  (or in what is stored as {HIDDEN}: {', '.join(names)}; what only tracks"
                " a request is left out by unkeyed=)"
            )
    yield from _equal(near.by)


def _listed(lines: tuple[str, ...], most: int) -> Iterator[str]:
    for line in lines[:most]:
        yield f"  {line}"
    if len(lines) > most:
        yield f"  … and {len(lines) - most} more"


def _equal(by: Equal) -> Iterator[str]:
    for rule, lines in by:
        yield f"equal by {rule}:" if lines else f"equal by {rule}"
        yield from _listed(lines, _EQUAL_LINES)


def _advice(wanted: Near) -> Iterator[str]:
    names = ", ".join(f"*{name}" for name in sets_of(wanted.lacks))
    rules = ", ".join(printable(rule, 120) for rule in wanted.lacks)
    yield (
        f"same=[{names}] (from cachewrap.same) would have made it equal to key"
        f" {wanted.key[:12]}…: {rules}"
    )
    yield "  (what is stored without it is asked once more)"


def _hidden_names(request: dict[str, Any]) -> list[str]:
    """The headers and query parameters whose values are stored as hidden."""
    parts = [request.get(part) for part in ("headers", "query")]
    return [
        printable(name)
        for part in parts
        if isinstance(part, dict)
        for name, value in part.items()
        if HIDDEN in str(value)
    ]
