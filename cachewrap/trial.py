"""Making a call for its first step alone, whatever its colour: to see what it would ask a cache."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import Any


def attempt(call: Callable[[], Any]) -> None:
    """Make a call: a coroutine runs to its end, a generator to its first item.

    What is async runs in a thread, on an event loop of its own: the caller's may be running.
    """
    result = call()
    if inspect.isgenerator(result):
        with closing(result):
            next(result, None)
    elif inspect.isasyncgen(result) or inspect.isawaitable(result):
        context = copy_context()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(context.run, asyncio.run, _first(result)).result()


async def _first(result: Any) -> None:
    if not inspect.isasyncgen(result):
        await result
        return
    try:
        await anext(result, None)
    finally:
        await result.aclose()
