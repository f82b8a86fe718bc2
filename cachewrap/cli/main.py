"""The command ``cachewrap``: its sub-commands, and how their errors become lines and statuses."""

from __future__ import annotations

import difflib
import errno
import os
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from keyword import iskeyword
from typing import Final

import click

from cachewrap.errors import (
    CacheWarning,
    CachewrapError,
    ConfigurationError,
    StoreError,
    printable,
)

USAGE: Final = 2
UNUSABLE: Final = 3
_INTERRUPTED: Final = 130

_COMMANDS: Final = (
    "alias",
    "clear",
    "completion",
    "copy",
    "env",
    "explain",
    "export",
    "help",
    "import",
    "ls",
    "prune",
    "report",
    "rm",
    "run",
    "runs",
    "seeds",
    "serve",
    "show",
    "stats",
    "suggest",
    "textconv",
    "verify",
    "view",
)
"""Each is `command` in the module of its name, behind which a keyword has a ``_``."""

_ELSEWHERE: Final = {
    "clear": "prune",
    "completion": "main",
    "copy": "transfer",
    "env": "run",
    "explain": "show",
    "help": "main",
    "rm": "prune",
    "view": "report",
}
"""Those that have no module of their own are there by their name."""

_ALIKE: Final[dict[str, str]] = {
    **dict.fromkeys(("list", "dir", "entries", "keys", "all"), "ls"),
    **dict.fromkeys(("search", "find", "grep", "query", "filter"), "ls --text TEXT"),
    **dict.fromkeys(("cat", "get", "print", "inspect", "display", "read"), "show"),
    **dict.fromkeys(("info", "status", "count", "size", "du", "usage", "summary"), "stats"),
    **dict.fromkeys(("delete", "del", "remove", "forget", "invalidate"), "rm"),
    **dict.fromkeys(("clean", "gc", "evict", "expire", "trim", "vacuum"), "prune"),
    **dict.fromkeys(("purge", "flush", "reset", "wipe", "empty", "drop"), "clear"),
    **dict.fromkeys(("cp", "sync", "mv", "move", "push", "pull", "migrate", "clone"), "copy"),
    **dict.fromkeys(("dump", "save", "backup", "csv", "json"), "export"),
    **dict.fromkeys(("load", "restore", "add"), "import"),
    **dict.fromkeys(("check", "validate", "fsck", "doctor", "test", "audit"), "verify"),
    **dict.fromkeys(("why", "debug", "miss"), "explain"),
    **dict.fromkeys(("diff", "compare", "cmp"), "runs diff"),
    **dict.fromkeys(("history", "log", "logs", "ledger", "trace", "experiments"), "runs"),
    **dict.fromkeys(("sessions", "timeline", "calls"), "runs show"),
    "rename": "runs rename",
    **dict.fromkeys(
        ("advise", "dedupe", "duplicates", "optimize", "propose", "similar"), "suggest"
    ),
    **dict.fromkeys(("html", "page", "dashboard"), "report"),
    **dict.fromkeys(("open", "ui", "browse", "web"), "view"),
    **dict.fromkeys(("proxy", "server", "listen", "gateway", "daemon"), "serve"),
    **dict.fromkeys(("exec", "start", "with", "record", "replay"), "run"),
    **dict.fromkeys(("seed", "partitions", "caches"), "seeds"),
    **dict.fromkeys(("aliases", "link", "ln", "same"), "alias"),
    "version": "--version",
}
"""What is typed by those who know other tools."""

