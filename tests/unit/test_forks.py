"""What a forked child makes anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cachewrap import forks

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def in_child(check: Callable[[], bool]) -> bool:
    """Whether something holds in a child forked now."""
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_fork
def test_a_lock_that_was_held_at_the_fork_is_free_in_the_child() -> None:
    module: dict[str, Any] = {"_lock": threading.Lock(), "other": 1}
    forks.renew(module, _lock=threading.Lock)
    held = module["_lock"]
    with held:
        assert in_child(lambda: not module["_lock"].locked() and module["other"] == 1)
    assert module["_lock"] is held


@needs_fork
def test_the_lock_that_the_forking_code_is_inside_of_is_left_as_usual() -> None:
    module: dict[str, Any] = {"_lock": threading.RLock()}
    forks.renew(module, _lock=threading.RLock)
    child, left = -1, 0
    try:
        with module["_lock"]:
            child = os.fork()
        left = 1
    finally:
        if child == 0:
            os._exit(1 - left)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_fork
def test_a_function_is_called_in_the_child_alone() -> None:
    called: list[int] = []

    @forks.in_child
    def note() -> None:
        called.append(os.getpid())

    assert in_child(lambda: called == [os.getpid()])
    assert called == []


@needs_fork
def test_functions_are_called_around_a_fork() -> None:
    called: list[str] = []
    forks.around(
        lambda: called.append("before"),
        lambda: called.append("parent"),
        lambda: called.append("child"),
    )
    assert in_child(lambda: called == ["before", "child"])
    assert called == ["before", "parent"]


def test_nothing_is_registered_where_processes_cannot_be_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "_register", None)
    called: list[str] = []
    note = forks.in_child(lambda: called.append("child"))
    forks.around(note, note, note)
    forks.renew({}, _lock=threading.Lock)
    assert called == []
