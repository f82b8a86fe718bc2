"""``cachewrap show`` and ``explain``: one entry as a conversation, and why there is none."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any, Final

import click

from cachewrap.cache import Cache
from cachewrap.cli.entries import Row, facts_and_texts, find_one, read_row
from cachewrap.cli.guess import file_and_places, keys_and_places
from cachewrap.cli.places import Where, json_option, where_beside
from cachewrap.cli.text import clean, json_line, moment_text, size_text, span_text
from cachewrap.entries.conversation import (
    answer_pieces,
    jsonable,
    request_settings,
)
from cachewrap.entry import Kind
from cachewrap.errors import CorruptEntryError, printable


@click.command(
    "show",
    short_help="Show one entry as a conversation.",
    epilog="""\b
Examples:
  cachewrap show 5f0c
  cachewrap show .cache 5f0c e1 --timing
  cachewrap show 5f0c --json | jq .answer""",
)
@where_beside("keys", "[PLACE]... KEY...", keys_and_places)
@click.option("--timing", is_flag=True, help="Of a stream: every piece, and when it came.")
@json_option
def command(keys: list[str], where: Where, timing: bool, as_json: bool) -> None:
    """Show the entry under each KEY: what was asked, and what was answered.

    KEY is a key as `ls` and `f.cache_key(...)` give it, or as many of its first characters as no
    other key begins with, or what was given to `cache.set`. Exits with 1 if one has no entry.
    """
    shown, failed = 0, 0
    with where.opened() as places:
        for key in keys:
            try:
                place, name = find_one(places, key)
                row = read_row(place, name, place.get(name) or b"")
                text = json_line(_everything(row)) if as_json else "\n".join(_shown(row, timing))
            except (click.ClickException, CorruptEntryError) as error:
                failed += 1
                told = (
                    error.message if isinstance(error, click.ClickException) else f"{key}: {error}"
                )
                click.echo(f"Error: {clean(told)}", err=True)
                continue
            click.echo("\n" + text if shown and not as_json else text)
            shown += 1
    sys.exit(1 if failed else 0)


_WORDS: Final = {
    "cache_read_tokens": "read from the provider's cache",
    "cache_write_tokens": "written to it",
    "input_audio_tokens": "heard",
    "output_audio_tokens": "spoken",
    "reasoning_tokens": "thought",
    "web_searches": "searches",
}


def _tokens(row: Row) -> str:
    usage = row.usage
    if not (usage.tokens_in or usage.tokens_out):
        return ""
    told = usage.detailed()
    more = [f"{told[name]} {words}" for name, words in _WORDS.items() if told[name]]
    counts = f"{usage.tokens_in} in, {usage.tokens_out} out"
    return f"{counts} ({', '.join(more)})" if more else counts


def _shown(row: Row, timing: bool) -> list[str]:
    entry, request = row.entry, row.request
    target = _target(row)
    facts = [
        ("key", f"{row.key}  (seed {row.place.seed})"),
        ("alias of", row.alias_of),
        ("source", row.source),
        ("model", row.model),
        ("stored", f"{moment_text(entry.created)} UTC, {size_text(row.size)}"),
        ("expires", f"{moment_text(entry.expires)} UTC" if entry.expires else ""),
        ("sample", str(row.sample or "")),
        ("took", span_text(entry.seconds) if entry.seconds else ""),
        ("tokens", _tokens(row)),
        ("rules", f"{row.rules}: caches without them do not see it" if row.rules else ""),
        *(("by rule", rule) for rule in row.by),
        ("element", "of a list that was asked element by element" if row.element else ""),
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
    if row.by and request is not None:
        lines += ["", "It is shown as it was asked, before these rules changed it."]
    for turn in row.messages:
        lines += ["", f"── {printable(turn.role, 60)}", clean(turn.text)]
    if target is not None:
        entry = target.entry
    pieces = answer_pieces(entry)
    if not pieces:
        for turn in (target or row).answers():
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


def _target(row: Row) -> Row | None:
    """The entry that an alias leads to; None for what is none, and where nothing is stored there.

    Raises `CorruptEntryError`.
    """
    raw = row.place.get(row.alias_of) if row.alias_of else None
    return None if raw is None else read_row(row.place, row.alias_of, raw)


def _quoted(text: str) -> str:
    return clean(json.dumps(text, ensure_ascii=False))


def _everything(row: Row) -> dict[str, Any]:
    return {
        **facts_and_texts(row),
        "request": jsonable(row.request),
        "conversation": [{"role": turn.role, "text": turn.text} for turn in row.conversation],
        "pieces": [[piece.delay, piece.text] for piece in answer_pieces(row.entry)],
    }


@click.command(
    "explain",
    short_help="Say why a request is not stored, and what is nearest to it.",
    epilog="""\b
Examples:
  cachewrap explain body.json
  echo '{"model": "gpt-4o", "messages": […]}' | cachewrap explain -
  cachewrap show 5f0c2a --json | jq .request | cachewrap explain - --seed 7
  cachewrap explain body.json --same rules.toml""",
)
@where_beside("file", "FILE [PLACE]...", file_and_places)
@click.option(
    "--same",
    metavar="FILE",
    help="Rules of equality, in TOML: what they make equal is no difference.",
)
@json_option
def explain(file: str, where: Where, same: str | None, as_json: bool) -> None:
    """Compare the request in FILE (- is the input) with those that are stored.

    It is the JSON body of a request, or a whole canonical request as `show --json` gives it. Exits
    with 1 if no stored answer serves it.
    """
    if file.lstrip().startswith("{"):
        raise click.UsageError("give a file that holds the request, or - and it as the input")
    with click.open_file(file, encoding="utf-8") as request:
        try:
            asked = json.load(request)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"{file} is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise click.UsageError(f"{file} holds no JSON object")
    stored = False
    with where.opened() as places:
        for place in places:
            cache = Cache(place.store, cache_seed=place.seed, same=same or place.same)
            explanation = cache.explain(asked)
            stored = stored or explanation.stored
            if as_json:
                click.echo(json_line(jsonable(asdict(explanation))))
            else:
                click.echo(clean(str(explanation)))
    sys.exit(0 if stored else 1)
