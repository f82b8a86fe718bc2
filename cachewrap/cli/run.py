"""``cachewrap run`` and ``cachewrap env``: a program of any kind with a cache, unchanged."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final, cast

import click

from cachewrap import systems
from cachewrap.cli.options import DEFAULT_URL, left_out, one_url, together, whole_url
from cachewrap.errors import ConfigurationError
from cachewrap.http import routes
from cachewrap.keyed import UNKEYED_VARIABLE
from cachewrap.ledger.names import check_name, new_unnamed
from cachewrap.policy import (
    LEDGER_VARIABLE,
    MODE_VARIABLE,
    MODES,
    CacheOptions,
    make_policy,
    seed_text,
)
from cachewrap.run.program import QUIET, RUN, RUN_ID, TALLY, URL
from cachewrap.stores.seed_folders import check, folder_name
from cachewrap.urls import absolute, parse_url

_PATH: Final = "PYTHONPATH"
_BOOTSTRAP: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "run", "bootstrap")
_BEGIN: Final = ("-m", "-c", "-", "--")
"""Where a program begins that is given to Python."""

_SCRIPTS: Final = (".py", ".pyw", ".pyz")


_OURS: Final = frozenset(("--disk", "--redis", "--unkeyed", "--same", "--no-ledger"))
"""Options that hardly any program has beside us."""


class _Run(click.Command):
    """Its own options end where the program begins: at ``-m``, ``-c``, or the first plain word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        valued = {name for p in self.params if not getattr(p, "is_flag", True) for name in p.opts}
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in _BEGIN:
            at += 2 if args[at] in valued else 1
        own, rest = args[:at], args[at:]
        rest = rest[1:] if rest[:1] == ["--"] else rest
        return super().parse_args(ctx, [*own, "--", *rest])


cache_options: Final = together(
    click.option("--disk", metavar="DIR", help="The cache in this folder."),
    click.option("--redis", metavar="URL", help="The cache on this server."),
    click.option("--url", metavar="URL", help="The cache, as in Cache.from_url."),
    click.option("--seed", metavar="SEED", help="The seed; by default the URL's, else 41."),
    click.option("--mode", type=click.Choice(MODES), help="What is done with a call."),
    click.option(
        "--host",
        metavar="PATTERN",
        multiple=True,
        help="A host where models are (host or host:port, with * for any text); may be repeated.",
    ),
    click.option("--samples", is_flag=True, help="The n-th same request is its own sample."),
    click.option(
        "--unkeyed",
        metavar="NAME",
        multiple=True,
        help="A header, query parameter or field of the body that makes no other request.",
    ),
    click.option("--same", metavar="FILE", help="Rules of what makes no other request, in TOML."),
    click.option(
        "--name", metavar="NAME", help="The run's: cachewrap runs show NAME tells what it asked."
    ),
    click.option("--no-ledger", is_flag=True, help="Do not keep what the run asks."),
    click.option("--quiet", "-q", is_flag=True, help="Print nothing at the end."),
)


