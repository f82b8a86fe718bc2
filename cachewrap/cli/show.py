"""``cachewrap show`` and ``explain``: one entry as a conversation, and why there is none."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from itertools import islice
from typing import Any, Final, TextIO

import click

from cachewrap.cache import Cache
from cachewrap.cli.conversation import (
    answer_pieces,
    answer_turns,
    jsonable,
    request_settings,
    request_turns,
)
from cachewrap.cli.entries import Row, read_row
from cachewrap.cli.places import Place, Where, json_option, where_options
from cachewrap.cli.text import clean, json_line, moment_text, size_text, span_text
from cachewrap.entry import Kind
from cachewrap.errors import printable
from cachewrap.format import codec
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode, key_of, salted

_HEX: Final = re.compile("[0-9a-f]{4,64}")


@click.command(
    "show",
    short_help="Show one entry as a conversation.",
    epilog="""\b
Examples:
  cachewrap show 5f0c2a
  cachewrap show 5f0c2a --timing
  cachewrap show 5f0c2a --json | jq .answer""",
)
@click.argument("key")
@where_options
@click.option("--timing", is_flag=True, help="Of a stream: every piece, and when it came.")
@json_option
def command(key: str, where: Where, timing: bool, as_json: bool) -> None:
    """Show the entry under KEY: what was asked, and what was answered.

    KEY is a key as `ls` and `f.cache_key(...)` give it, or its first characters (at least four),
    or what was given to `cache.set`.
    """
    with where.opened() as places:
        found = [row for place in places for row in _find(place, key)]
        if not found:
            raise click.ClickException(f"no entry under {key!r}: cachewrap ls lists the keys")
        if len(found) > 1:
            names = ", ".join(f"{row.key[:16]} (seed {printable(row.place.seed)})" for row in found)
            raise click.ClickException(f"{key!r} is the beginning of several keys: {names}, …")
        if as_json:
            click.echo(json_line(_everything(found[0])))
        else:
            click.echo("\n".join(_shown(found[0], timing)))


def _find(place: Place, key: str) -> list[Row]:
    given = key_of(salted("key"), encode({"key": canonical(key)}))
    for whole in (key, given):
        if len(whole) == 64 and _HEX.fullmatch(whole) and (raw := place.store.get(whole)):
            return [read_row(place, whole, raw)]
    names = place.store.keys() if _HEX.fullmatch(key) else ()
    found = ((name, place.store.get(name)) for name in names if name.startswith(key))
    return list(islice((read_row(place, name, raw) for name, raw in found if raw), 3))


def _shown(row: Row, timing: bool) -> list[str]:
    entry, request = row.entry, row.request
    facts = [
        ("key", f"{row.key}  (seed {row.place.seed})"),
        ("source", row.source),
        ("model", row.model),
        ("stored", f"{moment_text(entry.created)} UTC, {size_text(row.size)}"),
        ("expires", f"{moment_text(entry.expires)} UTC" if entry.expires else ""),
        ("took", span_text(entry.seconds)),
        ("tokens", f"{entry.tokens_in} in, {entry.tokens_out} out" if entry.tokens_in else ""),
    ]
    lines = [f"{name:8} {printable(text, 300)}" for name, text in facts if text]
    if request is None:
        lines += ["", "The request was left out when this was stored (store_requests=False)."]
    else:
        settings = request_settings(request)
        for name, value in settings.items():
            text = json.dumps(jsonable(value), ensure_ascii=False)
            name = "asked" if name == "model" else name
            lines.append(f"{printable(name, 60):8} {printable(text, 300)}")
    for turn in request_turns(request):
        lines += ["", f"── {printable(turn.role, 60)}", clean(turn.text)]
    pieces = answer_pieces(entry)
    if not pieces:
        for turn in answer_turns(entry):
            lines += ["", f"══ {printable(turn.role, 60)}", clean(turn.text)]
        return lines
    lines += [
        "",
        f"══ answer, a stream: {len(pieces)} pieces, the first after"
        f" {pieces[0].delay:.3f}s, the last after {pieces[-1].delay:.3f}s",
    ]
    if timing:
        return [*lines, *(f"{piece.delay:9.3f}s  {_quoted(piece.text)}" for piece in pieces)]
    between = "" if entry.kind is Kind.HTTP else "\n"
    return [*lines, clean(between.join(piece.text for piece in pieces))]


def _quoted(text: str) -> str:
    return clean(json.dumps(text, ensure_ascii=False))


def _everything(row: Row) -> dict[str, Any]:
    entry = row.entry
    pieces = [[piece.delay, piece.text] for piece in answer_pieces(entry)]
    if entry.kind is Kind.HTTP:
        answer = codec.decode(Kind.HTTP, entry.answer)
        body = b"".join(answer.chunks)
        try:
            text: Any = body.decode()
        except UnicodeDecodeError:
            text = jsonable(body)
        value: Any = {"status": answer.status, "headers": answer.headers, "body": text}
    elif entry.kind is Kind.ITEMS:
        items = codec.decode(Kind.ITEMS, entry.answer)
        value = [jsonable(codec.plain_form(*item)) for item in items.values]
    else:
        value = jsonable(codec.plain_form(entry.kind, entry.answer))
    turns = [*request_turns(row.request), *answer_turns(entry)]
    return {
        **row.facts(),
        "request": jsonable(row.request),
        "answer": value,
        "conversation": [{"role": turn.role, "text": turn.text} for turn in turns],
        "pieces": pieces,
    }


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
def explain(request: TextIO, where: Where, as_json: bool) -> None:
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
