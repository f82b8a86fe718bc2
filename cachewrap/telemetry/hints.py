"""Hints at a set-up that lacks one half: the patch of an SDK, or the block around its calls.

Each half alone is silent: every call goes upstream as if there were no cache. One `CacheWarning` in
a process, at most, says which line is missing. Another one tells of a seed that looks like a place.
``CACHEWRAP_HINTS=0`` turns them off.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from cachewrap import blocks, systems
from cachewrap.errors import CacheWarning
from cachewrap.telemetry.events import NOWHERE, Place, calling_line, warn_once

if TYPE_CHECKING:
    from cachewrap.hooks import Hook

SETTING: Final = "CACHEWRAP_HINTS"
"""The environment variable that turns hints off, by ``0``."""

HTTP: Final = "plain HTTP"
"""The name of what is patched beside SDKs, below which an SDK may be."""

_SILENCE: Final = f"({SETTING}=0 turns this hint off)"
_LIKE_A_PLACE: Final = re.compile(
    r"[.~]|.*(?:\b|_)cache\Z|.*\.(?:jsonl|db|sqlite3?)\Z|[\w.-]+:\d+\Z", re.I | re.S
)
_CLIENTS: Final = {
    name: f"{name}._base_client" for name in ("openai", "anthropic", "groq", "together")
}
# Whoever calls an SDK from below these modules is cached himself.
_SERVING: Final = tuple(
    f"cachewrap.{part}." for part in ("call", "function", "http", "integrations", "sdk", "streams")
)
# Where a program uses these, calls outside every block are as they should be.
_WITHOUT_BLOCKS: Final = (
    "_pytest",
    "cachewrap.integrations._langchain_agents",
    "cachewrap.integrations.autogen",
    "cachewrap.integrations.langchain",
)

_lock = threading.RLock()
systems.renew_in_child(globals(), _lock=threading.RLock)


class Seen:
    """The set-up of this process, as far as it was seen.

    Attributes:
        used: whether a cache was entered, serves calls by default, or has served one.
        by_hand: whether other code keeps values in a cache by keys of its own, and so decides about
            the calls that it makes.
        listening: whether calls of what is patched are to be noted where no cache serves them.
    """

    __slots__ = (
        "_awaited",
        "_ends",
        "_hooks",
        "_missed_at",
        "_patched",
        "_places",
        "_told",
        "_uncached",
        "_unpatched",
        "by_hand",
        "listening",
        "used",
    )

    def __init__(self) -> None:
        self._awaited: _Awaited | None = None
        self._reset()

    def _reset(self) -> None:
        self.used = self.by_hand = False
        self.listening = True
        self._told = self._ends = False
        self._hooks: dict[str, list[Hook]] = {}
        self._patched: set[str] = set()
        self._places: dict[str, Place] = {}
        self._uncached = ""
        self._unpatched: list[str] = []
        self._missed_at = NOWHERE

    def patched(self, name: str, holds: bool) -> None:
        """An SDK, or `HTTP`, is patched from now on; or is not any more."""
        if not holds:
            self._patched.discard(name)
            return
        self._patched.add(name)
        if name not in self._places:
            self._places[name] = calling_line()
        if name in self._hooks:
            with _lock:
                for hook in self._hooks.pop(name, ()):
                    hook.take()

    # -- a block without a patch ---------------------------------------------------------------

    def entered(self, under_way: Callable[[], object]) -> None:
        """A block begins: note what is called in it of SDKs that are imported and not patched.

        Args:
            under_way: gives what is under way of calls that are cached, if anything is.
        """
        self.used = True
        for name, module in _CLIENTS.items():
            if name in self._patched or name in self._hooks:
                continue
            if module in sys.modules:
                self._listen(name, sys.modules[module], under_way)
            elif self._awaited is None and not self._told and not is_off():
                self._awaited = _Awaited(lambda name: self._await(name, under_way))
                sys.meta_path.insert(0, self._awaited)

    def _await(self, name: str, under_way: Callable[[], object]) -> None:
        """An SDK is about to be imported after a block has begun."""
        import wrapt  # which a cache alone does without

        def imported(module: Any) -> None:
            if name not in self._patched and name not in self._hooks:
                self._listen(name, module, under_way)

        wrapt.register_post_import_hook(imported, _CLIENTS[name])

    def _listen(self, name: str, module: Any, under_way: Callable[[], object]) -> None:
        with _lock:
            if name in self._hooks:
                return
            hooks = self._hooks[name] = []
            if self._told or is_off():
                return
            from cachewrap.hooks import Hook  # costs more than all that a cache alone imports

            for cls in ("SyncAPIClient", "AsyncAPIClient"):
                owner = getattr(module, cls, None)
                if isinstance(owner, type):
                    hooks.append(Hook(owner, "request", self._noting(name, under_way)))
                    hooks[-1].put()

    def _noting(self, name: str, under_way: Callable[[], object]) -> Callable[..., Any]:
        def note(
            wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            # Another thread may be patching it at this moment.
            if name not in self._patched and not under_way() and self._is_missed(args, kwargs):
                self._note_unpatched(name)
            return wrapped(*args, **kwargs)

        return note

    def _is_missed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the block of this context would serve a request if the SDK was patched."""
        stack = blocks.blocks.get()
        if not stack or stack.salt or self._is_served_otherwise():
            return False
        if getattr(stack[-1], "_idle", True) or not _asks(_options(args, kwargs)):
            return False
        return not _is_served(sys._getframe(2))

    def _is_served_otherwise(self) -> bool:
        """Whether calls of an SDK may be cached although it is not patched."""
        return self.by_hand or HTTP in self._patched

    def _note_unpatched(self, name: str) -> None:
        with _lock:
            if name not in self._unpatched:
                self._unpatched.append(name)
                self._missed_at = calling_line()
            for hook in self._hooks.get(name, ()):
                hook.take()
            self._await_end()

    def left(self, error: BaseException | None) -> None:
        """A block ends: say what is missing, unless there is an error to be seen first."""
        if self._unpatched and error is None and not self._told:
            self._tell_unpatched(calling_line())

    def _tell_unpatched(self, place: Place) -> None:
        if self._is_served_otherwise():
            return
        names = " and ".join(self._unpatched)
        calls = " and ".join(f"`cachewrap.patch_{name}()`" for name in self._unpatched)
        self._tell(
            f"calls of {names} inside a block were not cached, because {names}"
            f" {'is' if len(self._unpatched) == 1 else 'are'} not patched: write {calls} before"
            f" the block {_SILENCE}",
            place,
        )

    # -- a patch without a block ---------------------------------------------------------------

    def uncached(self, client: Any, options: Any) -> None:
        """A patched SDK makes a request that no cache serves."""
        if _asks(options) and not blocks.blocks.get():
            modules = [cls.__module__ for cls in type(client).__mro__]
            for name in self._patched:
                if any(module.startswith(f"{name}.") for module in modules):
                    self._note_uncached(name)
                    break

    def uncached_http(self) -> None:
        """A model is asked by plain HTTP that is patched, and no cache serves the request."""
        if not blocks.blocks.get():
            self._note_uncached(HTTP)

    def _note_uncached(self, name: str) -> None:
        self.listening = False
        self._uncached = name
        self._await_end()

    def _tell_uncached(self) -> None:
        name = self._uncached
        if not name or self.used or self.by_hand or blocks.program is not None:
            return
        if any(module in sys.modules for module in _WITHOUT_BLOCKS):
            return
        self._tell(
            f"calls of {name} were not cached: {name} is patched, but no cache was active. Write "
            "`with Cache.disk():` around the calls, or `cachewrap.activate('disk:.cache')` before"
            f" them {_SILENCE}",
            self._places.get(name, NOWHERE),
        )

    # -- the end -------------------------------------------------------------------------------

    def _await_end(self) -> None:
        if not self._ends:
            self._ends = True
            atexit.register(self.end)

    def end(self) -> None:
        """The process ends: say what is missing, if that was not said."""
        with suppress(CacheWarning):  # where warnings are errors there is nobody to raise it to
            if self._unpatched:
                self._tell_unpatched(self._missed_at)
            self._tell_uncached()

    def _tell(self, text: str, place: Place) -> None:
        with _lock:
            told, self._told = self._told, True
        if not told and not is_off():
            warnings.warn_explicit(text, CacheWarning, *place)

    def forked(self) -> None:
        """A forked child begins, whose set-up is for its parent to judge."""
        self.listening, self._uncached = False, ""
        self._unpatched.clear()

    def forget(self) -> None:
        """Forget all of it."""
        with _lock:
            for hook in (hook for hooks in self._hooks.values() for hook in hooks):
                hook.take()
            if self._awaited in sys.meta_path:
                sys.meta_path.remove(self._awaited)
            self._awaited = None
            self._reset()


