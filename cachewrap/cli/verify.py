"""``cachewrap verify``: a check of each entry: sums, answer, key; and a search for credentials."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click
import msgspec

from cachewrap.cli.entries import Row, read_row
from cachewrap.cli.places import Place, Where, every_entry, json_option, progress, where_options
from cachewrap.cli.text import count_text
from cachewrap.entries.stored import MOST, is_http, request_keys
from cachewrap.entry import Kind
from cachewrap.errors import CodecError, CorruptEntryError, printable
from cachewrap.format import codec
from cachewrap.format.aliases import alias_in
from cachewrap.policy import rules_of
from cachewrap.request.key import decode_request, is_scrubbed, sample_key
from cachewrap.same.applied import Rules
from cachewrap.secrets import HIDDEN, Found, search

_GOOD: Final = "good"
_UNCHECKED: Final = "key not checkable"
_DAMAGED: Final = "damaged"
_MISPLACED: Final = "under a wrong key"

_FOUND: Final = "with a credential"


@click.command(
    "verify",
    short_help="Check every checksum and key, or search for credentials.",
    epilog="""\b
Examples:
  cachewrap verify --all-seeds
  cachewrap verify --function-seed 7 --function-seed draft
  cachewrap verify --json || cachewrap prune --damaged
  cachewrap verify --secrets --url jsonl:tests/cassettes/test_it.jsonl""",
)
@where_options
@click.option(
    "--function-seed",
    "function_seeds",
    multiple=True,
    metavar="SEED",
    help="A seed= of a decorated function. 41 and the seed of the cache are tried anyway.",
)
@click.option(
    "--secrets",
    is_flag=True,
    help="Search requests, answers and headers for credentials instead of checking keys.",
)
@click.option(
    "--same",
    "file",
    metavar="FILE.toml",
    help="Rules of equality: the keys of what they changed are checked as well.",
)
@json_option
def command(
    where: Where, function_seeds: tuple[str, ...], secrets: bool, file: str | None, as_json: bool
) -> None:
    """Read every entry: its checksums, its answer, and whether its key is that of its request.

    The key of an entry that was stored without its request, or with one that scrub= changed,
    cannot be checked, nor can that of a function whose seed= is not among those that are tried, nor
    that of a request which rules of equality changed, without these rules: --same, or the URL's.
    Exits with 1 if an entry is damaged, or stands under a wrong key, or is an alias of what is no
    longer stored.

    With --secrets it looks for what is a credential by its name, its container or its shape, by the
    rules by which requests are stored, tells where each stands, and exits with 1 if there are any.
    """
    if secrets:
        with where.opened() as places:
            sys.exit(_tell_secrets(places, as_json))
    counts: dict[str, int] = dict.fromkeys((_GOOD, _UNCHECKED, _DAMAGED, _MISPLACED), 0)
    with where.opened() as places:
        for verdict, place, key, why in _verdicts(places, function_seeds, file):
            counts[verdict] += 1
            if verdict in (_DAMAGED, _MISPLACED):
                facts = {"key": key, "seed": place.seed, "verdict": verdict, "why": why}
                line = f"{printable(key)}  seed {printable(place.seed)}  {verdict}: {why}"
                click.echo(json.dumps(facts) if as_json else line)
    if as_json:
        click.echo(json.dumps({name.replace(" ", "_"): count for name, count in counts.items()}))
    else:
        told = (f"{count_text(count)} {name}" for name, count in counts.items() if count)
        click.echo(", ".join(told) or "no entries")
    sys.exit(1 if counts[_DAMAGED] or counts[_MISPLACED] else 0)


def _verdicts(
    places: list[Place], seeds: Iterable[str], file: str | None
) -> Iterator[tuple[str, Place, str, str]]:
    """What each entry is: the verdict, where it is, and why."""
    rules = {name: rules_of(name) for name in {file or place.same for place in places}}
    sampled = False
    doubtful: list[tuple[Place, str]] = []
    for place, key, raw in progress(every_entry(places), places, "verifying"):
        try:
            row = read_row(place, key, raw)
            read_answer(row)
            keys, sure = _keys(row, seeds, rules[file or place.same])
        except CodecError as error:
            yield _DAMAGED, place, key, str(error)
            continue
        if not keys:
            ruled = row.raw_request and "rules that are not here changed its request"
            yield _UNCHECKED, place, key, ruled or "stored without its request"
            continue
        number = next((n for n in range(MOST) for k in keys if sample_key(k, n) == key), None)
        sampled = sampled or bool(number)
        if number is not None:
            yield _GOOD, place, key, ""
        elif HIDDEN.encode() in row.raw_request:
            yield _UNCHECKED, place, key, "a credential was taken out of its request"
        elif is_scrubbed(row.request):
            yield _UNCHECKED, place, key, "its request was scrubbed"
        elif sure:
            doubtful.append((place, key))
        else:
            yield _UNCHECKED, place, key, "none of the seeds that were tried is the function's"
    for place, key in doubtful:
        # A request that is made inside a sampled call has a key that depends on that call.
        if sampled:
            yield _UNCHECKED, place, key, "it may have been asked inside a sampled call"
        else:
            yield _MISPLACED, place, key, "the key of its request is another"


def _keys(row: Row, seeds: Iterable[str], same: Rules | None) -> tuple[list[str], bool]:
    """The keys that the entry's request may have, and whether there are no others."""
    request = row.request
    if request is None:
        return [], False
    set_by_hand = row.source == "cache.set"
    if set_by_hand and isinstance(request, dict) and request.get("key") == row.key:
        return [row.key], True
    kind, declared = row.entry.kind, row.entry.declared
    told = kind, row.source, row.seed, row.raw_request, seeds
    keys = request_keys(*told, declared=declared, same=same)
    return keys, set_by_hand or is_http(kind, row.source)


