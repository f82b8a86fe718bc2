"""``cachewrap suggest``: the rules that would join what is stored, and pairs that mean the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from cachewrap.cli.entries import Skipped, filter_options, read_row, wanted_rows
from cachewrap.cli.page_files import check_replaceable
from cachewrap.cli.places import Place, Where, json_option, progress, where_options
from cachewrap.cli.suggest_meaning import load_judge, suggest_pairs
from cachewrap.cli.text import (
    calls_text,
    clean,
    columns,
    count_text,
    entries_text,
    json_line,
    one_line,
    terminal_width,
)
from cachewrap.entries.conversation import jsonable
from cachewrap.entries.filters import Filter
from cachewrap.entries.stored import StoredEntry
from cachewrap.errors import CorruptEntryError, StoreError
from cachewrap.suggest.families import Families, Proposal, Saved
from cachewrap.suggest.pairs import AT_LEAST
from cachewrap.suggest.wording import combined, facts, made, python_text, toml_text
from cachewrap.telemetry.usage import can_price, money_text

_DOUBT: Final = (
    "These may leave out what is asked: a rule of them answers one question with the answer to"
    " another. Look at each example."
)
_NARROW: Final = 60


@click.command(
    "suggest",
    short_help="Propose rules that would join stored requests.",
    epilog="""\b
Examples:
  cachewrap suggest
  cachewrap suggest tests/cassettes --toml > same.toml
  cachewrap run --same same.toml agent.py
  cachewrap suggest --meaning
  cachewrap suggest --meaning --page pairs.html
  cachewrap suggest --meaning --judge judges:same_meaning""",
)
@where_options
@filter_options
@click.option("--toml", "as_toml", is_flag=True, help="Only the rules, as a file for run --same.")
@click.option("--doubtful", is_flag=True, help="Also rules that may leave out what is asked.")
@click.option("--meaning", is_flag=True, help="Pairs that may mean the same, instead of rules.")
@click.option(
    "--alike",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=AT_LEAST,
    show_default=True,
    help="With --meaning: how much alike, up to 1.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="With --meaning: pairs.",
)
@click.option(
    "--judge",
    metavar="MODULE:FUNCTION",
    help="With --meaning: makes an alias of each pair for which this function of yours gives True.",
)
@click.option(
    "--page", metavar="FILE.html", help="With --meaning: a page on which you tick what to approve."
)
@click.option(
    "--force", is_flag=True, help="With --page: replace a file that is not a page of cachewrap."
)
@json_option
def command(
    where: Where,
    wanted: Filter,
    as_toml: bool,
    doubtful: bool,
    meaning: bool,
    alike: float,
    limit: int,
    judge: str | None,
    page: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Look for stored requests that differ only in what does not matter, and change nothing.

    Dates and times in system prompts, fields that only track a request, UUIDs, temporary paths, the
    ids of tool calls, the order of tools: each family of such requests is told with the rules that
    would have made it one request, what that would have saved, and examples.

    With --meaning it is pairs of requests whose last words are alike, with the command that has the
    one answered by the other. Nothing is approved but by you, or by your --judge, which takes two
    texts, or two entries where it says so (one: StoredEntry). --page writes one page, which needs
    no server and no network: what is ticked on it are commands to run. Needs: pip install
    'cachewrap[meaning]'.
    """
    if as_toml and as_json:
        raise click.UsageError("give --toml or --json, not both")
    if meaning:
        if as_toml or doubtful:
            raise click.UsageError(
                "--toml and --doubtful are of rules: give them without --meaning"
            )
        if page and (judge or as_json):
            raise click.UsageError(f"give --page or {'--judge' if judge else '--json'}, not both")
        if page and page != "-":
            check_replaceable(page, force)
        judging = load_judge(judge) if judge else None
        suggest_pairs(
            where,
            wanted,
            at_least=alike,
            limit=limit,
            judge=judging,
            as_json=as_json,
            page=page,
        )
        return
    if judge or page:
        raise click.UsageError(
            f"{'--judge' if judge else '--page'} is of pairs: give it with --meaning"
        )
    found, skipped = Families(), Skipped()
    with where.opened(empty=True) as places:
        for row in progress(wanted_rows(places, wanted, skipped), places, "looking"):
            found.add(row.place, row)
        proposals = found.proposals(_load)
        doubts = found.proposals(_load, doubtful=True) if doubtful else []
        name = where.text(places)
    if as_json:
        click.echo(json_line(_for_machines(name, found, skipped, [*proposals, *doubts])))
    elif as_toml:
        click.echo(_as_file(proposals, doubts))
    else:
        click.echo("\n".join(_text(name, found, proposals, doubts, doubtful)))
    skipped.tell()


def _load(place: Place, key: str) -> StoredEntry | None:
    """An entry, read again; None for one that was removed or damaged meanwhile."""
    try:
        raw = place.get(key)
        return None if raw is None else read_row(place, key, raw)
    except (CorruptEntryError, StoreError):
        return None


# -- for machines --------------------------------------------------------------------------------


