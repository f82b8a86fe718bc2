"""Blocks of a page that are no programs: configuration, data, and what it says to install."""

from __future__ import annotations

import json
import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import yaml

_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
EXTRAS = set(_PROJECT["project"]["optional-dependencies"])


def parse(language: str, code: str) -> None:
    """Read a block as whoever it is for reads it.

    Raises:
        ValueError: it is not what its language says.
    """
    if language == "toml":
        tomllib.loads(code)
    elif language == "yaml":
        list(yaml.safe_load_all(code))
    elif language == "ini":
        ConfigParser().read_string(code)
    elif language == "json":
        try:
            json.loads(code)
        except ValueError:
            for line in code.splitlines():
                json.loads(line)


def check_install(command: str) -> None:
    """See that what a page says to install of the package is there.

    Raises:
        ValueError: an extra has another name.
    """
    for named in re.findall(r"cachewrap\[([^\]]*)\]", command):
        unknown = {name.strip() for name in named.split(",")} - EXTRAS
        if unknown:
            raise ValueError(f"pyproject.toml has no extra {', '.join(sorted(unknown))}")