class _Awaited:
    """A finder that finds nothing: it tells of the SDKs that are about to be imported.

    Args:
        seen: is told the name of each, once.
    """

    def __init__(self, seen: Callable[[str], object]) -> None:
        self._seen = seen
        self._names = set(_CLIENTS)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        if name in self._names:
            self._names.discard(name)
            self._seen(name)


seen: Final = Seen()
"""Of this process."""

systems.in_forked_child(lambda: seen.forked())


def is_off() -> bool:
    """Whether hints are turned off."""
    return os.environ.get(SETTING) == "0"


def look_at_seed(seed: object, method: str, meant: Callable[[object], str]) -> None:
    """Hint at a seed that looks like a place, which another argument names.

    Args:
        seed: what was given for a seed.
        method: the constructor that it was given to.
        meant: gives the call that makes a cache in a place.
    """
    if isinstance(seed, str) and _LIKE_A_PLACE.match(seed) and not is_off():
        warn_once(
            (look_at_seed, seed),
            f"Cache.{method}({seed!r}) takes {seed!r} for a seed, which names a draw of answers. "
            f"For a cache in that place write {meant(seed)} {_SILENCE}",
        )


def _is_served(frame: FrameType | None) -> bool:
    """Whether a frame belongs to a call that is cached itself."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_SERVING):
            return True
        frame = frame.f_back
    return False


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("options")


def _asks(options: Any) -> bool:
    """Whether an SDK's request asks a model."""
    body = getattr(options, "json_data", None)
    method = str(getattr(options, "method", ""))
    return method.lower() == "post" and isinstance(body, Mapping) and "model" in body
