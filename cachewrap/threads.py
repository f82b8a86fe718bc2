"""The patch that carries active blocks into worker threads, whose context Python leaves empty."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, wraps
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import wrapt

from cachewrap import greenlets
from cachewrap.blocks import OUTSIDE, Stack, blocks
from cachewrap.call.flight import Flight, leading
from cachewrap.hooks import Hook, Wrapper

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy

_Blocks: TypeAlias = tuple[Stack, tuple[Flight, ...]]
_Enter: TypeAlias = Callable[[], _Blocks | None]

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

    def __repr__(self) -> str:
        does = "active blocks reach their worker threads" if self._held else "undone"
        return f"<patch of threads: {does}>"

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_line(repr(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def patch_threads() -> ThreadsPatch:
    """Let blocks reach the worker threads that are given work inside them.

    `threading.Thread`, `ThreadPoolExecutor` (and with it ``run_in_executor``) and
    `multiprocessing.pool.ThreadPool` start with an empty context before Python 3.14; with this
    patch they see the active blocks, and nothing else of the context. A pool's worker sees those
    of each task while it runs it, wherever the worker was started. Greenlets of gevent and
    eventlet, and what is given to their pools of threads, see those of whoever spawned them. The
    patch of an SDK applies it as well.

    Returns a handle with `undo`, which also works as a block. It may be applied several times, and
    holds until the last application is undone.
    """
    return ThreadsPatch()


_hooks: Final[dict[tuple[type | ModuleType, str], Hook]] = {}


def hold() -> None:
    """Carry the active blocks over, until every `hold` was answered by a `release`."""
    global _holders
    with _lock:
        _holders += 1
        # Every time: another tool may have taken something out since the last one.
        _put(threading.Thread, start=_start)
        _put(ThreadPoolExecutor, submit=_submit)  # for `map` and `run_in_executor` as well
        for name in _LATER:
            if module := sys.modules.get(name):
                _LATER[name](module)
            elif name not in _awaited:
                _awaited.add(name)
                wrapt.register_post_import_hook(_imported, name)


def _imported(module: ModuleType) -> None:
    with _lock:
        _awaited.discard(module.__name__)
        if _holders:
            _LATER[module.__name__](module)


def _put_in_pools(module: ModuleType) -> None:
    _put(
        module.ThreadPool,
        __init__=_make_pool,
        apply_async=partial(_give, {0: "func", 3: "callback", 4: "error_callback"}),
        _map_async=partial(_give, {0: "func", 4: "callback", 5: "error_callback"}),
        imap=partial(_give, {0: "func"}),
        imap_unordered=partial(_give, {0: "func"}),
    )


def _put_in_gevent(module: ModuleType) -> None:
    module.Greenlet.add_spawn_callback(greenlets.carry)  # which it does once alone


def _put_in_eventlet(module: ModuleType) -> None:
    _put(module.GreenThread, __init__=greenlets.make)
    _put(module, _spawn_n=greenlets.spawn)


_POOLS: Final = "multiprocessing.pool"
_GEVENT: Final = "gevent"  # its modules are others by the time that they are imported

# What is put into modules that may be imported later, or never.
_LATER: Final[dict[str, Callable[[ModuleType], None]]] = {
    _POOLS: _put_in_pools,
    _GEVENT: _put_in_gevent,
    "gevent.threadpool": lambda module: _put(module.ThreadPool, spawn=_submit),
    "eventlet.greenthread": _put_in_eventlet,
    "eventlet.tpool": lambda module: _put(module, execute=_submit),
}
_awaited: Final[set[str]] = set()


def _put(owner: type | ModuleType, **wrappers: Wrapper) -> None:
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
            if gevent := sys.modules.get(_GEVENT):
                gevent.Greenlet.remove_spawn_callback(greenlets.carry)


def _start(
    wrapped: Callable[..., Any],
    thread: threading.Thread,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    if not (blocks.get() or leading.get()) or not _holders:
        return wrapped(*args, **kwargs)
    start = _Start(thread)
    try:
        return wrapped(*args, **kwargs)
    except BaseException:
        start.end()
        raise


class _Start:
    """The start of one thread, with a stand-in for its `run` until that is called.

    The thread is as it was before its own code sees it. Whoever keeps the stand-in, in a wrapper of
    his own, keeps neither the blocks nor the thread.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._blocks: _Blocks | None = (blocks.get(), leading.get())
        self._thread: threading.Thread | None = thread
        self._own = vars(thread).get("run")
        self._stand_in = _stand_in(thread.run, self._enter)
        vars(thread)["run"] = self._stand_in
        if thread.run is not self._stand_in:  # a descriptor of its class: nothing is carried
            self.end()

    def _enter(self) -> _Blocks | None:
        carried, self._blocks = self._blocks, None
        self.end()
        return carried

    def end(self) -> None:
        """Give the thread its own `run` back, unless somebody has put another one there."""
        thread, self._thread = self._thread, None
        stand_in, self._stand_in = self._stand_in, None
        if thread is None or vars(thread).get("run") is not stand_in:
            return
        if self._own is None:
            del vars(thread)["run"]
        else:
            vars(thread)["run"] = self._own


def _submit(
    wrapped: Callable[..., Any],
    pool: Any,
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
    works: dict[int, str],
    wrapped: Callable[..., Any],
    pool: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    # Most of a `ThreadPool` is that of its base, whose workers are processes.
    if not _is_thread_pool(pool) or not (blocks.get() or leading.get()) or not _holders:
        return wrapped(*args, **kwargs)

    def carried(place: int | str, work: Any) -> Any:
        named = place in works or place in works.values()
        return _carrying(work) if named and work is not None else work

    given = [carried(place, work) for place, work in enumerate(args)]
    return wrapped(*given, **{name: carried(name, work) for name, work in kwargs.items()})


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
    here = (blocks.get(), leading.get())
    stand_in: Callable[..., Any] = _stand_in(work, lambda: here)
    return stand_in


def _stand_in(work: Any, enter: _Enter) -> Any:
    """What does some work inside the blocks that are given for each call, or in those around it.

    It is called and looked at as the work is, by whoever: others take the function of a method and
    give it the instance, or take a `partial` apart.
    """
    if type(work) is FunctionType:
        return _around(work, enter)
    if type(work) is MethodType:
        return MethodType(_around(work.__func__, enter), work.__self__)
    if type(work) is partial:
        return partial(_stand_in(work.func, enter), *work.args, **work.keywords)
    return _Object(work, enter)


def _around(function: Callable[..., Any], enter: _Enter) -> Callable[..., Any]:
    @wraps(function)
    def carrying(*args: Any, **kwargs: Any) -> Any:
        return _inside(enter(), function, args, kwargs)

    return carrying


class _Object(_Proxy):
    """A stand-in for what is neither a function nor a method, be it a proxy of one."""

    def __init__(self, work: Any, enter: _Enter) -> None:
        super().__init__(work)
        self._self_enter = enter

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _inside(self._self_enter(), self.__wrapped__, args, kwargs)

    @property
    def __func__(self) -> Any:
        return _stand_in(self.__wrapped__.__func__, self._self_enter)


def _inside(
    carried: _Blocks | None,
    work: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    if carried is None:
        return work(*args, **kwargs)
    outer = blocks.get(), leading.get()
    blocks.set(carried[0])
    leading.set(carried[1])
    try:
        return work(*args, **kwargs)
    finally:
        blocks.set(outer[0])
        leading.set(outer[1])


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
