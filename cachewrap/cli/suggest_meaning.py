"""``cachewrap suggest --meaning``: pairs of stored requests, and a judge of them."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from cachewrap.cli.entries import Row, Skipped, read_row, wanted_rows
from cachewrap.cli.places import Place, Where, is_encrypted, progress
from cachewrap.cli.text import clean, count_text, entries_text, json_line, one_line, terminal_width
from cachewrap.entries.aliases import add_alias
from cachewrap.entries.filters import Filter
from cachewrap.entries.stored import StoredEntry
from cachewrap.errors import CachewrapError, CorruptEntryError, StoreError, printable
from cachewrap.format.sealing import UNSEALED
from cachewrap.secrets import hidden
from cachewrap.suggest.pairs import Asked, Pair

_SHORT: Final = 12
"""Characters of a key that are shown."""

_NARROW: Final = 60
_WARNING: Final = "What is alike need not mean the same: read both before you approve a pair."

Judge = Callable[[Pair, StoredEntry, StoredEntry], bool]
"""Says whether the answer to one request serves the other as well."""


def load_judge(name: str) -> Judge:
    """The judge that ``module:function`` names.

    Raises `click.UsageError` where there is none.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise click.UsageError("--judge takes module:function, such as judges:same_meaning")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        judge: Any = importlib.import_module(module)
        for part in function.split("."):
            judge = getattr(judge, part)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"--judge {name}: {error}") from None
    if not callable(judge):
        raise click.UsageError(f"--judge {name} is no function")
    takes_entries = _takes_entries(judge)
    loop = asyncio.Runner()  # one for all, as clients live on their loop
    click.get_current_context().call_on_close(loop.close)

    def asked(pair: Pair, one: StoredEntry, other: StoredEntry) -> bool:
        said = judge(one, other) if takes_entries else judge(*pair.texts)
        if inspect.isawaitable(said):
            said = loop.run(_awaited(said))
        if said is not None and type(said) is not bool:
            raise TypeError(f"it gave {said!r}, and not True or False")
        return bool(said)

    return asked


async def _awaited(said: Any) -> Any:
    return await said


def _takes_entries(judge: Callable[..., Any]) -> bool:
    """Whether it asks for entries, by the type of what it takes first."""
    try:
        parameters = list(inspect.signature(judge).parameters.values())
    except (TypeError, ValueError):
        return False
    hint = parameters[0].annotation if parameters else ""
    return "StoredEntry" in (hint if isinstance(hint, str) else getattr(hint, "__name__", ""))


@dataclass(slots=True)
class _Judged:
    """A pair with its entries, and what was made of it.

    Attributes:
        pair: the pair.
        answers: what is stored for both.
        approve: the command that makes the one an alias of the other.
        approved: what the judge said; None where there is none.
        told: why it was not made an alias, where it was not for what the judge said.
    """

    pair: Pair
    answers: tuple[str, str]
    approve: str
    approved: bool | None = None
    told: str = ""


def suggest_pairs(
    where: Where,
    wanted: Filter,
    *,
    at_least: float,
    limit: int,
    judge: Judge | None,
    as_json: bool,
) -> None:
    """Print the pairs; with a judge, make those that it approves aliases."""
    asked, skipped = Asked(), Skipped()
    answering: set[tuple[Place, str]] = set()
    with where.opened(empty=True) as places:
        for row in progress(wanted_rows(places, wanted, skipped), places, "looking"):
            if row.alias_of:
                answering.add((row.place, row.alias_of))
            asked.add(row.place, row)
        pairs = asked.pairs(at_least)
        name = where.text(places)
        judged = _judged(pairs[:limit], judge, answering)
        if as_json:
            whole = {"place": name, "entries": asked.entries, "compared": asked.compared}
            more = {"unreadable": skipped.count, "pairs_found": len(pairs)}
            click.echo(json_line({**whole, **more, "pairs": [_facts(one) for one in judged]}))
        else:
            head = f"{name}  {entries_text(asked.entries)}"
            click.echo(f"{head}, {count_text(asked.compared)} of them compared")
            for line in _text(judged, len(pairs), judge is not None):
                click.echo(line)
    skipped.tell()


