"""``cachewrap textconv``: a cassette as lines of text, for `git diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import click
import msgspec

from cachewrap.cli.text import clean
from cachewrap.entries.conversation import (
    Turn,
    answer_turns,
    jsonable,
    request_settings,
    request_turns,
)
from cachewrap.entries.stored import shown_request
from cachewrap.errors import CodecError, printable
from cachewrap.format.envelope import unseal
from cachewrap.stores.jsonl import lines
from cachewrap.systems import files

_USUAL_SEED: Final = "41"


@click.command(
    "textconv",
    short_help="Print a cassette as text, for git diff.",
    epilog="""\b
Examples:
  cachewrap textconv answers.jsonl

\b
Set up once for each repository and each clone of it:
  echo '*.jsonl diff=cachewrap' >> .gitattributes
  git config diff.cachewrap.textconv 'cachewrap textconv'""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def command(file: str) -> None:
    """Print the cassette FILE line by line: what was asked, and what was answered.

    It says nothing of times, ids and the cutting of streams, so that a diff shows what was said
    anew. A line that is no entry is printed as it is.
    """
    with files.reader(file) as content:
        for line in content:
            for text in _shown(line.rstrip(b"\r\n")):
                click.echo(text)


def _shown(line: bytes) -> Iterator[str]:
    try:
        name = lines.name_of(line)
        if name is None:
            return  # the head of the file
        entry = unseal(lines.read(line))
        record = entry.read_record()
        request = shown_request(record["request"]) if record["request"] else None
        said = [*request_turns(request), *answer_turns(entry)]
        settings = request_settings(request)
    except (CodecError, ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        if line:
            yield clean(line.decode(errors="replace"))
        return
    seed, key = name
    facts = [record["source"], record["model"], "" if seed == _USUAL_SEED else f"seed {seed}"]
    yield "══ " + "  ".join(printable(fact, 200) for fact in (*facts, key[:12]) if fact)
    for field, value in settings.items():
        if field != "model":
            text = json.dumps(jsonable(value), ensure_ascii=False, sort_keys=True)
            yield f"{printable(field, 60)}: {clean(text)}"
    if entry.declared is not None:
        yield from (f"by rule: {printable(rule, 300)}" for rule, _ in entry.declared.by)
    for turn in said:
        yield from _turn(turn)
    yield ""


def _turn(turn: Turn) -> Iterator[str]:
    yield f"── {printable(turn.role, 60)}"
    yield from clean(_pretty(turn.text)).splitlines()


def _pretty(text: str) -> str:
    """A text; one that is JSON with a line for each value."""
    if text[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            pass
    return text
