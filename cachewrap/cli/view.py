"""``cachewrap view``: the page of a cache, in the browser."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import click

from cachewrap.cli.entries import filter_options
from cachewrap.cli.places import where_options
from cachewrap.cli.report import page_options, write_page


@click.command(
    "view",
    short_help="Look at a cache in the browser.",
    epilog="""\b
Examples:
  cachewrap view
  cachewrap view --model 'gpt-4*' --newer-than 1d
  cachewrap view --no-open --url redis://localhost/0""",
)
@where_options
@filter_options
@click.option("--open/--no-open", "is_opened", default=True, help="Open it in the browser.")
@page_options
def command(is_opened: bool, **given: Any) -> None:
    """Write the page of `report` to a temporary file, and open that in the browser.

    Its path is printed. The file stays until it is removed.
    """
    handle, path = tempfile.mkstemp(prefix="cachewrap-", suffix=".html")
    try:
        with open(handle, "wb") as file:
            write_page(file, **given)
    except BaseException:
        os.unlink(path)
        raise
    click.echo(path)
    if is_opened and not webbrowser.open(Path(path).as_uri()):
        click.echo("no browser could be started: open the file yourself", err=True)
