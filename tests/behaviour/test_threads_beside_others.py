"""What carries blocks into threads is called, and looked at, as what it stands in for."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from multiprocessing.pool import ThreadPool
from queue import SimpleQueue
from types import MethodType
from typing import Any

import pytest
import wrapt

from cachewrap import Cache, patch_threads
from cachewrap.options import active_cache

Seen = list[Any]
Make = Callable[[Seen], threading.Thread]


def note(seen: Seen, *args: Any, **kwargs: Any) -> None:
    """Note with what a `run` was called, and in which block."""
    shown = ["thread" if isinstance(one, threading.Thread) else one for one in args]
    seen.append((shown, kwargs, active_cache()))


def with_a_target(seen: Seen) -> threading.Thread:
    return threading.Thread(target=note, args=(seen, 1), kwargs={"key": 2})


def that_overrides_run(seen: Seen) -> threading.Thread:
    class Mine(threading.Thread):
        def run(self) -> None:
            note(seen, self)

    return Mine()


def that_calls_the_base(seen: Seen) -> threading.Thread:
    class Mine(threading.Thread):
        def run(self, *args: Any, **kwargs: Any) -> None:
            note(seen, self, *args, **kwargs)
            super().run()

    return Mine(target=note, args=(seen,))


def with_slots(seen: Seen) -> threading.Thread:
    class Mine(threading.Thread):
        __slots__ = ("mine",)

        def run(self, *args: Any, **kwargs: Any) -> None:
            self.mine = 1
            note(seen, self, *args, **kwargs)

    return Mine()


def with_a_static_run(seen: Seen) -> threading.Thread:
    class Mine(threading.Thread):
        @staticmethod
        def run(*args: Any, **kwargs: Any) -> None:
            note(seen, *args, **kwargs)

    return Mine()


def with_a_run_of_its_class(seen: Seen) -> threading.Thread:
    class Mine(threading.Thread):
        @classmethod
        def run(cls, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
            note(seen, *args, **kwargs)

    return Mine()


def with_a_wrapped_run(seen: Seen) -> threading.Thread:
    @wrapt.decorator
    def twice(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        assert isinstance(instance, threading.Thread)
        wrapped(*args, **kwargs)
        wrapped(*args, **kwargs)

    class Mine(threading.Thread):
        @twice
        def run(self, *args: Any, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            note(seen, self, *args, **kwargs)

    return Mine()


def with_a_run_of_its_own(seen: Seen) -> threading.Thread:
    thread = threading.Thread()

    def run(*args: Any, **kwargs: Any) -> None:
        note(seen, *args, **kwargs)

    thread.run = run  # type: ignore[method-assign]
    return thread


def with_a_method_of_its_own(seen: Seen) -> threading.Thread:
    thread = threading.Thread()

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        note(seen, self, *args, **kwargs)

    thread.run = MethodType(run, thread)  # type: ignore[method-assign]
    return thread


def with_a_partial(seen: Seen) -> threading.Thread:
    thread = threading.Thread()
    thread.run = partial(note, seen, 1, key=2)  # type: ignore[method-assign]
    return thread


def with_an_object(seen: Seen) -> threading.Thread:
    class Work:
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            note(seen, *args, **kwargs)

    thread = threading.Thread()
    thread.run = Work()  # type: ignore[method-assign]
    return thread


def of_a_timer(seen: Seen) -> threading.Thread:
    return threading.Timer(0, note, (seen, 1), {"key": 2})


KINDS: list[Make] = [
    *(with_a_target, that_overrides_run, that_calls_the_base, with_slots, with_a_static_run),
    *(with_a_run_of_its_class, with_a_wrapped_run, with_a_run_of_its_own),
    *(with_a_method_of_its_own, with_a_partial, with_an_object, of_a_timer),
]


@contextmanager
def started_by(start: Callable[..., None]) -> Iterator[None]:
    """Another tool's function in the place of `Thread.start`, which is given the one before."""
    before = threading.Thread.start
    own = vars(threading.Thread)["start"]

    @wraps(before)
    def others(self: threading.Thread, *args: Any, **kwargs: Any) -> None:
        return start(before, self, *args, **kwargs)

    threading.Thread.start = others  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.start = own  # type: ignore[method-assign]


def takes_the_function(before: Any, self: Any) -> None:
    """As sentry_sdk does."""
    function = getattr(self.run, "__func__", self.run)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return function(threading.current_thread(), *args[1:], **kwargs)

    self.run = run
    before(self)


def calls_what_it_finds(before: Any, self: Any) -> None:
    run = self.run
    self.run = lambda *args, **kwargs: run(*args, **kwargs)
    before(self)


def calls_it_as_a_method(before: Any, self: Any) -> None:
    run = self.run
    self.run = MethodType(lambda self, *args, **kwargs: run(*args, **kwargs), self)
    before(self)


