"""Pins what is installed to test: one file here for each dependency group of pyproject.toml.

Run it as ``tox run -e lock``, which keeps what is pinned already, or as
``tox run -e lock -- --upgrade``, which takes the newest releases; names of files choose among them.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOWEST = "lowest"  # the group `test`, at the lower bounds
UNPINNED = {"benchmarks"}


def main(arguments: list[str]) -> int:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    known = [LOWEST, *(name for name in groups if name not in UNPINNED)]
    options = [argument for argument in arguments if argument.startswith("-")]
    names = [argument for argument in arguments if argument not in options] or known
    if unknown := set(names) - set(known):
        sys.exit(f"pyproject.toml has no group {', '.join(sorted(unknown))} to pin")
    for name in names:
        lowest = name == LOWEST
        group = groups["test" if lowest else name]
        # What has the tests' needs has the package's as well.
        of_package = group is groups["test"] or {"include-group": "test"} in _flat(groups, group)
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
        command += ["--no-annotate", "--custom-compile-command=tox run -e lock", *options]
        command += ["--resolution=lowest-direct"] if lowest else []
        command += ["pyproject.toml"] if of_package else []
        command += [f"--group={'test' if lowest else name}", f"--output-file=requirements/{name}.txt"]
        print(f"requirements/{name}.txt", flush=True)
        subprocess.run(command, cwd=ROOT, check=True)
    return 0


def _flat(groups: dict[str, list[object]], group: list[object]) -> list[object]:
    """The rows of a group, and of those that it includes."""
    rows = list(group)
    for row in group:
        if isinstance(row, dict):
            rows += _flat(groups, groups[row["include-group"]])
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