def _tell_secrets(places: list[Place], as_json: bool) -> int:
    """Tell of the credentials that are stored; gives what the command exits with."""
    counts = dict.fromkeys((_GOOD, _FOUND, _DAMAGED), 0)
    for place, key, raw in progress(every_entry(places), places, "searching"):
        try:
            row = read_row(place, key, raw)
            found = list(_secrets_of(row))
        except (CodecError, RecursionError) as error:
            counts[_DAMAGED] += 1
            told = {"key": key, "seed": place.seed, "verdict": _DAMAGED, "why": str(error)}
            line = f"{key}  seed {place.seed}  {_DAMAGED}: {error}"
            click.echo(json.dumps(told) if as_json else printable(line, 600))
            continue
        counts[_FOUND if found else _GOOD] += 1
        for part, one in found:
            value = one.value[: min(4, len(one.value) // 4)] + "…"
            at = _named((part, *one.path))
            facts = {"key": key, "seed": place.seed, "where": at, "rule": one.rule, "value": value}
            line = f"{key[:12]}  seed {place.seed}  {at}  {one.rule}: {value}"
            click.echo(json.dumps(facts) if as_json else printable(line, 600))
    if as_json:
        click.echo(json.dumps({name.replace(" ", "_"): count for name, count in counts.items()}))
    else:
        told_counts = (f"{count_text(count)} {name}" for name, count in counts.items() if count)
        click.echo(", ".join(told_counts) or "no entries")
    return 1 if counts[_FOUND] or counts[_DAMAGED] else 0


def _secrets_of(row: Row) -> Iterator[tuple[str, Found]]:
    """The credentials in all that is stored of an entry, and in which part of it each is."""
    entry = row.entry
    parts: list[tuple[str, Any]] = [("source", row.source), ("model", row.model)]
    if row.raw_request:
        try:
            parts.append(("request", decode_request(row.raw_request)))
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise CorruptEntryError(f"its request cannot be read: {error}") from None
    if entry.kind is Kind.HTTP:
        answer = codec.decode(Kind.HTTP, entry.answer)
        yield from (("header", found) for found in search(dict(answer.headers), headers=True))
        parts += (("answer", value) for value in _documents(b"".join(answer.chunks)))
    elif entry.kind is Kind.ITEMS:
        items = codec.decode(Kind.ITEMS, entry.answer)
        parts.append(("answer", [codec.plain_form(*item) for item in items.values]))
        parts.append(("returned", codec.plain_form(*items.returned)))
    elif (alias := alias_in(entry)) is not None:
        if alias.kept:
            yield from _secrets_of(read_row(row.place, row.key, alias.kept))
    else:
        parts.append(("answer", codec.plain_form(entry.kind, entry.answer)))
    for part, value in parts:
        yield from ((part, found) for found in search(value, wary=part == "request"))


def _documents(body: bytes) -> Iterator[Any]:
    """The JSON of an answer, or that of each of its events or lines, or its text."""
    text = body.decode("utf-8", "replace")
    for piece in [text] if text[:1] in ("{", "[") and "\n{" not in text else text.splitlines():
        piece = piece.removeprefix("data:")
        try:
            yield json.loads(piece)
        except (ValueError, RecursionError):
            yield piece


def _named(path: Iterable[str | int]) -> str:
    """A path for people: ``request.body.tools[0].authorization``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path if step != "!")
    return "".join(steps)[1:]


def read_answer(row: Row) -> None:
    """Read the answer as far as that needs no class of its own.

    Raises `CorruptEntryError`, also for an alias of what is not stored, or is an alias itself.
    """
    entry = row.entry
    if (alias := alias_in(entry)) is not None:
        if alias.kept:
            read_answer(read_row(row.place, row.key, alias.kept))
        raw = row.place.get(alias.target)
        if raw is None:
            raise CorruptEntryError(f"an alias of {alias.target[:12]}…, which is no longer stored")
        if read_row(row.place, alias.target, raw).alias_of:
            raise CorruptEntryError(f"an alias of {alias.target[:12]}…, which is an alias itself")
        return
    if entry.kind is Kind.HTTP:
        codec.decode(Kind.HTTP, entry.answer)
    elif entry.kind is Kind.ITEMS:
        items = codec.decode(Kind.ITEMS, entry.answer)
        for item in (*items.values, items.returned):
            codec.plain_form(*item)
    else:
        codec.plain_form(entry.kind, entry.answer)