def _for_machines(
    name: str, found: Families, skipped: Skipped, proposals: list[Proposal]
) -> dict[str, Any]:
    return {
        "place": name,
        "entries": found.entries,
        "without_request": found.unknown,
        "unreadable": skipped.count,
        "doubtful_requests": found.doubtful,
        "proposals": [_facts(proposal) for proposal in proposals],
    }


def _facts(proposal: Proposal) -> dict[str, Any]:
    saved = proposal.saved
    return {
        "rules": [facts(rule) for rule in proposal.rules],
        "doubtful": proposal.doubtful,
        "requests": proposal.requests,
        "families": proposal.families,
        "families_with_different_answers": proposal.differing,
        "calls_saved": saved.calls,
        "tokens_in_saved": saved.tokens_in,
        "tokens_out_saved": saved.tokens_out,
        "money_saved": None if saved.money is None else float(saved.money),
        "examples": [
            {
                "keys": [example.one, example.other],
                "asked": example.asked,
                "differs": [
                    {"path": one.path, "one": jsonable(one.one), "other": jsonable(one.other)}
                    for one in example.differs
                ],
            }
            for example in proposal.examples
        ],
    }


def _as_file(proposals: list[Proposal], doubts: list[Proposal]) -> str:
    if not proposals and not doubts:
        return "# Nothing is stored that rules would join."
    told = [toml_text(rule for proposal in proposals for rule in proposal.rules)]
    if doubts:
        known = {rule for proposal in proposals for rule in proposal.rules}
        more = [rule for proposal in doubts for rule in proposal.rules if rule not in known]
        lines = toml_text(more).splitlines()
        told.append("\n".join([f"# {_DOUBT}", *(f"# {line}".rstrip() for line in lines)]))
    return "\n\n".join(filter(None, told))


# -- for people ----------------------------------------------------------------------------------


def _text(
    name: str, found: Families, proposals: list[Proposal], doubts: list[Proposal], asked: bool
) -> Iterator[str]:
    yield f"{name}  {entries_text(found.entries)}"
    if found.unknown:
        yield f"{entries_text(found.unknown)} without their request were left out"
    if not proposals:
        yield "nothing is stored that rules would join"
    width = max(_NARROW, terminal_width())
    for number, proposal in enumerate(proposals, 1):
        yield ""
        yield from _proposal(str(number), proposal, width)
    if proposals:
        rules = [rule for proposal in proposals for rule in proposal.rules]
        total = Saved()
        for proposal in proposals:
            total.add(proposal.saved)
        yield ""
        yield f"To save {_saved_text(total)} of these next time:"
        yield ""
        yield clean(python_text(rules))
        if total.money is None and not can_price() and total.tokens_in:
            yield ""
            yield "For what they cost: pip install 'cachewrap[prices]'"
    if doubts:
        yield ""
        yield from _wrapped(_DOUBT, width)
        for number, proposal in enumerate(doubts, 1):
            yield ""
            yield from _proposal(f"?{number}", proposal, width)
    elif found.doubtful and not asked:
        yield ""
        more = f"{count_text(found.doubtful)} more requests may be equal, or ask other things"
        yield f"{more}: --doubtful shows them"
    elif asked:
        yield ""
        yield "nothing is in doubt"


def _proposal(number: str, proposal: Proposal, width: int) -> Iterator[str]:
    saved, families = proposal.saved, proposal.families
    joined = f"{count_text(proposal.requests)} requests as {count_text(families)}"
    yield f"{number}  {_saved_text(saved)}: {joined}"
    for rule in combined(proposal.rules):
        yield f"   {clean(made(rule).label)}"
    yield f"   {_answers(proposal)}"
    for example in proposal.examples:
        keys = f"   {example.one[:8]} and {example.other[:8]}"
        yield f"{keys}  {one_line(example.asked, width - len(keys) - 2)}".rstrip()
        for difference in example.differs:
            yield from _difference(difference.path, difference.one, difference.other, width)


def _saved_text(saved: Saved) -> str:
    told = [calls_text(saved.calls)]
    if tokens := saved.tokens_in + saved.tokens_out:
        told.append(f"{count_text(tokens)} tokens")
    if saved.money is not None:
        told.append(money_text(saved.money))
    return ", ".join(told)


def _answers(proposal: Proposal) -> str:
    differing, families = proposal.differing, proposal.families
    if not differing:
        return "answers: equal" if families == 1 else "answers: equal in each of them"
    if families == 1:
        return "answers: different ones were stored"
    return f"answers: different ones in {count_text(differing)} of {count_text(families)}"


def _difference(path: str, one: Any, other: Any, width: int) -> Iterator[str]:
    first, second = _value(one), _value(other)
    whole = f"     {path}: {first} → {second}"
    if columns(whole) <= width:
        yield whole
        return
    yield f"     {one_line(path, width - 6)}:"
    yield f"       - {one_line(first, width - 9)}"
    yield f"       + {one_line(second, width - 9)}"


_LONG: Final = 400


def _value(value: Any) -> str:
    if value is None:
        return "(nothing)"
    if isinstance(value, str):
        return one_line(value, _LONG)
    return one_line(json.dumps(jsonable(value), ensure_ascii=False, default=str), _LONG)


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line
