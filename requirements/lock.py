"""Pins what is installed to test: one file here for each dependency group of pyproject.toml.

`tox run -e lock` keeps what is pinned already and still fits, `tox run -e lock -- --upgrade` takes
the newest releases. Names of groups choose among them.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOWEST = "lowest"  # the group `test`, at the lower bounds
WITHOUT_THE_PACKAGE = {"lint", "tox"}
UNPINNED = {"benchmarks", "watching"}  # the second is a part of others


def main(arguments: list[str]) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    known = [name for name in groups if name not in UNPINNED] + [LOWEST]
    options = [argument for argument in arguments if argument.startswith("-")]
    names = [argument for argument in arguments if argument not in options] or known
    if unknown := sorted(set(names) - set(known)):
        sys.exit(f"pyproject.toml has no group to pin of the name {', '.join(unknown)}")
    for name in names:
        pin(name, options)


def pin(name: str, options: list[str]) -> None:
    """Resolve a group for every Python and system at once, into a file of its name."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
    command += ["--no-annotate", "--custom-compile-command=tox run -e lock", *options]
    command += ["--group", "test" if name == LOWEST else name, "--constraints=requirements/held.in"]
    if name == LOWEST:
        command += ["--resolution=lowest-direct"]
    if name not in WITHOUT_THE_PACKAGE:
        command += ["pyproject.toml"]
    elif name == "tox":
        command += ["--constraints=requirements/test.txt"]  # a developer has both in one place
    print(f"requirements/{name}.txt", flush=True)
    subprocess.run([*command, f"--output-file=requirements/{name}.txt"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
