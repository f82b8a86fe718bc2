"""Files of rules: TOML, a table for each rule."""

from __future__ import annotations

import os

from cachewrap.errors import ConfigurationError
from cachewrap.same.applied import Rules


def read_rules(path: str | os.PathLike[str]) -> Rules | None:
    """The rules in a TOML file; None where it has none.

    Raises `ConfigurationError` for a file that cannot be read, or has something else.
    """
    raise ConfigurationError(f"rules cannot be read from {os.fsdecode(path)}")
