"""The names of runs, and of the logs that they are kept in."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Final, NamedTuple

from cachewrap.errors import ConfigurationError, printable
from cachewrap.patterns import later

_MOST: Final = 100
_MOST_ENCODED: Final = 150
_NO_NAME: Final = later(r"[/#~\\\x00-\x1f\x7f-\x9f]")

_LOG: Final = later(
    r"n-(?P<name>.+)-(?P<number>[0-9]{1,9})|u-(?P<unnamed>[0-9]{8}-[0-9]{6}-[0-9a-f]{6})"
)

REPLACED: Final = "a-"
"""Begins the name of a log with the answers that were replaced in a run, before that run's."""

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")


def check_name(name: object) -> str:
    """The name of a run. Raises `ConfigurationError` for what cannot be one."""
    if not isinstance(name, str) or not name.strip() or len(name) > _MOST:
        raise ConfigurationError(
            f"a run's name is a text of 1 to {_MOST} characters, got {name!r:.100}"
        )
    if _NO_NAME.search(name) or name != name.strip() or name[0] in "-@":
        raise ConfigurationError(
            f"a run's name has no / # ~ and \\, no space around it and no - or @ in front, got"
            f" {printable(name)!r}"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"a run's name is text that can be stored, got {name!r}") from None
    return name


class LogName(NamedTuple):
    """The name of a run's log.

    Attributes:
        log: the name itself.
        name: the name of the run, ``""`` where it is in the log alone.
        number: which of the runs of that name it is, from 1; 0 of one without a name.
    """

    log: str
    name: str
    number: int


def named_log(name: str, number: int) -> str:
    """The log of the run with that name and number."""
    return f"n-{_encoded(name)}-{number}"


def new_unnamed() -> str:
    """A name for a run that was given none: when it begins, in UTC, and something of its own."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"


def unnamed_log(name: str) -> str:
    """The log of a run whose name is of `new_unnamed`."""
    return f"u-{name}"


def is_unnamed(name: object) -> bool:
    """Whether a name is of `new_unnamed`."""
    return isinstance(name, str) and _LOG.fullmatch(f"u-{name}") is not None


def parsed(log: str) -> LogName | None:
    """The name of a log in its parts; None for a log that is no run's."""
    found: Any = _LOG.fullmatch(log)
    if found is None:
        return None
    if (unnamed := found["unnamed"]) is not None:
        return LogName(log, unnamed, 0)
    return LogName(log, _decoded(found["name"]), int(found["number"]))


def _encoded(name: str) -> str:
    # Capital letters too: some file systems do not tell them from small ones.
    text = "".join(chr(one) if one in _PLAIN else f"%{one:02x}" for one in name.encode())
    if len(text) <= _MOST_ENCODED:
        return text
    import hashlib  # which takes a while, for names that are long in some other script

    return f"%%{hashlib.sha256(name.encode()).hexdigest()}"


def _decoded(text: str) -> str:
    if text.startswith("%%"):
        return ""
    parts = re.split(r"%([0-9a-f]{2})", text)
    raw = b"".join(
        bytes.fromhex(part) if at % 2 else part.encode() for at, part in enumerate(parts)
    )
    return raw.decode(errors="replace")
