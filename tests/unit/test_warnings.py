"""A warning stands at the line of the program that made the call, and at none of ours."""

from __future__ import annotations

import os
import sysconfig
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from cachewrap import Cache, CacheWarning, llm_cached
from cachewrap.telemetry.events import NOWHERE

SITE = os.path.join(sysconfig.get_path("purelib"), "lib", "core.py")


@llm_cached
def ask(text: str) -> object:
    return threading.Lock()


def library(file: str) -> Callable[..., object]:
    """A function of a library, which calls another one."""
    names: dict[str, Any] = {"__name__": "lib.core"}
    exec(compile("def run(call):\n    return call()\n", file, "exec"), names)
    run: Callable[..., object] = names["run"]
    return run


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: ask("a"), id="a function"),
        pytest.param(lambda: Cache.memory().set("a", threading.Lock()), id="cache.set"),
        pytest.param(lambda: library(SITE)(partial(ask, "a")), id="by a library"),
        pytest.param(lambda: library(os.__file__)(partial(ask, "a")), id="by Python's own"),
    ],
)
def test_a_warning_stands_at_the_line_of_the_program(call: Callable[[], object]) -> None:
    with pytest.warns(CacheWarning) as caught, Cache.memory():
        call()
    place = __file__, call.__code__.co_firstlineno
    assert [(one.filename, one.lineno) for one in caught] == [place]


def test_a_warning_of_a_thread_without_the_program_stands_nowhere() -> None:
    thread = threading.Thread(target=partial(ask, "a", cache=Cache.memory()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread.start()
        thread.join()
    assert [one.filename for one in caught] == [NOWHERE[0]]
