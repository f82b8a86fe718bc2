"""``cachewrap explain``: the reason why a request is not stored, and what is nearest to it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TextIO

import click

from cachewrap.cache import Cache
from cachewrap.cli.conversation import json_line, jsonable
from cachewrap.cli.places import Where, json_option, where_options
from cachewrap.cli.text import clean


@click.command(
    "explain",
    short_help="Say why a request is not stored, and what is nearest to it.",
    epilog="""\b
Examples:
  cachewrap explain body.json
  echo '{"model": "gpt-4o", "messages": […]}' | cachewrap explain -
  cachewrap show 5f0c2a --json | jq .request | cachewrap explain - --seed 7""",
)
@click.argument("request", metavar="FILE", type=click.File(encoding="utf-8"))
@where_options
@json_option
def command(request: TextIO, where: Where, as_json: bool) -> None:
    """Compare the request in FILE (- is the input) with those that are stored.

    It is the JSON body of a request, or a whole canonical request as `show --json` gives it. Exits
    with 1 if no stored answer serves it.
    """
    try:
        asked = json.load(request)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{request.name} is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise click.UsageError(f"{request.name} holds no JSON object")
    stored = False
    with where.opened() as places:
        for place in places:
            explanation = Cache(place.store, cache_seed=place.seed).explain(asked)
            stored = stored or explanation.stored
            if as_json:
                click.echo(json_line(jsonable(asdict(explanation))))
            else:
                click.echo(clean(str(explanation)))
    sys.exit(0 if stored else 1)
