"""``cachewrap completion``: what a shell needs to complete the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    short_help="Print a script that completes this command line in your shell.",
    epilog="""\b
Examples:
  cachewrap completion bash > ~/.local/share/bash-completion/completions/cachewrap
  cachewrap completion zsh > ~/.zfunc/_cachewrap
  cachewrap completion fish > ~/.config/fish/completions/cachewrap.fish""",
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that completes this command line in SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, "cachewrap", "_CACHEWRAP_COMPLETE")
    click.echo(script.source())