_OPTIONS_ALIKE: Final[dict[str, tuple[str, ...]]] = {
    "--all": ("--all-seeds",),
    "--cache-seed": ("--seed",),
    "--contains": ("--text",),
    "--count": ("--limit",),
    "--dryrun": ("--dry-run",),
    "--endpoint": ("--source",),
    "--force": ("--yes", "--overwrite"),
    "--grep": ("--text",),
    "--head": ("--limit",),
    "--last": ("--newer-than",),
    "--max": ("--limit",),
    "--max-size": ("--max-bytes",),
    "--namespace": ("--url",),
    "--order": ("--sort",),
    "--out": ("--output",),
    "--query": ("--text",),
    "--search": ("--text",),
    "--since": ("--newer-than",),
    "--top": ("--limit",),
    "--until": ("--older-than",),
    "--address": ("--host",),
    "--bind": ("--host",),
    "--proxy": ("--serve",),
    "--quiet": ("--log",),
    "--record": ("--mode",),
    "--replay": ("--mode",),
    "--server": ("--serve",),
    "--verbose": ("--log",),
    "--listen": ("--host",),
    "--before": ("--older-than",),
    "--after": ("--newer-than",),
    "-p": ("--port",),
    "-w": ("--workers",),
    "-n": ("--limit", "--dry-run"),
    "-s": ("--seed",),
    "-f": ("--force", "--yes"),
    "-y": ("--yes",),
    "-u": ("--url",),
    "-o": ("--output",),
    **dict.fromkeys(("--run", "--run-name"), ("--name",)),
    **dict.fromkeys(("--no-record", "--no-history", "--no-runs"), ("--no-ledger",)),
}
_LACKS: Final[dict[str, str]] = {
    "run": "give the program: cachewrap run agent.py",
    **dict.fromkeys(("show", "rm"), "give a key, or its beginning: cachewrap ls lists them"),
    "export": "give the file: cachewrap export answers.jsonl",
    "import": "give the file: cachewrap import answers.jsonl",
    "copy": "give the cache that is copied to: cachewrap copy .cache redis://localhost/0",
    "explain": "give the file of a request: cachewrap explain body.json",
    "completion": "give the name of your shell: bash, zsh or fish",
    "alias add": "give two keys: cachewrap alias add KEY TARGET",
    "alias rm": "give a key, or its beginning: cachewrap alias ls lists them",
    "runs rename": "give two names: cachewrap runs rename OLD NEW",
    "runs export": "give the run: cachewrap runs lists them",
    "runs diff": "give two runs: cachewrap runs diff baseline candidate",
}
"""What is said where a command has no word of its own."""

_OF_PLACES: Final = frozenset(
    "--cache --cache-dir --cache-path --db --dir --directory --file --folder --jsonl --path --place"
    " --root --uri -d".split()
)


class Commands(click.Group):
    """The sub-commands, each imported from its module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        # Imported when it is called: `cachewrap run` must not wait for what `ls` needs.
        home = _ELSEWHERE.get(cmd_name, cmd_name + "_" * iskeyword(cmd_name))
        module = import_module(f"cachewrap.cli.{home}")
        name = cmd_name if cmd_name in _ELSEWHERE else "command"
        name += "_" * (cmd_name == "help")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            told = f": did you mean {meant}?" if (meant := _meant(args)) else ""
            ctx.fail(f"No such command {args[0]!r}{told}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OSError as error:  # click would make status 1 of a reader that has seen enough
            ctx.exit(_refused(error))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Where the cache is: PLACE, else CACHEWRAP_URL, else .cache
  .cache                     a folder with one folder for each seed
  answers.jsonl              one file, a line for each entry; also .jsonl.gz
  tests/cassettes            a folder of such files
  redis://host:6379/0        also rediss:// (TLS), unix://, redis+cluster://
                             and redis+sentinel://
A seed is a draw of answers, 41 where none is named: `seeds` lists them.
A cache that is encrypted is read with the key in CACHEWRAP_ENCRYPTION_KEY.

\b
Exit statuses:
  0  done
  1  done, and something was found or left over: damaged entries, no such key;
     or the seed has no entries, and others have
  2  a wrong option or URL
  3  the cache cannot be used: no cache there, a server that is down;
     or a file or the output cannot be read or written: a full disk
  130  interrupted; export, import and copy go on when they are started again
`run` has the exit status of the program.""",
)
@click.version_option(None, "-V", "--version", package_name="cachewrap")
def cli() -> None:
    """Run programs with every model call cached, and look at the answers that are stored.

    \b
    cachewrap run agent.py         run a program: no call is made twice
    cachewrap ls                   list what it stored in .cache
    cachewrap ls tests/cassettes   …or what another place holds: see below
    cachewrap show 5f0c            show an answer, by the beginning of its key
    cachewrap stats                count them: tokens, time, money
    cachewrap runs                 list the runs: what each asked, and saved
    cachewrap help ls              tell more of a command
    """


