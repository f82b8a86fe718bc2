"""``cachewrap clear``: the removal of all entries of a seed."""

from __future__ import annotations

import sys

import click

from cachewrap.cli.places import Where, where_options
from cachewrap.cli.text import count_text, entries_text, is_terminal


@click.command(
    "clear",
    short_help="Remove every entry of a seed.",
    epilog="""\b
Examples:
  cachewrap clear --seed 7
  cachewrap clear --url redis://localhost/0 --all-seeds --yes""",
)
@where_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(where: Where, yes: bool) -> None:
    """Remove every entry of the seed, and nothing else. Asks first on a terminal.

    Without a terminal to ask on, --yes is needed.
    """
    with where.opened() as places:
        counts = [sum(1 for _ in place.store.keys()) for place in places]
        total, seeds = sum(counts), ", ".join(place.seed for place in places) or "none"
        question = f"Remove {count_text(total)} entries of seed {seeds}?"
        if not yes and total:
            if not is_terminal(sys.stdin):
                raise click.UsageError(f"{question} There is no terminal to ask on: give --yes")
            if not click.confirm(question):
                click.echo("nothing was removed")
                return
        removed = sum(place.store.clear() for place in places)
    click.echo(f"removed {entries_text(removed)}")
