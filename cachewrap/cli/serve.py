"""``cachewrap serve``: the cache for every program that speaks HTTP."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from contextlib import suppress
from typing import Final

import click

from cachewrap.cache import Cache
from cachewrap.cli.entries import size
from cachewrap.cli.guess import target_url
from cachewrap.cli.options import importing_proxy, left_out, together, whole_url
from cachewrap.cli.places import allow_many_files, named_url, url_options
from cachewrap.cli.text import is_terminal
from cachewrap.errors import StoreError, printable
from cachewrap.policy import MODES
from cachewrap.proxy.known import PROVIDERS
from cachewrap.proxy.settings import PORT, Limits, Settings
from cachewrap.urls import absolute, parse_url

TOKEN: Final = "CACHEWRAP_TOKEN"
"""The environment variable with the token that clients must know."""

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DEFAULT: Final = Limits()
_MOST_WORKERS: Final = 256


def _span(text: str) -> float:
    found = _SPAN.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise click.BadParameter(f"give seconds, or 90s, 15m, 12h, 30d; got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]


@click.command(
    "serve",
    short_help="Serve the cache over HTTP, to programs in any language.",
    epilog="""\b
Examples:
  cachewrap serve .cache
  cachewrap serve redis://localhost/0 --workers 4
  cachewrap serve tests/answers.jsonl --mode replay --port 0
  cachewrap serve --upstream local=http://127.0.0.1:8000
  cachewrap serve --host 0.0.0.0 --token-file /run/secrets/token

\b
Then, in another terminal:
  OPENAI_BASE_URL=http://127.0.0.1:8141/openai/v1 node app.js
  ANTHROPIC_BASE_URL=http://127.0.0.1:8141/anthropic claude

\b
Environment:
  CACHEWRAP_URL       the cache, where neither PLACE nor an option names one
  CACHEWRAP_TOKEN     the token, where no option gives one
  CACHEWRAP_MODE, CACHEWRAP_UNKEYED, CACHEWRAP_ENCRYPTION_KEY   as of `run`""",
)
@click.argument("place", required=False, metavar="[PLACE]", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="The port; 0 takes one that is free.",
)
@click.option(
    "--upstream",
    "upstreams",
    metavar="NAME=URL",
    multiple=True,
    help="A server that is reached as /NAME, beside the known providers; may be repeated.",
)
@click.option(
    "--token",
    metavar="TEXT",
    help=f"What clients must know. Others on this machine see it in the list of processes: better"
    f" is {TOKEN} in the environment, or --token-file.",
)
@click.option("--token-file", metavar="FILE", type=click.Path(), help="The file that holds it.")
@click.option("--seed", metavar="SEED", help="The seed; by default the URL's, else 41.")
@click.option("--mode", type=click.Choice(MODES), help="What is done with a call.")
@click.option("--ttl", type=_span, metavar="SPAN", help="How long an answer stays fresh: 12h, 30d.")
@click.option(
    "--keyed",
    metavar="NAME",
    multiple=True,
    help="A header that makes another request, such as authorization; may be repeated.",
)
@click.option(
    "--unkeyed",
    metavar="NAME",
    multiple=True,
    help="A header, query parameter or field of the body that makes no other request.",
)
@click.option("--same", metavar="FILE", help="Rules of what makes no other request, in TOML.")
@click.option("--pace", is_flag=True, help="Stored streams come as slowly as they were recorded.")
@click.option(
    "--workers",
    type=click.IntRange(1, _MOST_WORKERS),
    default=1,
    show_default=True,
    help="How many processes answer.",
)
@click.option(
    "--log",
    type=click.Choice(("json", "text", "off")),
    default="json",
    show_default=True,
    help="A line on stderr for each request.",
)
@click.option(
    "--max-body",
    type=size,
    metavar="SIZE",
    default="1G",
    show_default=True,
    help="The largest body of a request.",
)
@click.option(
    "--timeout",
    type=_span,
    metavar="SPAN",
    default=f"{_DEFAULT.upstream_seconds:.0f}s",
    show_default=True,
    help="How long an upstream may send nothing.",
)
@click.option(
    "--max-time",
    type=_span,
    metavar="SPAN",
    help="How long a request may take to the end of its answer; by default as long as it does.",
)
@click.option(
    "--grace",
    type=_span,
    metavar="SPAN",
    default=f"{_DEFAULT.end_seconds:.0f}s",
    show_default=True,
    help="How long answers under way may take at the end.",
)
@together(*url_options)
def command(
    place: str | None,
    host: str,
    port: int,
    upstreams: tuple[str, ...],
    token: str | None,
    token_file: str | None,
    seed: str | None,
    mode: str | None,
    ttl: float | None,
    keyed: tuple[str, ...],
    unkeyed: tuple[str, ...],
    same: str | None,
    pace: bool,
    workers: int,
    log: str,
    max_body: int,
    timeout: float,
    max_time: float | None,
    grace: float,
    url: str,
    disk: str | None,
    redis: str | None,
) -> None:
    """Serve the answers in PLACE to programs that have a base URL, and ask for what is not there.

    PLACE is a folder, a file (answers.jsonl) or a URL; it is made where there is none. The first
    line on stdout is the address, as soon as it answers. The first part of a path names the
    provider: /openai/v1/chat/completions goes to https://api.openai.com/v1/chat/completions, unless
    its answer is stored. Nothing is reached but the known providers and what --upstream names.

    Entries are those of `cachewrap run` and of the patched SDKs: what one recorded the other finds.

    Whoever reaches it is given what is stored: an address that other machines reach needs a token,
    which clients send as the header x-cachewrap-token or as the first part of the path.

    SIGTERM and an interrupt let answers under way come to their end; a second one does not.
    /healthz tells that it answers, and /metrics what it counted, in the form of Prometheus.
    """
    with importing_proxy("cachewrap serve"):
        import h11
        import prometheus_client
    del h11, prometheus_client
    _hold_standard_files()
    secret = _token(token, token_file)
    named = named_url(url, disk, redis)
    if place is not None and named is not None:
        raise click.UsageError(f"give {place} or --url, --disk, --redis, not both")
    at = _place(place) if place is not None else named or url
    options = {
        "cache_seed": seed,
        "mode": mode,
        "ttl": None if ttl is None else f"{ttl:.15g}",
        "keyed": ",".join([*(parse_url(at)[2].get("keyed") or ()), *keyed]) if keyed else None,
        "unkeyed": left_out(at, unkeyed) if unkeyed else None,
        "same": None if same is None else absolute(same),
    }
    settings = Settings(
        url=whole_url(at, options),
        host=host,
        port=port,
        upstreams=upstreams,
        token=secret,
        workers=workers,
        pace=pace,
        log=log,
        limits=Limits(
            body_bytes=max_body,
            upstream_seconds=timeout,
            total_seconds=max_time or 0.0,
            end_seconds=grace,
        ),
    )
    _check(settings)
    allow_many_files()
    from cachewrap.proxy import workers as processes

    try:
        status = processes.serve(settings, _started)
    except OSError as error:
        raise _NotHeard(settings, error) from None
    sys.exit(status)


def _hold_standard_files() -> None:
    """Let no file of a store or connection have a number to which lines about calls are written."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # it was closed before we began, and is the lowest that is free
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _place(text: str) -> str:
    """The URL of the place that a word names. Raises `UsageError` for what means something else."""
    if text.lower().startswith(("http://", "https://")):
        raise click.UsageError(
            "PLACE is where answers are stored, and that is the URL of a server to ask: give"
            " --upstream NAME=URL, and ask it as /NAME"
        )
    if not os.path.exists(text):
        if text.isdecimal():
            raise click.UsageError(
                f"PLACE is where answers are stored: give --port {text}, or ./{text} for a folder"
                " of that name"
            )
        if text in PROVIDERS:
            raise click.UsageError(
                f"PLACE is where answers are stored: {text} is asked as /{text} without being"
                f" named here, and ./{text} is a folder of that name"
            )
    return target_url(text)