def _meant(words: list[str]) -> str:
    """What was meant by words that begin with no command; "" where it cannot be told."""
    word = words[0]
    if meant := _ALIKE.get(word.lower()):
        return meant
    whole = " ".join(words)
    if word.endswith((".py", ".ipynb")):
        return f"cachewrap run {whole}"
    if import_module("cachewrap.cli.guess").is_place(word):
        return f"cachewrap ls {whole}"
    if close := difflib.get_close_matches(word.lower(), _COMMANDS, 2, 0.6):
        return " or ".join(close)
    if import_module("shutil").which(word):
        return f"cachewrap run {whole}"
    close = difflib.get_close_matches(word.lower(), _ALIKE, 1, 0.8)
    return _ALIKE[close[0]] if close else ""


def _explained(error: click.ClickException) -> click.ClickException:
    """An error, with what was meant where an option is none, and what to give where none was."""
    if isinstance(error, click.MissingParameter) and error.ctx:
        lack = _LACKS.get(error.ctx.command_path.partition(" ")[2])
        return click.UsageError(lack, ctx=error.ctx) if lack else error
    return _of_option(error) if isinstance(error, click.NoSuchOption) else error


def _of_option(error: click.NoSuchOption) -> click.UsageError:
    name, context = error.option_name, error.ctx
    known = {one for p in context.command.params for one in p.opts} if context else set()
    if alike := [one for one in _OPTIONS_ALIKE.get(name, ()) if one in known]:
        told = f"No such option {name!r}: did you mean {' or '.join(alike)}?"
        return click.UsageError(told, ctx=context)
    if context and context.command_path == "cachewrap run":
        more = "did you mean --disk or --url?" if name in _OF_PLACES else "those of a program"
        more += "" if name in _OF_PLACES else " stand behind it"
        return click.UsageError(f"No such option {name!r}: {more}", ctx=context)
    if name in _OF_PLACES and "--url" in known:
        told = f"No such option {name!r}. A place needs none: cachewrap ls .cache"
        return click.UsageError(told, ctx=context)
    return error


@click.command(
    "help",
    short_help="Tell how a command is used.",
    epilog="""\b
Examples:
  cachewrap help
  cachewrap help ls""",
)
@click.argument(
    "words",
    metavar="[COMMAND]...",
    nargs=-1,
    shell_complete=lambda ctx, param, begun: [c for c in _COMMANDS if c.startswith(begun)],
)
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Tell what COMMAND does, with its options and examples."""
    if not words:
        click.echo(cli.get_help(context.find_root()))
        return
    told, rest = context.find_root(), list(words)
    group: click.Group = cli
    while rest:
        name, command, rest = group.resolve_command(told, rest)
        assert command is not None
        told = click.Context(command, info_name=name, parent=told)
        if not isinstance(command, click.Group):
            break
        group = command
    click.echo(told.get_help())


@click.command(
    "completion",
    short_help="Print a script that completes this command line in your shell.",
    epilog="""\b
Examples:
  cachewrap completion bash >> ~/.bashrc
  cachewrap completion zsh > ~/.zfunc/_cachewrap
  cachewrap completion fish > ~/.config/fish/completions/cachewrap.fish""",
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes this command line in SHELL."""
    found = import_module("click.shell_completion").get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, "cachewrap", "_CACHEWRAP_COMPLETE")
    click.echo(script.source())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status.

    Args:
        arguments: those behind the command's name; by default the process's own.
    """
    warnings.simplefilter("ignore", CacheWarning)
    if os.name == "nt":
        _write_utf_8()
    try:
        status = cli.main(arguments, "cachewrap", standalone_mode=False)
        if sys.stdout is not None:  # a service may be started without one
            sys.stdout.flush()
    except click.ClickException as error:
        _explained(error).show()
        status = error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        status = _INTERRUPTED
    except OSError as error:
        status = _refused(error)
    except CachewrapError as error:
        click.echo(f"cachewrap: {printable(' '.join(str(error).split()), 2000)}", err=True)
        status = UNUSABLE if isinstance(error, StoreError) else USAGE
        if not isinstance(error, (StoreError, ConfigurationError)):
            status = 1
    sys.exit(status or 0)


def _write_utf_8() -> None:
    """Write what models say to files and pipes, where Windows has letters of one language alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def _refused(error: OSError) -> int:
    """Say what the system refused, unless whoever reads our output has seen enough."""
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at its end, and fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return 0
    click.echo(f"cachewrap: {printable(str(error), 2000)}", err=True)
    return UNUSABLE
