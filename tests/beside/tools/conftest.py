"""Processes of their own for what tools leave behind, two at a time."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.pool import AsyncResult
from typing import Any, TypeAlias

import pytest

Start: TypeAlias = Callable[..., AsyncResult[Any]]
"""Calls a function of these arguments in a process of its own."""


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    context = multiprocessing.get_context("forkserver")
    # What takes long to import is imported once, by a process that looks here for it.
    context.set_forkserver_preload(["pytest", "beside.tools.case"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CACHEWRAP_HINTS", "0")  # the tool alone is one of the cases
        patched.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        pool = context.Pool(2, maxtasksperchild=1)
    with pool:
        yield lambda function, *arguments: pool.apply_async(_call, (function, arguments))


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call it; a pool waits for ever for an error that cannot be sent."""
    try:
        return function(*arguments)
    except Exception:
        raise RuntimeError(traceback.format_exc()) from None