def _token(given: str | None, file: str | None) -> str:
    """The token that clients must know; ``""`` for none. Raises `UsageError`."""
    if given is not None and file is not None:
        raise click.UsageError("give --token or --token-file, not both")
    text, name = given, "--token"
    if file is not None:
        name = file
        try:
            with open(file, encoding="utf-8") as opened:
                text = opened.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise click.UsageError(f"the token cannot be read from {file}: {why}") from None
    elif text is None:
        text, name = os.environ.get(TOKEN), TOKEN
        if not text:
            return ""
    if not text:
        raise click.UsageError(f"{name} holds no token: it is empty")
    if not (text.isascii() and text.isprintable()) or set(text) & set(" /?#%"):
        raise click.UsageError(
            f"the token in {name} cannot be sent: it is one word of letters, digits and signs, "
            "without / ? # and %"
        )
    return text


def _check(settings: Settings) -> None:
    """Raise what is wrong with the cache, before anybody is promised an answer."""
    cache = Cache.from_url(settings.url)
    cache.check()
    try:
        cache.store.get("0" * 64)
    except StoreError as error:
        told = printable(" ".join(str(error).split()), 1000)
        click.echo(f"cachewrap: calls go on without the cache until it is there: {told}", err=True)
    finally:
        cache.close()


def _started(address: str) -> None:
    """Say where it listens; at a terminal what to do with it, too."""
    if sys.stdout is None:  # a service may be started without one
        return
    with suppress(OSError):  # whoever started it may not read what it says
        click.echo(address)
        sys.stdout.flush()
    if is_terminal(sys.stdout):
        click.echo(
            f"In another terminal: OPENAI_BASE_URL={address}/openai/v1 node app.js\n"
            f"                     ANTHROPIC_BASE_URL={address}/anthropic claude\n"
            "Ctrl-C ends it.",
            err=True,
        )


class _NotHeard(click.ClickException):
    def __init__(self, settings: Settings, error: OSError) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        why = error.strerror or str(error)
        hint = ""
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            hint = ": give a --host that is an address of this machine"
        elif settings.port:
            hint = ": give another --port, or 0 for one that is free"
        super().__init__(f"cannot listen on {host}:{settings.port}: {why}{hint}")
