"""The request of a hit, which nobody has sent: built as its client would when somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutine
from typing import Any, Final

UNBUILT: Final = "_cachewrap_build"
"""The attribute of a request that is still to be built."""

_LOCK: Final = "_cachewrap_lock"
_SHOWN: Final = "_cachewrap_headers"


def unbuilt(request: type, build: Callable[[], Any], headers: object) -> Any:
    """A request that is there when the first of its attributes is asked for.

    Args:
        request: the request class of its library.
        build: makes the request.
        headers: its headers for the SDK itself, until they are deleted or it is built.
    """
    made = object.__new__(_kind(request))
    state = {UNBUILT: build, _LOCK: threading.RLock(), _SHOWN: headers, "headers": headers}
    vars(made).update(state)
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
            if state.get("headers") is state[_SHOWN]:
                state.pop("headers", None)
            # What the caller has set himself stays.
            state.update({name: value for name, value in vars(built).items() if name not in state})
            made.__class__ = type(built)
            for name in (UNBUILT, _LOCK, _SHOWN):
                del state[name]
    return made


@lru_cache(maxsize=8)
def _kind(request: Any) -> Any:
    class Asked(request):  # type: ignore[misc]
        """A request that is not built yet."""

        def __getattr__(self, name: str) -> Any:
            return getattr(_real(self), name)

        def __getstate__(self) -> Any:
            return _real(self).__getstate__()

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _real(self).__reduce_ex__(protocol)

    Asked.__name__, Asked.__qualname__ = request.__name__, request.__qualname__
    Asked.__module__ = request.__module__
    return Asked
