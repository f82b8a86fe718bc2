"""Options of caching that a request brings in headers, which go no further: ``x-cachewrap-*``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cachewrap.errors import ConfigurationError
from cachewrap.options import NONE, CallOptions
from cachewrap.policy import check_mode, seed_text
from cachewrap.proxy.messages import Pairs

PREFIX: Final = b"x-cachewrap-"
_LONGEST: Final = 200
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})
_NEVER: Final = frozenset({"none", "never"})


@dataclass(frozen=True, slots=True)
class Controls:
    """The options of caching that one request brings.

    Args:
        options: those of the call.
        pace: whether a stored stream comes at its pace; None leaves that to the proxy.
        token: what its client knows.
    """

    options: CallOptions = NONE
    pace: bool | None = None
    token: str = ""


_PLAIN: Final = Controls()


def read_controls(headers: Pairs) -> Controls:
    """What the headers of a request say. Raises `ConfigurationError` for what cannot be."""
    given: dict[str, str] = {}
    for header, value in headers:
        if (lower := header.lower()).startswith(PREFIX):
            given[lower.decode("ascii", "replace")] = value.decode("utf-8", "replace").strip()
    if not given:
        return _PLAIN
    found: dict[str, Any] = {}
    for name, text in given.items():
        read = _READERS.get(name)
        if read is None:
            known = ", ".join(sorted(_READERS))
            raise ConfigurationError(f"there is no header {name[:_LONGEST]}; there are {known}")
        if len(text) > _LONGEST and read is not _token:
            raise ConfigurationError(f"{name} is too long")
        try:
            found |= read(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from None
    token, pace = found.pop("token", ""), found.pop("pace", None)
    if found.pop("refresh", False):
        if found.get("mode", "refresh") != "refresh":
            raise ConfigurationError(
                f"x-cachewrap-refresh and x-cachewrap-mode: {found['mode']} contradict each other"
            )
        found["mode"] = "refresh"
    return Controls(CallOptions(**found) if found else NONE, pace, token)


def _mode(text: str) -> dict[str, Any]:
    return {"mode": check_mode(text.lower())}


def _seed(text: str) -> dict[str, Any]:
    return {"cache_seed": None if text.lower() == "none" else seed_text(text)}


def _sample(text: str) -> dict[str, Any]:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigurationError(f"a number from 0 on, got {text!r}")
    return {"sample": int(text)}


def _ttl(text: str) -> dict[str, Any]:
    if text.lower() in _NEVER:
        return {"ttl": None}
    try:
        return {"ttl": float(text)}
    except ValueError:
        raise ConfigurationError(f"seconds, or never; got {text!r}") from None


def _yes(name: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        if (lower := text.lower()) not in _YES | _NO:
            raise ConfigurationError(f"true or false, got {text!r}")
        return {name: lower in _YES}

    return read


def _token(text: str) -> dict[str, Any]:
    return {"token": text}


_READERS: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "x-cachewrap-mode": _mode,
    "x-cachewrap-seed": _seed,
    "x-cachewrap-sample": _sample,
    "x-cachewrap-ttl": _ttl,
    "x-cachewrap-refresh": _yes("refresh"),
    "x-cachewrap-pace": _yes("pace"),
    "x-cachewrap-token": _token,
}