def _judged(
    pairs: Sequence[Pair], judge: Judge | None, answering: set[tuple[Place, str]]
) -> Iterator[_Judged]:
    """The pairs one by one, each as soon as it was judged.

    Args:
        pairs: the pairs.
        judge: approves them.
        answering: the entries that answer for an alias, which are not to be aliases themselves.
    """
    pointing: set[tuple[Place, str]] = set()
    for pair in pairs:
        place: Place = pair.place
        newer, older = _row(place, pair.one), _row(place, pair.other)
        if newer is None or older is None:
            continue
        one = _Judged(pair, (_answer(newer), _answer(older)), _command(pair))
        if judge is None:
            yield one
            continue
        if (place, pair.one) in pointing | answering or (place, pair.other) in pointing:
            one.told = "one of them is in another alias"
            yield one
            continue
        try:
            one.approved = judge(pair, newer, older)
            if one.approved:
                _make_alias(place, pair)
                pointing.add((place, pair.one))
                answering.add((place, pair.other))
        except CachewrapError as error:
            one.approved, one.told = False, printable(str(error), 300)
        except Exception as error:  # the judge's own, which approves nothing
            one.approved = False
            one.told = f"the judge raised {type(error).__name__}: {printable(str(error), 300)}"
        yield one


def _make_alias(place: Place, pair: Pair) -> None:
    raw = place.get(pair.other) or b""
    guard = place.guard if is_encrypted(raw) else UNSEALED
    add_alias(place.store, guard, pair.one, pair.other)


def _row(place: Place, key: str) -> Row | None:
    try:
        raw = place.get(key)
        return None if raw is None else read_row(place, key, raw)
    except (CorruptEntryError, StoreError):
        return None


def _answer(row: Row) -> str:
    try:
        return str(hidden(row.answer))
    except CorruptEntryError:
        return "(it cannot be read)"


def _command(pair: Pair) -> str:
    """The command that approves a pair, for the place that was named."""
    given = click.get_current_context().params
    place: Place = pair.place
    words = ["cachewrap", "alias", "add", pair.one[:_SHORT], pair.other[:_SHORT]]
    words += [place.name] if place.name else given.get("words") or ()
    for name in ("disk", "redis"):
        words += [f"--{name}", given[name]] if given.get(name) else []
    source = click.get_current_context().get_parameter_source("url")
    if source is not None and source.name == "COMMANDLINE":
        words += ["--url", given["url"]]
    if given.get("seed") is not None or given.get("all_seeds"):
        words += ["--seed", place.seed]
    return shlex.join(map(str, words))


def _facts(one: _Judged) -> dict[str, Any]:
    pair = one.pair
    return {
        "keys": [pair.one, pair.other],
        "seed": pair.place.seed,
        "texts": list(hidden(list(pair.texts))),
        "answers": list(one.answers),
        "likeness": round(pair.likeness, 4),
        "turns": pair.turns,
        "answers_differ": one.answers[0] != one.answers[1],
        "approve": one.approve,
        "approved": one.approved,
        "told": one.told,
    }


def _text(judged: Iterator[_Judged], found: int, has_judge: bool) -> Iterator[str]:
    width = max(_NARROW, terminal_width())
    if not found:
        yield "no pairs are that much alike"
        return
    if not has_judge:
        yield _WARNING
    shown = approved = 0
    for one in judged:
        shown += 1
        approved += one.approved is True
        yield ""
        yield from _pair(one, width)
    yield ""
    if has_judge:
        yield f"{count_text(approved)} of {count_text(shown)} were made aliases: cachewrap alias ls"
    if found > shown:
        yield f"{count_text(found - shown)} more: give --limit"


def _pair(one: _Judged, width: int) -> Iterator[str]:
    pair = one.pair
    differ = one.answers[0] != one.answers[1]
    head = f"{pair.likeness:.2f}  answers {'differ' if differ else 'are equal'}"
    yield one_line(f"{head}   ! {pair.turns}" if pair.turns else head, width)
    for key, text, answer in zip((pair.one, pair.other), pair.texts, one.answers, strict=True):
        yield f"  {key[:8]}  {one_line(str(hidden(text)), width - 12)}"
        yield f"            → {one_line(answer, width - 14)}"
    if one.approved is None and not one.told:
        yield f"  {clean(one.approve)}"
    elif one.approved:
        yield f"  approved: {pair.one[:8]} is answered by {pair.other[:8]}"
    else:
        yield f"  not approved{f': {one.told}' if one.told else ''}"
