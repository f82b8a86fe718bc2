"""The first client that a program makes: until then nothing is imported but what sees it made.

Most programs that import an SDK go on to use it; but many a Python process of a cached program
imports one and asks no model.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

_INIT: Final = ("__init__",)
_GENERATED: Final = ("_base_client", "BaseClient", _INIT)
CLIENTS: Final[dict[str, tuple[str, str, tuple[str, ...]] | None]] = {
    "aiohttp": ("client", "ClientSession", _INIT),
    "anthropic": _GENERATED,
    "dspy": None,  # it has a cache of its own, which is found in place at its import
    "groq": _GENERATED,
    "httpx": ("_client", "BaseClient", _INIT),
    "httpx2": ("_client", "BaseClient", _INIT),
    "openai": _GENERATED,
    "requests": ("adapters", "HTTPAdapter", ("__init__", "send")),  # one may come from a pickle
    "together": _GENERATED,
}
"""For each package the methods of a class of it that are called first, or None: its import is."""


class FirstClient:
    """A finder that has packages found by the others, and what they make a client with told.

    Args:
        seen: called before the first client is there.
    """

    def __init__(self, seen: Callable[[], object]) -> None:
        self._seen = seen
        self._lock = threading.RLock()
        self._sought: set[str] = set()
        self._put: list[tuple[type, str, Any, Any]] = []
        self._over = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        if name not in CLIENTS or name in self._sought or self._over:
            return None
        if CLIENTS[name] is None:
            self.see()
        # Those who are told of imports from now on have a finder that stands before this one.
        from importlib.util import find_spec

        self._sought.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._sought.discard(name)
        loader: Any = None if spec is None else spec.loader
        if loader is None or self._over:
            return spec
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            self._wait_for(name)

        try:
            loader.exec_module = exec_module
        except AttributeError:
            self.see()
        return spec

    def _wait_for(self, name: str) -> None:
        """Stand in front of what makes the clients of a package that was imported."""
        told = CLIENTS[name]
        assert told is not None
        module, cls, methods = told
        owner = getattr(sys.modules.get(f"{name}.{module}"), cls, None)
        with self._lock:
            if self._over:
                return
            if owner is not None and all(method in vars(owner) for method in methods):
                for method in methods:
                    self._stand_before(owner, method)
                return
        self.see()  # another version, which nothing is known of

    def _stand_before(self, owner: type, name: str) -> None:
        method = vars(owner)[name]

        @wraps(method)
        def first(*args: Any, **kwargs: Any) -> Any:
            self.see()
            return method(*args, **kwargs)

        setattr(owner, name, first)
        self._put.append((owner, name, method, first))

    def see(self) -> None:
        """Tell that there is a client, and be in nobody's way any more."""
        self.stop()
        self._seen()

    def stop(self) -> None:
        """Be in nobody's way: nothing is waited for any more."""
        with self._lock:
            self._over = True
            put, self._put = self._put, []
            for owner, name, method, first in put:
                if vars(owner).get(name) is first:
                    setattr(owner, name, method)
            if self in sys.meta_path:
                sys.meta_path.remove(self)

    def renew(self) -> None:
        """In a forked child: nobody holds the lock there."""
        self._lock = threading.RLock()
