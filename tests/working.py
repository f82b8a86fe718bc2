"""How often a call reads its store, and encodes its request."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cachewrap import Cache
from cachewrap.request import key
from cachewrap.stores.base import Store

# What encodes a request: in general, and that of a plain function's call.
ENCODING = (key._encoded.__code__, key.make_keyer(b"", {}, "arguments").__code__)


def work_of(cache: Cache, call: Callable[[], Any]) -> tuple[int, int]:
    """How often a call reads entries of the cache's store, and encodes a canonical request.

    What the store itself encodes, to write a line that people can read, is not counted.
    """
    store: Any = cache.store
    get, aget, add = store.get, store.aget, store.add
    reads = encodes = 0
    adding = False

    def reading(name: str) -> Any:
        nonlocal reads
        reads += 1
        return get(name)

    async def areading(name: str) -> Any:
        nonlocal reads
        reads += 1
        return await aget(name)

    def writing(*args: Any, **kwargs: Any) -> Any:
        nonlocal adding
        adding = True
        try:
            return add(*args, **kwargs)
        finally:
            adding = False

    def seen(frame: Any, event: str, what: Any) -> None:
        nonlocal encodes
        if event == "call" and not adding:
            encodes += frame.f_code in ENCODING

    store.get, store.add = reading, writing
    if type(store).aget is not Store.aget:  # which calls `get`
        store.aget = areading
    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(None)
        for name in ("get", "aget", "add"):
            vars(store).pop(name, None)
    return reads, encodes