@click.command(
    "run",
    cls=_Run,
    short_help="Run a program with every model call cached.",
    epilog="""\b
Examples:
  cachewrap run agent.py --verbose
  cachewrap run --redis redis://localhost/0 --seed 7 -m my_package.main
  cachewrap run --disk /srv/answers pytest -q
  cachewrap run --name baseline eval.py
  cachewrap run --same rules.toml agent.py
  cachewrap run --host model.internal:8000 agent.py
  cachewrap run --serve --mode replay npm test
  CACHEWRAP_URL=redis://cache/0 cachewrap run --quiet uvicorn app:api

\b
Environment, for services:
  CACHEWRAP_URL       the cache, where no option names one (else disk:.cache)
  CACHEWRAP_MODE      what --mode says, where neither it nor the URL does
  CACHEWRAP_HOSTS     hosts of models, as of --host, with commas between
  CACHEWRAP_UNKEYED   names as of --unkeyed, with commas between
  CACHEWRAP_RUN       the name of the run, as of --name
  CACHEWRAP_LEDGER    0: do not keep what the run asks
  CACHEWRAP_QUIET     1: print nothing at the end
  CACHEWRAP_ENCRYPTION_KEY   encrypts what is stored""",
)
@cache_options
@click.option(
    "--serve",
    is_flag=True,
    help="Ask models through a proxy, for commands that are no Python: npm test, curl.",
)
@click.option(
    "--upstream",
    metavar="NAME=URL",
    multiple=True,
    help="With --serve: a server that the proxy knows by this name; may be repeated.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="With --serve: the proxy's port.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    program: tuple[str, ...], serve: bool, upstream: tuple[str, ...], port: int | None, **given: Any
) -> None:
    """Run PROGRAM with the SDKs patched and a cache active in all of it.

    PROGRAM is a Python file, a folder with a __main__.py, -m MODULE, -c CODE, or any command that
    starts Python (pytest, uvicorn, uv run agent.py). Its options stand behind it, those of
    cachewrap before it. The cache serves its threads and its Python sub-processes as well, and
    decorated functions. A block of its own (`with Cache.…`) goes before it.

    Over plain HTTP the hosts of known providers are cached, and models on loopback and private
    addresses; --host names others.

    The program takes the place of this command (on Windows, where none can, this command waits for
    it): arguments, exit status, signals, input and tracebacks are its own. At its end it says on
    stderr what was saved.

    A Python of another environment, which has no cachewrap, runs without a cache; so does one that
    is started with -I, -E or -S, or without the environment.

    With --serve PROGRAM is any command: Node, Go, curl, a shell. A proxy stands beside it
    (cachewrap help serve), and the variables of which SDKs read their base URL lead to it:
    OPENAI_BASE_URL, ANTHROPIC_BASE_URL and their like. Nothing is patched.
    """
    if not serve and (upstream or port is not None):
        option = "--upstream" if upstream else "--port"
        raise click.UsageError(f"{option} is of the proxy: give --serve as well")
    if serve and given["host"]:
        raise click.UsageError("with --serve a server has a name: --upstream NAME=URL, not --host")
    variables = {**environment(**given), RUN_ID: new_unnamed()}
    try:
        path, words = _resolve(program)
    except _NotRun as error:
        if serve and os.path.isfile(program[0]):
            vars(error)["exit_code"] = 126  # as shells have it
        raise
    if not given["quiet"] and (behind := [one for one in program[1:] if one in _OURS]):
        told = f"{behind[0]} is given to {program[0]}: for cachewrap it stands in front of it"
        click.echo(f"cachewrap: {told}", err=True)
    inherited = {name: value for name, value in os.environ.items() if name != TALLY}
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a service may be started without one
            stream.flush()
    if serve:
        sys.exit(_run_beside_proxy(path, words, inherited, variables, upstream, port or 0))
    try:
        _become(path, words, {**inherited, **variables})
    except OSError as error:
        raise _NotRun(program[0], error.strerror or str(error)) from None


def _run_beside_proxy(
    path: str,
    words: list[str],
    inherited: dict[str, str],
    variables: dict[str, str],
    upstreams: tuple[str, ...],
    port: int,
) -> int:
    """Run a command, unpatched, and a proxy as long; its exit status."""
    from cachewrap.cli import run_serve  # which takes a while
    from cachewrap.proxy.settings import Settings

    settings = Settings(url=variables[URL], port=port, upstreams=upstreams)
    for name in (RUN, RUN_ID, LEDGER_VARIABLE):
        if name in variables:
            os.environ[name] = variables[name]
    if others := _without_ours(inherited.get(_PATH, "")):
        inherited[_PATH] = os.pathsep.join(others)
    else:
        inherited.pop(_PATH, None)
    try:
        return run_serve.run(path, words, settings, inherited, quiet=QUIET in variables)
    except run_serve.CannotStart as error:
        raise _NotRun(words[0], str(error), error.status) from None


def _without_ours(path: str) -> list[str]:
    return [part for part in path.split(os.pathsep) if part and part != _BOOTSTRAP]