@contextmanager
def wrapping_the_classes() -> Iterator[None]:
    """As OpenTelemetry does."""

    def run(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        assert isinstance(instance, threading.Thread)
        return wrapped(*args, **kwargs)

    places = [(owner, name) for owner in (threading.Thread, threading.Timer) for name in NAMES]
    before = [vars(owner).get(name) for owner, name in places]
    for owner, name in places:
        wrapt.wrap_function_wrapper(owner, name, run)
    try:
        yield
    finally:
        for (owner, name), was in zip(places, before, strict=True):
            if was is None:
                delattr(owner, name)
            else:
                setattr(owner, name, was)


NAMES = ("start", "run")


TOOLS: list[Any] = [
    pytest.param(nullcontext, id="nobody"),
    pytest.param(partial(started_by, takes_the_function), id="takes the function"),
    pytest.param(partial(started_by, calls_what_it_finds), id="calls what it finds"),
    pytest.param(partial(started_by, calls_it_as_a_method), id="a method of its own"),
    pytest.param(wrapping_the_classes, id="wraps the classes"),
]
ORDERS = pytest.mark.parametrize("first", ["the tool", "ours"])


def outcome(make: Make, cache: Cache | None) -> tuple[list[Any], list[Any]]:
    """What a thread's `run` was called with, and what it raised."""
    seen: Seen = []
    raised: list[Any] = []
    before = threading.excepthook
    threading.excepthook = lambda error: raised.append(error.exc_type)
    try:
        with cache or nullcontext():
            thread = make(seen)
            thread.start()
        thread.join(10)
    finally:
        threading.excepthook = before
    return seen, raised


@ORDERS
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("make", KINDS)
def test_a_thread_runs_as_it_does_without_us_and_inside_the_block(
    make: Make, tool: Callable[[], AbstractContextManager[None]], first: str
) -> None:
    with tool():
        without, raised = outcome(make, None)
    assert without or raised
    cache = Cache.memory()
    first_one, second = (tool, patch_threads) if first == "the tool" else (patch_threads, tool)
    with first_one(), second():
        seen, raised_with = outcome(make, cache)
    assert [(args, kwargs) for args, kwargs, _ in seen] == [
        (args, kwargs) for args, kwargs, _ in without
    ]
    assert raised_with == raised
    assert {id(there) for _, _, there in seen} <= {id(cache)}


@pytest.fixture
def held() -> Iterator[None]:
    with patch_threads():
        yield


@pytest.fixture
def cache() -> Cache:
    return Cache.memory()


class Mine(threading.Thread):
    """A thread that keeps what it is about to run."""

    kept: Any = None

    def run(self) -> None:
        """Its own work."""

    def _bootstrap_inner(self) -> None:
        self.kept = self.run
        super()._bootstrap_inner()  # type: ignore[misc]


def as_started(thread: Mine) -> Any:
    """What a thread that was started in a block was about to run."""
    with patch_threads(), Cache.memory():
        thread.start()
    thread.join(10)
    assert "run" not in vars(thread) or vars(thread)["run"] is not thread.kept
    return thread.kept


def test_the_stand_in_of_a_method_is_a_method() -> None:
    thread = Mine()
    run = as_started(thread)
    assert type(run) is MethodType
    assert run.__self__ is thread
    assert run.__func__ is not Mine.run
    assert (run.__name__, run.__qualname__, run.__doc__) == ("run", "Mine.run", "Its own work.")
    assert inspect.unwrap(run.__func__) is Mine.run


def test_the_stand_in_of_a_partial_is_a_partial() -> None:
    thread = Mine()
    own = thread.run = partial(note, [], 1, key=2)  # type: ignore[method-assign]
    run = as_started(thread)
    assert type(run) is partial
    assert run is not own
    assert (run.args[1], run.keywords, inspect.unwrap(run.func)) == (1, {"key": 2}, note)


def test_the_stand_in_of_an_object_shows_what_it_has() -> None:
    class Work:
        name = "mine"

        def __call__(self) -> None: ...

    thread = Mine()
    own = thread.run = Work()  # type: ignore[method-assign]
    run = as_started(thread)
    assert isinstance(run, Work)
    assert run is not own
    assert run.name == "mine"


def test_a_run_that_is_no_attribute_to_set_works_as_it_did(cache: Cache) -> None:
    seen: Seen = []

    class Computed(threading.Thread):
        @property
        def run(self) -> Any:  # type: ignore[override]
            return partial(note, seen)

    with patch_threads(), cache:
        thread = Computed()
        thread.start()
        thread.join(10)
    assert seen == [([], {}, None)]
    assert "run" not in vars(thread)


def test_who_keeps_the_stand_in_keeps_neither_the_thread_nor_the_block() -> None:
    kept: list[Any] = []

    class Keeping(Mine):
        def _bootstrap_inner(self) -> None:
            kept.append(self.run.__func__)  # type: ignore[attr-defined]
            super()._bootstrap_inner()
            self.kept = None

    def go() -> tuple[Any, Any]:
        cache = Cache.memory()
        with patch_threads(), cache:
            thread = Keeping()
            thread.start()
            thread.join(10)
        return weakref.ref(thread), weakref.ref(cache)

    gc.disable()  # no circle is left behind either
    try:
        thread, cache = go()
        assert thread() is None
    finally:
        gc.enable()
    gc.collect()
    assert cache() is None
    assert inspect.unwrap(kept[0]) is Mine.run


def test_a_run_that_is_called_once_more_is_outside_the_block(cache: Cache) -> None:
    seen: Seen = []

    class Noting(Mine):
        def run(self) -> None:
            note(seen)

    thread = Noting()
    with patch_threads(), cache:
        thread.start()
        thread.join(10)
    thread.kept()
    assert seen == [([], {}, cache), ([], {}, None)]


def test_a_thread_that_cannot_start_has_its_own_run_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    for name in ("_start_new_thread", "_start_joinable_thread"):  # of 3.12, and later
        monkeypatch.setattr(threading, name, fails, raising=False)
    thread = Mine()
    with patch_threads(), cache, pytest.raises(RuntimeError, match="can't"):
        thread.start()
    assert "run" not in vars(thread)


class Given(SimpleQueue[Any]):
    """The queue of a pool, which shows the work that comes to it."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:
            self.work.append(item.fn)
        super().put(item, block, timeout)


@contextmanager
def submitted() -> Iterator[tuple[ThreadPoolExecutor, list[Any]]]:
    """A pool in a block, and what is given to its workers."""
    with patch_threads(), Cache.memory(), ThreadPoolExecutor(1) as pool:
        queue = pool._work_queue = Given()  # type: ignore[attr-defined]
        yield pool, queue.work


class Work:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> Any:
        return active_cache(), args

    def method(self, *args: Any) -> Any:
        return active_cache(), args


def work(*args: Any) -> Any:
    """Some work."""
    return active_cache(), args


@pytest.mark.parametrize(
    ("done", "look"),
    [
        pytest.param(work, lambda fn: (fn.__name__, fn.__doc__, fn.__module__), id="function"),
        pytest.param(Work("a").method, lambda fn: (fn.__self__.name, fn.__name__), id="method"),
        pytest.param(
            partial(work, 1), lambda fn: (fn.args, fn.keywords, fn.func.__name__), id="partial"
        ),
        pytest.param(
            partial(partial(work, 1), 2), lambda fn: (fn.args, type(fn)), id="partial of a partial"
        ),
        pytest.param(Work("b"), lambda fn: (fn.name, isinstance(fn, Work)), id="object"),
    ],
)
def test_the_work_of_a_pool_looks_as_it_is(done: Any, look: Callable[[Any], Any]) -> None:
    with submitted() as (pool, given):
        found, args = pool.submit(done, 7).result(10)
        assert found is active_cache()
        assert args[-1] == 7
    assert given[0] is not done
    assert look(given[0]) == look(done)


@pytest.mark.parametrize("done", [len, [1, 2].count, str.upper], ids=["built in", "bound", "slot"])
def test_work_that_is_built_in_keeps_its_name(done: Any) -> None:
    given_to_it = {len: "abc", str.upper: "abc"}.get(done, 1)
    with submitted() as (pool, given):
        assert pool.submit(done, given_to_it).result(10) == done(given_to_it)
    assert given[0] is not done
    assert given[0].__name__ == done.__name__


def test_a_partial_that_is_taken_apart_is_still_inside(cache: Cache) -> None:
    with submitted() as (pool, given), cache:
        pool.submit(partial(work, 1)).result(10)
        taken = given[0]
    assert taken.func(*taken.args) == (cache, (1,))


@pytest.mark.usefixtures("held")
def test_a_wrong_call_of_a_pool_is_an_error_of_the_pool(cache: Cache) -> None:
    with ThreadPoolExecutor(1) as pool, cache:
        with pytest.raises(TypeError, match="positional"):
            pool.submit(fn=work)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="positional"):
            pool.submit()  # type: ignore[call-arg]


@pytest.mark.usefixtures("held")
def test_the_keyword_fn_is_that_of_the_work(cache: Cache) -> None:
    def keyword(*, fn: str) -> tuple[Any, str]:
        return active_cache(), fn

    with ThreadPoolExecutor(1) as pool, cache:
        assert pool.submit(keyword, fn="a").result(10) == (cache, "a")
    with ThreadPool(1) as threads, cache:
        assert threads.apply(keyword, kwds={"fn": "a"}) == (cache, "a")


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(work, id="function"),
        pytest.param(partial(work), id="partial"),
        pytest.param(Work("a"), id="object"),
        pytest.param(Work("a").method, id="method"),
    ],
)
def test_every_kind_of_work_is_inside_in_every_pool(given: Any, cache: Cache) -> None:
    async def aside() -> list[Any]:
        loop = asyncio.get_running_loop()
        return [await asyncio.to_thread(given, 1), await loop.run_in_executor(None, given, 1)]

    with ThreadPool(1) as pool, cache:
        found = [
            pool.apply(given, (1,)),
            pool.apply_async(func=given, args=(1,)).get(10),
            pool.starmap(given, [(1,)])[0],
            *pool.map(given, [1]),
            *pool.map_async(func=given, iterable=[1]).get(10),
            *pool.imap(given, [1]),
            *pool.imap_unordered(func=given, iterable=[1]),
            *asyncio.run(aside()),
        ]
    assert found == [(cache, (1,))] * 9
