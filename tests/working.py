"""How much work a call is: the Python calls in it, reads of its store, encodings of its request."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from cachewrap import Cache
from cachewrap.request import key

# What encodes a request: in general, and that of a plain function's call.
ENCODING = (key._encoded.__code__, key.make_keyer(b"", {}, "arguments").__code__)


SLACK = 0 if sys.version_info >= (3, 12) else 11
"""Before Python 3.12 a comprehension is a function that is called."""


def count(call: Callable[[], object], *packages: str) -> int:
    """The Python functions that a hit calls, those of these packages where some are named."""
    calls, named = 0, packages or ("",)

    def seen(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_globals.get("__name__", "").startswith(named)

    for _ in range(3):
        call()
    gc.collect()
    gc.disable()  # what another test has left is finalised by calls of ours
    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def work_of(cache: Cache, call: Callable[[], Any]) -> tuple[int, int]:
    """How often a call reads entries of the cache's store, and encodes a canonical request.

    A read that goes with the taking of a lease is one. What the store itself encodes, to write a
    line that people can read, is not counted.
    """
    store: Any = cache.store
    get, aget, add, aadd = store.get, store.aget, store.add, store.aadd
    reads = encodes = 0
    adding = awaiting = False

    def reading(name: str) -> Any:
        nonlocal reads
        reads += not awaiting
        return get(name)

    async def areading(name: str) -> Any:
        nonlocal reads, awaiting
        reads += 1
        awaiting = True  # in some stores it calls `get`
        try:
            return await aget(name)
        finally:
            awaiting = False

    def writing(*args: Any, **kwargs: Any) -> Any:
        nonlocal adding
        adding = True
        try:
            return add(*args, **kwargs)
        finally:
            adding = False

    async def awriting(*args: Any, **kwargs: Any) -> Any:
        nonlocal adding
        adding = True
        try:
            return await aadd(*args, **kwargs)
        finally:
            adding = False

    def seen(frame: Any, event: str, what: Any) -> None:
        nonlocal encodes
        if event == "call" and not adding:
            encodes += frame.f_code in ENCODING

    def counted(pair: Any) -> Any:
        def acquiring(*args: Any) -> Any:
            nonlocal reads
            reads += 1
            return pair(*args)

        return acquiring

    store.get, store.aget, store.add, store.aadd = reading, areading, writing, awriting
    pairs = [name for name in ("acquire_and_get", "aacquire_and_get") if hasattr(store, name)]
    for name in pairs:
        setattr(store, name, counted(getattr(store, name)))
    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
        for name in ("get", "aget", "add", "aadd", *pairs):
            vars(store).pop(name, None)
    return reads, encodes
