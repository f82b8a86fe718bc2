"""Timeouts of callers, as their libraries have them."""

from __future__ import annotations

from typing import Any


def read_seconds(timeout: Any) -> float | None:
    """How long a timeout lets a caller wait for a response; None for ever.

    Args:
        timeout: seconds; those of connecting and of reading; or an object or a dictionary of such
            parts, as httpx and urllib3 have them.
    """
    if isinstance(timeout, (tuple, list)):
        timeout = timeout[-1] if timeout else None
    elif isinstance(timeout, dict):
        timeout = timeout.get("read")
    else:
        for part in ("read", "read_timeout"):
            timeout = getattr(timeout, part, timeout)
    if type(timeout) not in (int, float) or timeout != timeout:
        return None
    return max(float(timeout), 0.0)
