"""Carrying the active blocks into worker threads, which Python starts with an empty context."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import wrapt

from cachewrap.blocks import OUTSIDE, blocks
from cachewrap.flight import leading

_lock = threading.RLock()
_holders = 0


class ThreadsPatch:
    """One application of `patch_threads`; use it as a block, or call `undo`."""

    def __init__(self) -> None:
        self._held = True
        hold()

    def undo(self) -> None:
        """Undo this application; a second time does nothing."""
        with _lock:
            if self._held:
                self._held = False
                release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def patch_threads() -> ThreadsPatch:
    """Let blocks reach the worker threads that are given work inside them.

    `threading.Thread` and `ThreadPoolExecutor` (and with it ``run_in_executor``) start with an
    empty context before Python 3.14; with this patch they see the active blocks, and nothing else
    of the context. `patch_openai` applies it as well.

    Returns a handle with `undo`, which also works as a block. It may be applied several times, and
    holds until the last application is undone.
    """
    return ThreadsPatch()


_wrapped: list[tuple[type, str, Any, Any]] = []


def hold() -> None:
    """Carry the active blocks over, until every `hold` was answered by a `release`."""
    global _holders
    with _lock:
        _holders += 1
        if _holders > 1:
            return
        for owner, name, wrapper in _TARGETS:
            original = vars(owner)[name]
            wrapped = wrapt.FunctionWrapper(original, wrapper)
            setattr(owner, name, wrapped)
            _wrapped.append((owner, name, original, wrapped))


def release() -> None:
    """Take back one `hold`."""
    global _holders
    with _lock:
        _holders -= 1
        if _holders:
            return
        for owner, name, original, wrapped in _wrapped:
            # What somebody else wrapped around ours stays, and ours in it does nothing.
            if vars(owner).get(name) is wrapped:
                setattr(owner, name, original)
        _wrapped.clear()


def _start(
    wrapped: Callable[..., Any],
    thread: threading.Thread,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    stack, flights = blocks.get(), leading.get()
    if not (stack or flights) or not _holders:
        return wrapped(*args, **kwargs)
    run = thread.run
    own = vars(thread).get("run")

    def carrying() -> None:
        # The thread is as it was before its own code sees it.
        _put_back(thread, own)
        blocks.set(stack)
        leading.set(flights)
        run()

    vars(thread)["run"] = carrying
    try:
        return wrapped(*args, **kwargs)
    except BaseException:
        _put_back(thread, own)
        raise


def _put_back(thread: threading.Thread, own: Any) -> None:
    if own is None:
        vars(thread).pop("run", None)
    else:
        vars(thread)["run"] = own


def _submit(
    wrapped: Callable[..., Any],
    pool: ThreadPoolExecutor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    stack, flights = blocks.get(), leading.get()
    if not (stack or flights) or not _holders or not args:
        return wrapped(*args, **kwargs)
    work, *rest = args

    def carrying(*given: Any, **named: Any) -> Any:
        outer = blocks.get(), leading.get()
        blocks.set(stack)
        leading.set(flights)
        try:
            return work(*given, **named)
        finally:
            blocks.set(outer[0])
            leading.set(outer[1])

    # A worker started for this task outlives it, so it must not be born inside these blocks.
    blocks.set(OUTSIDE)
    leading.set(())
    try:
        return wrapped(carrying, *rest, **kwargs)
    finally:
        blocks.set(stack)
        leading.set(flights)


# `run_in_executor` and `map` come down to `submit`.
_TARGETS: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (threading.Thread, "start", _start),
    (ThreadPoolExecutor, "submit", _submit),
)
