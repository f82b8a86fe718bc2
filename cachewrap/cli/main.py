"""The command ``cachewrap``: its sub-commands, and how their errors become lines and statuses."""

from __future__ import annotations

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
    "clear",
    "completion",
    "copy",
    "env",
    "explain",
    "export",
    "import",
    "ls",
    "prune",
    "report",
    "rm",
    "run",
    "show",
    "stats",
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
    "rm": "prune",
    "view": "report",
}
"""Those that have no module of their own are there by their name."""


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
        command: click.Command = getattr(module, name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OSError as error:  # click would make status 1 of a reader that has seen enough
            ctx.exit(_refused(error))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Where the cache is: --url, else CACHEWRAP_URL, else disk:.cache
  disk:/srv/answers          a folder with one folder for each seed
  jsonl:answers.jsonl        one file, a line for each entry
  redis://host:6379/0        also unix:// and redis+cluster://, redis+sentinel://; rediss is TLS
A cache that is encrypted is read with the key in CACHEWRAP_ENCRYPTION_KEY.

\b
Exit statuses:
  0  done
  1  done, and something was found or left over: damaged entries, no such key
  2  a wrong option or URL
  3  the cache cannot be used: no cache there, a server that is down;
     or a file or the output cannot be read or written: a full disk
  130  interrupted; export, import and copy go on where they were when started again
`run` has the exit status of the program.

\b
Examples:
  cachewrap run --disk .cache agent.py --verbose
  cachewrap stats
  cachewrap ls --model 'gpt-4*' --text refund --newer-than 2d
  cachewrap prune --older-than 30d --max-bytes 2G --dry-run""",
)
@click.version_option(package_name="cachewrap")
def cli() -> None:
    """Look at the answers that a cache holds, prune and move them, and run programs with it."""


@click.command(
    "completion",
    short_help="Print a script that completes this command line in your shell.",
    epilog="""\b
Examples:
  cachewrap completion bash > ~/.local/share/bash-completion/completions/cachewrap
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
        error.show()
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
