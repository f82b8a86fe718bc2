"""``cachewrap suggest --meaning``: pairs of stored requests, and a judge of them."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qsl

import click

from cachewrap.cli.entries import Row, Skipped, read_row, wanted_rows
from cachewrap.cli.page_files import PAGE_BYTES, replacing
from cachewrap.cli.places import Place, Where, is_encrypted, progress
from cachewrap.cli.talk import TEXT
from cachewrap.cli.text import (
    clean,
    count_text,
    entries_text,
    json_line,
    one_line,
    size_text,
    terminal_width,
)
from cachewrap.entries.aliases import add_alias
from cachewrap.entries.filters import Filter
from cachewrap.entries.stored import StoredEntry
from cachewrap.errors import CachewrapError, CorruptEntryError, StoreError, printable
from cachewrap.format.sealing import UNSEALED
from cachewrap.report import PAIRS, Document
from cachewrap.secrets import hidden, is_secret
from cachewrap.suggest.pairs import Asked, Pair
from cachewrap.urls import unsigned

_SHORT: Final = 12
"""Characters of a key that are shown."""

_NARROW: Final = 60
_NO_PASSWORD: Final = (
    "The address of the cache has a password, which is left out here: set CACHEWRAP_URL to it"
    " before you run a command."
)
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
        is_whole: whether that command names the place.
        approved: what the judge said; None where there is none.
        told: why it was not made an alias, where it was not for what the judge said.
    """

    pair: Pair
    answers: tuple[str, str]
    approve: str
    is_whole: bool
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
    page: str | None = None,
) -> None:
    """Print the pairs, or write their page; with a judge, make those that it approves aliases."""
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
        if page is not None:
            facts = {"place": name, "entries": asked.entries, "compared": asked.compared}
            more = {"unreadable": skipped.count, "found": len(pairs), "alike": at_least}
            _write(page, {**facts, **more}, judged, answering)
        elif as_json:
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
        one = _Judged(pair, (_answer(newer), _answer(older)), *_command(pair))
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


def _command(pair: Pair) -> tuple[str, bool]:
    """The command that approves a pair, and whether it names the place that was named: an address
    with a credential in it is left out, and ``CACHEWRAP_URL`` says it.
    """
    context = click.get_current_context()
    given, place = context.params, pair.place
    named: list[tuple[Any, ...]] = [
        (word,) for word in ([place.name] if place.name else given.get("words") or ())
    ]
    named += [(f"--{name}", given[name]) for name in ("disk", "redis") if given.get(name)]
    source = context.get_parameter_source("url")
    if source is not None and source.name == "COMMANDLINE":
        named += [("--url", given["url"])]
    told = [words for words in named if not _has_credential(str(words[-1]))]
    words = ["cachewrap", "alias", "add", pair.one[:_SHORT], pair.other[:_SHORT]]
    words += [str(word) for one in told for word in one]
    if given.get("seed") is not None or given.get("all_seeds"):
        words += ["--seed", place.seed]
    return shlex.join(words), told == named


def _has_credential(address: str) -> bool:
    """Whether the address of a cache has a password in it, or another credential."""
    options = parse_qsl(address.partition("?")[2])
    return unsigned(address) != address or any(is_secret(name) for name, _ in options)


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


def _write(
    path: str,
    facts: dict[str, Any],
    judged: Iterator[_Judged],
    answering: set[tuple[Place, str]],
) -> None:
    """Write the page on which a person ticks pairs.

    Args:
        path: its file; ``-`` is the output.
        facts: what was looked at.
        judged: the pairs.
        answering: the entries that answer for an alias, which are not to be aliases themselves.
    """
    if path == "-":
        _fill(sys.stdout.buffer, facts, judged, answering)
        return
    with replacing(path) as file:
        shown = _fill(file, facts, judged, answering)
    pairs = "1 pair" if shown == 1 else f"{count_text(shown)} pairs"
    click.echo(f"{path}: {size_text(os.stat(path).st_size)}, {pairs}")


def _fill(
    file: BinaryIO,
    facts: dict[str, Any],
    judged: Iterator[_Judged],
    answering: set[tuple[Place, str]],
) -> int:
    """Write the page to a file; how many pairs it has."""
    document = Document(file, "Do these mean the same?", PAIRS)
    numbers: dict[tuple[Place, str], int] = {}
    shown, has_password = 0, False
    for one in judged:
        if document.written > PAGE_BYTES:
            break
        ends = [(one.pair.place, key) for key in (one.pair.one, one.pair.other)]
        told = {
            **_facts(one),
            "answers": [answer[:TEXT] for answer in one.answers],
            "cuts": [max(0, len(answer) - TEXT) for answer in one.answers],
            "ends": [numbers.setdefault(end, len(numbers)) for end in ends],
            "taken": ends[0] in answering,
        }
        document.put("pair", told)
        shown += 1
        has_password = has_password or not one.is_whole
    document.finish({**facts, "made": time.time(), "password": has_password})
    return shown


def _text(judged: Iterator[_Judged], found: int, has_judge: bool) -> Iterator[str]:
    width = max(_NARROW, terminal_width())
    if not found:
        yield "no pairs are that much alike"
        return
    if not has_judge:
        yield _WARNING
    shown = approved = 0
    for one in judged:
        if not (shown or has_judge or one.is_whole):
            yield _NO_PASSWORD
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