def _become(path: str, words: list[str], variables: dict[str, str]) -> None:
    """Let a program take the place of this one, or, where none can, stand in front of it."""
    if not systems.HAS_FORKS:  # on Windows `exec` ends this process, and starts another beside it
        sys.exit(_stand_before([path, *words[1:]], variables))
    for name in ("SIGPIPE", "SIGXFSZ"):  # ignored by Python, and that would be inherited
        if (ignored := getattr(signal, name, None)) is not None:
            signal.signal(ignored, signal.SIG_DFL)
    os.execve(path, words, variables)


def _stand_before(words: list[str], variables: dict[str, str]) -> int:
    """Run a program and wait for it; its exit status."""
    import subprocess  # which takes a while, and is for Windows alone

    # An interrupt reaches both: what comes of it is for the program to say.
    signal.signal(signal.SIGINT, lambda *_: None)
    return subprocess.run(words, env=variables).returncode


def environment(
    disk: str | None,
    redis: str | None,
    url: str | None,
    seed: str | None,
    mode: str | None,
    host: tuple[str, ...],
    samples: bool,
    unkeyed: tuple[str, ...],
    same: str | None,
    name: str | None,
    no_ledger: bool,
    quiet: bool,
) -> dict[str, str]:
    """The variables of a program that is cached. Raises `UsageError`, and `StoreError`."""
    at = one_url(disk, redis, url) or os.environ.get(URL) or DEFAULT_URL
    given = {"cache_seed": seed, "mode": mode, "samples": "true" if samples else None}
    if same is not None:
        given["same"] = absolute(same)
    if unkeyed:
        given["unkeyed"] = left_out(at, unkeyed)
    whole = whole_url(at, given)
    _check(whole)
    others = _without_ours(os.environ.get(_PATH, ""))
    found = {_PATH: os.pathsep.join([_BOOTSTRAP, *others]), URL: whole}
    if mode is not None:
        found[MODE_VARIABLE] = mode  # blocks of the program's own obey it as well
    named = (*routes.hosts_of_environment(), *host)
    if host:
        try:
            routes.patterns_of(host)
        except ConfigurationError as error:
            raise click.UsageError(f"--host: {error}") from None
        found[routes.VARIABLE] = ",".join(named)
    if names := given.get("unkeyed"):
        found[UNKEYED_VARIABLE] = names
    found.update(_of_run(name, no_ledger, whole))
    if quiet:
        found[QUIET] = "1"
    return found


def _of_run(name: str | None, no_ledger: bool, url: str) -> dict[str, str]:
    """The variables that say whether, and under which name, is kept what a program asks."""
    if no_ledger:
        if name is not None:
            raise click.UsageError("give --name or --no-ledger, not both")
        return {LEDGER_VARIABLE: "0"}
    named = name if name is not None else os.environ.get(RUN) or None
    if named is None:
        return {}
    try:
        check_name(named)
    except ConfigurationError as error:
        raise click.UsageError(f"{RUN if name is None else '--name'}: {error}") from None
    if name is None:
        return {}
    if parse_url(url)[2].get("ledger") is False:
        raise click.UsageError("--name keeps what is asked, and the URL's ledger=false does not")
    return {RUN: name, LEDGER_VARIABLE: "1"}


def _check(url: str) -> None:
    """Raise what opening the cache would.

    Of a usual one on disk without what serves calls, which takes longer to import than all else
    that is done here.
    """
    kind, place, options = parse_url(url)
    if kind == "disk" and options.keys() <= _USUAL:
        seed = seed_text(options.pop("cache_seed", 41))
        policy = make_policy(cast(CacheOptions, options))
        if not policy.encryption_keys:
            if policy.mode in ("normal", "refresh"):
                root = absolute(place)
                check(root, os.path.join(root, folder_name(seed)))
            return
    from cachewrap.cache import Cache

    Cache.from_url(url).check()


_USUAL: Final = frozenset({"cache_seed", "ledger", "mode", "same", "samples", "ttl", "unkeyed"})


