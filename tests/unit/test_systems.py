"""What one system has and another lacks: forks, and locks on files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cachewrap import systems


def in_child(check: Callable[[], bool]) -> bool:
    """Whether something holds in a child forked now."""
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.posix("forks")
def test_a_lock_that_was_held_at_the_fork_is_free_in_the_child() -> None:
    module: dict[str, Any] = {"_lock": threading.Lock(), "other": 1}
    systems.renew_in_child(module, _lock=threading.Lock)
    held = module["_lock"]
    with held:
        assert in_child(lambda: not module["_lock"].locked() and module["other"] == 1)
    assert module["_lock"] is held


@pytest.mark.posix("forks")
def test_the_lock_that_the_forking_code_is_inside_of_is_left_as_usual() -> None:
    module: dict[str, Any] = {"_lock": threading.RLock()}
    systems.renew_in_child(module, _lock=threading.RLock)
    child, left = -1, 0
    try:
        with module["_lock"]:
            child = os.fork()
        left = 1
    finally:
        if child == 0:
            os._exit(1 - left)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.posix("forks")
def test_a_function_is_called_in_the_child_alone() -> None:
    called: list[int] = []

    @systems.in_forked_child
    def note() -> None:
        called.append(os.getpid())

    assert in_child(lambda: called == [os.getpid()])
    assert called == []


@pytest.mark.posix("forks")
def test_functions_are_called_around_a_fork() -> None:
    called: list[str] = []
    systems.around_fork(
        lambda: called.append("before"),
        lambda: called.append("parent"),
        lambda: called.append("child"),
    )
    assert in_child(lambda: called == ["before", "child"])
    assert called == ["before", "parent"]


def test_nothing_is_registered_where_processes_cannot_be_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(systems, "_register", None)
    called: list[str] = []
    note = systems.in_forked_child(lambda: called.append("child"))
    systems.around_fork(note, note, note)
    systems.renew_in_child({}, _lock=threading.Lock)
    assert called == []
