"""Requests and responses of hits, which nobody has sent: they are built when somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutine
from typing import Any, Final

UNBUILT: Final = "_cachewrap_build"
"""The attribute of an object that is still to be built."""

_LOCK: Final = "_cachewrap_lock"
_SHOWN: Final = "_cachewrap_headers"


def unbuilt(request: type, build: Callable[[], Any], headers: object) -> Any:
    """A request that is there when the first of its attributes is asked for.

    Args:
        request: the request class of its library.
        build: makes the request.
        headers: its headers for the SDK itself, until they are deleted or it is built.
    """
    made = later(request, build)
    vars(made).update({_SHOWN: headers, "headers": headers})
    return made


def later(kind: type, build: Callable[[], Any]) -> Any:
    """An object that is there when the first of its attributes is asked for.

    Args:
        kind: its class.
        build: makes it.
    """
    made = object.__new__(_kind(kind))
    vars(made).update({UNBUILT: build, _LOCK: threading.RLock()})
    return made


def at_once(result: Any) -> Any:
    """What a hook of the client's gives, also an async one that waits for nothing; else None."""
    if not iscoroutine(result):
        return result
    try:
        result.send(None)
    except StopIteration as stop:
        return stop.value
    except Exception:
        return None
    result.close()
    return None


def _real(made: Any) -> Any:
    """The same object, built."""
    state = vars(made)
    lock = state.get(_LOCK)
    if lock is None:
        return made
    with lock:
        build = state.get(UNBUILT)
        if build is not None:
            built = build()
            if (shown := state.pop(_SHOWN, None)) is not None and state.get("headers") is shown:
                del state["headers"]
            # What the caller has set himself stays.
            state.update({name: value for name, value in vars(built).items() if name not in state})
            made.__class__ = type(built)
            for name in (UNBUILT, _LOCK):
                del state[name]
    return made


@lru_cache(maxsize=16)
def _kind(kind: Any) -> Any:
    class Asked(kind):  # type: ignore[misc]
        """An object that is not built yet."""

        def __getattr__(self, name: str) -> Any:
            return getattr(_real(self), name)

        def __getstate__(self) -> Any:
            return _real(self).__getstate__()

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _real(self).__reduce_ex__(protocol)

    Asked.__name__, Asked.__qualname__ = kind.__name__, kind.__qualname__
    Asked.__module__ = kind.__module__
    return Asked
