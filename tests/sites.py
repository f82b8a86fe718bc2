"""Packages installed into a folder for programs of their own; one is that of the manual."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import cachewrap

MANUAL = Path(__file__).parents[1] / "docs" / "extending.md"


def block(first_line: str) -> str:
    """The code of the manual whose first line is this comment."""
    found = re.findall(r"```\w+\n# ([^\n]+)\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    return dict(found)[first_line]


class Site:
    """A folder of packages, and programs that find them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.work = folder / "work"
        self.work.mkdir()

    def install(
        self, name: str, code: str, points: dict[str, dict[str, str]], version: str = "1.0"
    ) -> None:
        """Install a package of one module, as an installer does."""
        (self.folder / f"{name}.py").write_text(code)
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [
            line
            for group, entries in points.items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def run(self, code: str) -> str:
        """What a program prints that finds the packages."""
        packages = [str(self.folder), str(Path(cachewrap.__file__).parents[1])]
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=self.work,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(packages)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


SHELF = block("shelf.py") + block("shelf.py, continued")
POINTS = tomllib.loads(block("pyproject.toml"))["project"]["entry-points"]


def shelf_in(folder: Path) -> Site:
    """A site with the package of the manual."""
    site = Site(folder)
    site.install("shelf", SHELF, POINTS)
    return site
