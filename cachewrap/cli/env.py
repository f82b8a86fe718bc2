"""``cachewrap env``: the environment in which any Python program has a cache."""

from __future__ import annotations

import shlex
from typing import Any

import click

from cachewrap.cli.run import cache_options, environment


@click.command(
    "env",
    short_help="Print the environment in which programs are cached.",
    epilog="""\b
Examples:
  eval "$(cachewrap env --redis redis://localhost/0)"
  cachewrap env --disk /srv/answers >> service.env""",
)
@cache_options
def command(**given: Any) -> None:
    """Print what `run` sets, as a shell reads it: Python programs started with it are cached."""
    for name, value in environment(**given).items():
        click.echo(f"export {name}={shlex.quote(value)}")
