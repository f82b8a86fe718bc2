"""The request of a hit, which nobody has sent: built as its client would when somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from inspect import iscoroutine
from typing import Any, Final

_BUILD: Final = "_cachewrap_build"
_LOCK: Final = "_cachewrap_lock"
_HEADERS: Final = "_cachewrap_headers"


def unbuilt(request: type, build: Callable[[], Any], headers: object) -> Any:
    """A request that is there when the first of its attributes is asked for.

    Args:
        request: the request class of its library.
        build: makes the request.
        headers: what is shown as its headers until `reveal`: the SDK itself looks at them.
    """
    made = object.__new__(_kind(request))
    vars(made).update({_BUILD: build, _LOCK: threading.RLock(), _HEADERS: headers})
    return made


def reveal(made: Any) -> None:
    """From now on who asks for the headers is given all of them."""
    vars(made).pop(_HEADERS, None)


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
        build = state.get(_BUILD)
        if build is not None:
            built = build()
            state.update({name: value for name, value in vars(built).items() if name not in state})
            made.__class__ = type(built)
            for name in (_BUILD, _HEADERS, _LOCK):
                state.pop(name, None)
    return made


@lru_cache(maxsize=8)
def _kind(request: Any) -> Any:
    class Asked(request):  # type: ignore[misc]
        """A request that is not built yet."""

        def __getattr__(self, name: str) -> Any:
            if name == "headers" and (headers := vars(self).get(_HEADERS)) is not None:
                return headers
            return getattr(_real(self), name)

        def __getstate__(self) -> Any:
            return _real(self).__getstate__()

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _real(self).__reduce_ex__(protocol)

    Asked.__name__, Asked.__qualname__ = request.__name__, request.__qualname__
    Asked.__module__ = request.__module__
    return Asked
