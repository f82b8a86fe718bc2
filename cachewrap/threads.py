"""The patch that carries active blocks into worker threads, whose context Python leaves empty."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, Self

import wrapt

from cachewrap.blocks import OUTSIDE, blocks
from cachewrap.call.flight import leading
from cachewrap.hooks import Hook, Wrapper

_lock = threading.RLock()
_holders = 0
_awaited = False


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

    `threading.Thread`, `ThreadPoolExecutor` (and with it ``run_in_executor``) and
    `multiprocessing.pool.ThreadPool` start with an empty context before Python 3.14; with this
    patch they see the active blocks, and nothing else of the context. A pool's worker sees those
    of each task while it runs it, wherever the worker was started. The patch of an SDK applies it
    as well.

    Returns a handle with `undo`, which also works as a block. It may be applied several times, and
    holds until the last application is undone.
    """
    return ThreadsPatch()


_hooks: Final[dict[tuple[type, str], Hook]] = {}


def hold() -> None:
    """Carry the active blocks over, until every `hold` was answered by a `release`."""
    global _holders, _awaited
    with _lock:
        _holders += 1
        # Every time: another tool may have taken something out since the last one.
        _put(threading.Thread, start=_start)
        _put(ThreadPoolExecutor, submit=_submit)
        if module := sys.modules.get(_POOLS):
            _put_in_pools(module)
        elif not _awaited:
            _awaited = True
            wrapt.register_post_import_hook(_pools_imported, _POOLS)


def _pools_imported(module: ModuleType) -> None:
    global _awaited
    with _lock:
        _awaited = False
        if _holders:
            _put_in_pools(module)


def _put_in_pools(module: ModuleType) -> None:
    given = dict.fromkeys(("apply_async", "_map_async", "imap", "imap_unordered"), _give)
    _put(module.ThreadPool, __init__=_make_pool, **given)


def _put(owner: type, **wrappers: Wrapper) -> None:
    for name, wrapper in wrappers.items():
        hook = _hooks.get((owner, name))
        if hook is None:
            hook = _hooks[owner, name] = Hook(owner, name, wrapper)
        hook.put()


def release() -> None:
    """Take back one `hold`."""
    global _holders
    with _lock:
        _holders -= 1
        if not _holders:
            for hook in _hooks.values():
                hook.take()


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
    if not (blocks.get() or leading.get()) or not _holders or not args:
        return wrapped(*args, **kwargs)
    work, *rest = args
    carrying = _carrying(work)
    with _outside():
        return wrapped(carrying, *rest, **kwargs)


def _give(
    wrapped: Callable[..., Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    # Most of a `ThreadPool` is that of its base, whose workers are processes.
    if not _is_thread_pool(pool) or not (blocks.get() or leading.get()) or not _holders:
        return wrapped(*args, **kwargs)
    if args:
        return wrapped(_carrying(args[0]), *args[1:], **kwargs)
    if "func" in kwargs:
        kwargs = {**kwargs, "func": _carrying(kwargs["func"])}
    return wrapped(**kwargs)


def _is_thread_pool(pool: Any) -> bool:
    return isinstance(pool, sys.modules[_POOLS].ThreadPool)


def _make_pool(
    wrapped: Callable[..., Any], pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if not (blocks.get() or leading.get()) or not _holders:
        return wrapped(*args, **kwargs)
    with _outside():
        return wrapped(*args, **kwargs)


def _carrying(work: Callable[..., Any]) -> Callable[..., Any]:
    """The work, done inside the blocks that are active now."""
    stack, flights = blocks.get(), leading.get()

    def carrying(*given: Any, **named: Any) -> Any:
        outer = blocks.get(), leading.get()
        blocks.set(stack)
        leading.set(flights)
        try:
            return work(*given, **named)
        finally:
            blocks.set(outer[0])
            leading.set(outer[1])

    return carrying


@contextmanager
def _outside() -> Iterator[None]:
    """No block is active: a worker started here outlives its task, and must not keep its blocks."""
    stack, flights = blocks.get(), leading.get()
    blocks.set(OUTSIDE)
    leading.set(())
    try:
        yield
    finally:
        blocks.set(stack)
        leading.set(flights)


# `run_in_executor` and `ThreadPoolExecutor.map` come down to `submit`.
_POOLS = "multiprocessing.pool"
