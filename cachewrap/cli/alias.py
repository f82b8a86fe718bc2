"""``cachewrap alias``: keys that are answered by the entry under another one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import click

from cachewrap.cli.entries import Row, Skipped, dry_run_option, find_one, read_row, wanted_rows
from cachewrap.cli.guess import keys_and_places, meant_command, places_alone
from cachewrap.cli.places import Place, Where, is_encrypted, json_option, where_beside
from cachewrap.cli.text import json_line, one_line, table, terminal_width
from cachewrap.entries.aliases import add_alias, remove_alias
from cachewrap.entries.filters import Filter
from cachewrap.errors import CorruptEntryError, printable
from cachewrap.format.sealing import UNSEALED, Guard
from cachewrap.stores.jsonl import lines

_KEY: Final = re.compile("[0-9a-f]{64}")
_SHOWN: Final = 12
_COMMANDS: Final = ("add", "ls", "rm")
_ALIKE: Final[dict[str, str]] = {
    **dict.fromkeys(("new", "create", "make", "set", "approve", "link", "ln"), "add"),
    **dict.fromkeys(("list", "all", "show", "dir"), "ls"),
    **dict.fromkeys(("remove", "delete", "del", "unlink", "undo", "drop", "unset"), "rm"),
}
"""What is typed by those who know other tools."""


class _Alias(click.Group):
    """The commands for aliases; without one it is `ls`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if not first or (first.startswith("-") and first not in ("-h", "--help")):
            args = ["ls", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in _COMMANDS and not word.startswith("-"):
            guessed = f"{'add' if len(args) > 1 else 'ls'} {' '.join(args)}"
            meant = meant_command(word, _COMMANDS, _ALIKE) or guessed
            ctx.fail(f"No such command {word!r}: did you mean cachewrap alias {meant}?")
        return super().resolve_command(ctx, args)


@click.group(
    "alias",
    cls=_Alias,
    short_help="Have a request answered by what is stored for another one.",
    epilog="""\b
Examples:
  cachewrap alias add 5f0c 91aa
  cachewrap alias ls
  cachewrap alias rm 5f0c""",
)
def command() -> None:
    """Say that two requests may have one answer, see which do, and take it back.

    An alias is one key that points to the entry under another one. Nothing is made an alias but by
    you: cachewrap compares no meanings, and no threshold decides.
    """


@command.command(
    "add",
    short_help="Have KEY answered by the entry under TARGET.",
    epilog="""\b
Examples:
  cachewrap alias add 5f0c 91aa
  cachewrap alias add 5f0c 91aa tests/cassettes/test_lights.jsonl""",
)
@where_beside("keys", "KEY TARGET [PLACE]...", keys_and_places)
def add(keys: list[str], where: Where) -> None:
    """Have KEY answered by the entry under TARGET, from the next call on.

    TARGET is a key as `ls` gives it, or as many of its first characters as no other key begins
    with, or what was given to `cache.set`. So is KEY; of a request that is not stored it is the
    whole key, 64 characters, as `f.cache_key(...)` and the log line of a miss give it. What is
    stored under KEY is kept, and comes back with `rm`. Both must be requests to one function or
    endpoint, and both streams or neither.
    """
    if len(keys) != 2:
        raise click.UsageError("give two keys: cachewrap alias add KEY TARGET")
    with where.opened() as places:
        place, target = find_one(places, keys[1])
        key = _own_key(place, keys[0])
        add_alias(place.store, _guard_of(place, target), key, target)
        click.echo(f"{_told(place, key)}\n  is answered by {_told(place, target)}")


def _own_key(place: Place, given: str) -> str:
    """The key that is to be an alias. Raises `click.ClickException` for one that is not known."""
    if _KEY.fullmatch(given):
        return given
    try:
        return find_one([place], given)[1]
    except click.ClickException as error:
        if "no entry" not in error.message:
            raise
        more = "a key under which nothing is stored is given whole, 64 characters"
        raise click.ClickException(f"{error.message}\n{more}") from None


def _guard_of(place: Place, key: str) -> Guard:
    """What opens an entry, and closes an alias of it: encrypted where that is."""
    return place.guard if is_encrypted(place.get(key) or b"") else UNSEALED


def _told(place: Place, key: str) -> str:
    """A key for people: its beginning, and what was asked, where that is known."""
    raw = place.get(key)
    try:
        asked = "" if raw is None else read_row(place, key, raw).prompt
    except CorruptEntryError:
        asked = "(it cannot be read)"
    return f"{key[:_SHOWN]}  {one_line(asked, terminal_width() - 34)}".rstrip()


@dataclass(frozen=True, slots=True)
class _Pair:
    """An alias, and the entry that answers it.

    Args:
        row: the alias.
        target: the entry; None where there is none, or it cannot be read.
    """

    row: Row
    target: Row | None

    def facts(self) -> dict[str, Any]:
        """What is known of it, for machines."""
        row, target = self.row, self.target
        return {
            "key": row.key,
            "seed": row.seed,
            "alias_of": row.alias_of,
            "gone": target is None,
            "source": row.source,
            "created": lines.show_time(row.entry.created),
            "prompt": _prompt(row),
            "target_prompt": None if target is None else _prompt(target),
        }

    def cells(self) -> list[str]:
        """Its cells in a table for people."""
        row, target = self.row, self.target
        told = "(nothing is stored there)" if target is None else _prompt(target)
        return [row.key[:_SHOWN], _prompt(row) or "-", row.alias_of[:_SHOWN], told or "-"]


def _prompt(row: Row) -> str:
    try:
        return row.prompt
    except CorruptEntryError as error:
        return f"({error})"


def _pairs(places: Iterable[Place], skipped: Skipped) -> Iterator[_Pair]:
    for row in wanted_rows(places, Filter(), skipped):
        if target := row.alias_of:
            found = None
            if (raw := row.place.get(target)) is not None:
                try:
                    found = read_row(row.place, target, raw)
                except CorruptEntryError as error:
                    skipped.add(error)
            yield _Pair(row, found)


@command.command(
    "ls",
    short_help="List the aliases.",
    epilog="""\b
Examples:
  cachewrap alias ls
  cachewrap alias ls tests/cassettes --json | jq 'select(.gone)'""",
)
@where_beside("", "[PLACE]...", places_alone)
@json_option
def ls(where: Where, as_json: bool) -> None:
    """List the aliases: what is asked, and under which key what answers it is stored.

    An alias of what is no longer stored does nothing: its request is asked as if there were none.
    """
    skipped = Skipped()
    with where.opened() as places:
        several = len({place.seed for place in places}) > 1, any(place.name for place in places)
        rows: list[list[str]] = []
        for pair in _pairs(places, skipped):
            if as_json:
                click.echo(json_line(pair.facts()))
                continue
            key, *cells = pair.cells()
            place = pair.row.place
            rows.append([key, *[place.seed] * several[0], *[place.name] * several[1], *cells])
    if not as_json:
        head = ["KEY", *["SEED"] * several[0], *["PLACE"] * several[1]]
        head += ["PROMPT", "ALIAS OF", "PROMPT THERE"]
        click.echo("\n".join(table(head, rows, width=terminal_width())) if rows else "no aliases")
    skipped.tell()


@command.command(
    "rm",
    short_help="Take aliases back.",
    epilog="""\b
Examples:
  cachewrap alias rm 5f0c
  cachewrap alias rm 5f0c 77b1 .cache --dry-run""",
)
@where_beside("keys", "[PLACE]... KEY...", keys_and_places)
@dry_run_option
def rm(keys: list[str], where: Where, dry_run: bool) -> None:
    """Take the alias of each KEY back: what was stored there before it is there again.

    KEY is given as for `show`. Where one is no alias, nothing is done, and the exit status is 1.
    The entry that it leads to stays.
    """
    with where.opened() as places:
        found: dict[tuple[int, str], Place] = {}
        failed = 0
        for key in keys:
            try:
                place, name = find_one(places, key)
                if not read_row(place, name, place.get(name) or b"").alias_of:
                    told = f"{name[:_SHOWN]} is no alias: cachewrap rm removes entries"
                    raise click.ClickException(told)
                found[id(place), name] = place
            except (click.ClickException, CorruptEntryError) as error:
                failed += 1
                message = error.message if isinstance(error, click.ClickException) else str(error)
                click.echo(f"Error: {printable(message, 600)}", err=True)
        if failed:
            click.echo("nothing was done", err=True)
            sys.exit(1)
        for (_, name), place in found.items():
            told = _told(place, name)
            if dry_run or remove_alias(place.store, _guard_of(place, name), name):
                verb = "would take back" if dry_run else "took back"
                click.echo(f"{verb} the alias {told}")
