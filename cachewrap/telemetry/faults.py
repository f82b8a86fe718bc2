"""Faults that a call survives: each cause is warned about once, every occurrence is logged."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from cachewrap.errors import CacheWarning, CachewrapError, CorruptEntryError, UnsupportedTypeError

log = logging.getLogger("cachewrap")

_told: set[tuple[object, ...]] = set()


def warn_once(cause: tuple[object, ...], message: str) -> None:
    """Warn with a `CacheWarning` unless this process was already warned of the same cause."""
    log.debug(message)
    if cause not in _told:
        _told.add(cause)
        warnings.warn(message, CacheWarning, stacklevel=2)


def survive(error: CachewrapError, source: str, place: str) -> None:
    """Tell of a fault that does not stop the call.

    Args:
        error: what happened.
        source: the function or endpoint that was called.
        place: the store's URL.
    """
    if isinstance(error, UnsupportedTypeError):
        warn_once(
            (UnsupportedTypeError, source),
            f"{source}: the answer is returned but not stored: {error}",
        )
    elif isinstance(error, CorruptEntryError):
        warn_once(
            (CorruptEntryError, place),
            f"{source}: an entry in {place} cannot be read and counts as absent: {error}",
        )
    else:
        warn_once(
            (type(error), type(error.__cause__), place),
            f"{source}: went on without the cache at {place}: {error}",
        )


def wanted(when: Callable[[Any], bool], answer: Any, source: str) -> bool:
    """Whether an answer is to be stored. One on which ``when`` raises is not, with a warning.

    Args:
        when: decides.
        answer: what came from upstream.
        source: the function or endpoint that was called.
    """
    try:
        return bool(when(answer))
    except Exception as error:  # what was paid for is returned all the same
        warn_once(("when", source), f"{source}: the answer is not stored: when= raised {error!r}")
        return False


def forget() -> None:
    """Forget which causes were already told."""
    _told.clear()