def _resolve(program: tuple[str, ...]) -> tuple[str, list[str]]:
    """What to execute, and its arguments."""
    first = program[0]
    python = sys.executable, [sys.executable, *program]
    if first in ("-m", "-c", "-"):
        return python
    if first.endswith(_SCRIPTS) and os.path.isfile(first):
        return python
    if os.path.isdir(first) and os.path.isfile(os.path.join(first, "__main__.py")):
        return python
    import shutil  # which takes a while, and is not needed for a script of Python

    found = shutil.which(first)
    if found is not None:
        return found, list(program)
    if first in ("python", "python3"):  # where there is none by this name, there is this one
        return sys.executable, [sys.executable, *program[1:]]
    if os.path.isfile(first) and _is_python(first):
        return python
    raise _NotRun(first, _why_not(program))


def _is_python(path: str) -> bool:
    """Whether a file that cannot be executed may be a program of Python's."""
    if path.endswith((".ipynb", ".sh", ".jsonl", ".json", ".toml", ".yaml", ".yml", ".md")):
        return False
    with open(path, "rb") as file:
        begins = file.readline(200)
    return not begins.startswith(b"#!") or b"python" in begins


def _why_not(program: tuple[str, ...]) -> str:
    """Why something is no program, and what may have been meant."""
    from cachewrap.cli import guess  # which takes a while, and is for mistakes alone

    first, rest = program[0], " ".join(program[1:] or ("PROGRAM",))
    module = first.strip("./").removesuffix(".py").replace(os.sep, ".")
    if first.endswith(".ipynb"):
        return (
            "a notebook is run by its kernel. Put this into its first cell: import cachewrap;"
            ' cachewrap.activate("disk:.cache"). Or run all of it:'
            f" cachewrap run jupyter execute {first}"
        )
    if guess.is_url(first):
        return f"it is a cache: cachewrap run --url {first} {rest}"
    if os.path.isdir(first):
        if guess.holds_seeds(first):
            return f"it is a cache: cachewrap run --disk {first} {rest}"
        if os.path.isfile(os.path.join(first, "__init__.py")):
            return f"a folder without __main__.py. Name a module in it: -m {module}.…"
        return "a folder without __main__.py is no program"
    if first.endswith(guess.CASSETTE) and (guess.is_cassette(first) or not os.path.exists(first)):
        return f"it is a cache: cachewrap run --url jsonl:{first} {rest}"
    if os.path.isfile(first):
        if first.endswith(".sh"):
            return f"it cannot be executed: cachewrap run sh {first}"
        return "it is neither a Python file, nor can it be executed (chmod +x)"
    if " " in first:
        return f"no such command. Without quotes: cachewrap run {first}"
    if "=" in first:
        return f"no such command. A variable stands in front: {first} cachewrap run {rest}"
    if os.path.isfile(f"{first}.py"):
        return f"no such command. The file is {first}.py"
    if os.path.exists(os.path.join(*module.split("."), "")) or os.path.isfile(
        f"{os.path.join(*module.split('.'))}.py"
    ):
        return f"no such command. As a module: cachewrap run -m {module}"
    import difflib

    names = [name for name in os.listdir(os.path.dirname(first) or ".") if name.endswith(_SCRIPTS)]
    if close := difflib.get_close_matches(os.path.basename(first), names, 1):
        return f"no such file, and no such command: did you mean {close[0]}?"
    return "no such file, and no such command"


class _NotRun(click.ClickException):
    def __init__(self, name: str, why: str, status: int = 127) -> None:
        super().__init__(f"cannot run {name!r}: {why}")
        vars(self)["exit_code"] = status  # as shells have it


@click.command(
    "env",
    short_help="Print the environment in which programs are cached.",
    epilog="""\b
Examples:
  eval "$(cachewrap env --redis redis://localhost/0)"
  cachewrap env --disk /srv/answers >> service.env""",
)
@cache_options
def env(**given: Any) -> None:
    """Print what `run` sets, as a shell reads it: Python programs started with it are cached."""
    import shlex

    for name, value in environment(**given).items():
        click.echo(f"export {name}={shlex.quote(value)}")
