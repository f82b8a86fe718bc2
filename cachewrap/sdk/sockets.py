"""The sessions that SDKs hold over WebSockets, of which nothing is ever stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from cachewrap.options import Default, choose_cache

_MANAGER: Final = "ConnectionManager"
_OPENING: Final = ("connect", "__enter__", "__aenter__")


def openings(module: ModuleType) -> Iterator[tuple[type, str]]:
    """The classes of a module that open sessions, and of each the method that does."""
    for name, cls in vars(module).items():
        if name.endswith(_MANAGER) and isinstance(cls, type) and cls.__module__ == module.__name__:
            yield cls, next(method for method in _OPENING if method in vars(cls))


class Sessions:
    """The wrappers of what opens a session.

    Args:
        default: gives the cache of sessions that are opened outside any block.
    """

    def __init__(self, default: Default) -> None:
        self._default = default

    def open(
        self,
        wrapped: Callable[..., Any],
        manager: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Count the session as a bypass. Raises `ReplayMissError` in mode replay."""
        cache = choose_cache(default=self._default)
        if cache is not None:
            kind = type(manager).__name__.removesuffix(_MANAGER).removeprefix("Async")
            cache.bypass(f"WebSocket {kind}", "websocket")
        return wrapped(*args, **kwargs)
