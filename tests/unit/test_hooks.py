"""Hooks: a wrapper inside a function is met by everybody who holds the function."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import threading
import traceback
import typing
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any
from unittest import mock

import pytest
import wrapt

from cachewrap.hooks import Hook, is_own

HERE = sys.modules[__name__]


class Base:
    def told(self) -> str:
        return "base"

    def inherited(self) -> str:
        return "inherited"


def _required(function: Any) -> Any:
    """A decorator of the library's own."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Library(Base):
    plain_list = list

    def plain(self, one: int, two: str = "b", *, three: float = 3.0) -> tuple[Any, ...]:
        """What it does."""
        return (one, two, three)

    async def coroutine(self, one: int, two: str = "b") -> tuple[Any, ...]:
        await asyncio.sleep(0)
        return (one, two)

    def generator(self, one: int) -> Iterator[Any]:
        got = yield one
        yield got
        return "returned"

    async def agenerator(self, one: int) -> Any:
        try:
            got = yield one
            yield got
        except KeyError:
            yield "thrown"

    def told(self) -> str:
        return "library " + super().told()

    @_required
    def closure(self, *, one: int) -> int:
        return one

    @classmethod
    def of_class(cls, one: int) -> tuple[Any, int]:
        return cls, one

    @staticmethod
    def of_nobody(one: int) -> int:
        return one

    def fails(self) -> None:
        raise ValueError("its own")


def function(one: int, two: int = 2) -> tuple[int, int]:
    return one, two


class Seen:
    """A wrapper that notes its calls and makes them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        self.calls.append((instance, args, kwargs))
        return wrapped(*args, **kwargs)

    def __len__(self) -> int:
        return len(self.calls)


@pytest.fixture
def seen() -> Seen:
    return Seen()


CODES = {
    name: (f, f.__code__, dict(vars(f)))
    for name, f in [*vars(Library).items(), *vars(Base).items()]
    if isinstance(f, FunctionType)
}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    attributes = dict(vars(Library))
    yield
    for name, (found, code, told) in CODES.items():
        assert found.__code__ is code, name
        assert vars(found) == told, name
    for name in attributes:
        assert vars(Library).get(name) is attributes[name], name


@pytest.fixture
def hook(seen: Seen) -> Iterator[Callable[[str], Hook]]:
    made: list[Hook] = []

    def put(name: str, owner: Any = Library) -> Hook:
        made.append(Hook(owner, name, seen))
        made[-1].put()
        return made[-1]

    yield put
    for one in made:
        one.take()


async def _pull(made: Any) -> list[Any]:
    got = [await anext(made), await made.asend("sent")]
    await made.aclose()
    return got


async def _throw(made: Any) -> list[Any]:
    return [await anext(made), await made.athrow(KeyError())]


def _send(made: Any) -> list[Any]:
    got = [next(made), made.send("sent")]
    with pytest.raises(StopIteration, match="returned"):
        next(made)
    return got


@pytest.mark.parametrize(
    ("name", "call", "expected"),
    [
        pytest.param("plain", lambda o: o.plain(1), (1, "b", 3.0), id="defaults"),
        pytest.param("plain", lambda o: o.plain(1, "c", three=4.0), (1, "c", 4.0), id="all"),
        pytest.param("plain", lambda o: Library.plain(o, one=1), (1, "b", 3.0), id="unbound"),
        pytest.param("coroutine", lambda o: asyncio.run(o.coroutine(1)), (1, "b"), id="coroutine"),
        pytest.param("generator", lambda o: _send(o.generator(1)), [1, "sent"], id="generator"),
        pytest.param(
            "agenerator", lambda o: asyncio.run(_pull(o.agenerator(1))), [1, "sent"], id="agen"
        ),
        pytest.param(
            "agenerator", lambda o: asyncio.run(_throw(o.agenerator(1))), [1, "thrown"], id="throw"
        ),
        pytest.param("told", lambda o: o.told(), "library base", id="super"),
        pytest.param("inherited", lambda o: o.inherited(), "inherited", id="inherited"),
        pytest.param("closure", lambda o: o.closure(one=1), 1, id="closure"),
        pytest.param("of_class", lambda o: o.of_class(1), (Library, 1), id="classmethod"),
        pytest.param("of_nobody", lambda o: o.of_nobody(1), 1, id="staticmethod"),
    ],
)
def test_a_call_comes_to_the_wrapper_and_gives_what_it_gave(
    hook: Any, seen: Seen, name: str, call: Any, expected: Any
) -> None:
    assert call(Library()) == expected
    one = hook(name)
    assert call(Library()) == expected
    assert len(seen) == 1
    one.take()
    assert call(Library()) == expected
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        pytest.param("plain", lambda o: o, id="method"),
        pytest.param("of_class", lambda o: Library, id="classmethod"),
        pytest.param("of_nobody", lambda o: None, id="staticmethod"),
    ],
)
def test_the_wrapper_gets_what_wrapt_gives(hook: Any, seen: Seen, name: str, instance: Any) -> None:
    library = Library()
    hook(name)
    getattr(library, name)(1)
    assert seen.calls == [(instance(library), (1,), {})]


def test_a_function_of_a_module(hook: Any, seen: Seen) -> None:
    saved = function
    hook("function", HERE)
    assert saved(1) == (1, 2)
    assert seen.calls == [(None, (1,), {})]


def test_a_method_that_was_saved_before_comes_to_it(hook: Any, seen: Seen) -> None:
    library = Library()
    bound, unbound = library.plain, Library.plain
    hook("plain")
    assert bound(1) == unbound(library, 1) == (1, "b", 3.0)
    assert len(seen) == 2


def test_a_call_without_an_instance_is_the_functions_own_error(hook: Any, seen: Seen) -> None:
    hook("plain")
    with pytest.raises(TypeError, match=r"Library.plain\(\) missing"):
        Library.plain()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Library.plain\(\) got an unexpected .* 'four'"):
        Library().plain(1, four=4)  # type: ignore[call-arg]
    assert len(seen) == 1


NAMES = ["plain", "coroutine", "generator", "agenerator", "closure", "of_class", "of_nobody"]
TOLD: dict[str, Callable[[Any], Any]] = {
    "signature": inspect.signature,
    "hints": typing.get_type_hints,
    "source": inspect.getsource,
    "file": inspect.getsourcefile,
    "coroutine": inspect.iscoroutinefunction,
    "generator": inspect.isgeneratorfunction,
    "agenerator": inspect.isasyncgenfunction,
    "names": lambda f: (f.__name__, f.__qualname__, f.__module__, f.__doc__),
    "argspec": inspect.getfullargspec,
    "unwrapped": inspect.unwrap,
}


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("name", NAMES)
def test_it_looks_as_it_did(hook: Any, name: str, told: str) -> None:
    before = TOLD[told](getattr(Library, name))
    hook(name)
    assert TOLD[told](getattr(Library, name)) == before


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_to_pickle_and_copy(hook: Any, name: str) -> None:
    hook(name)
    method = getattr(Library, name)
    assert pickle.loads(pickle.dumps(method)) == method
    assert copy.deepcopy(method) == copy.copy(method) == method


def test_the_code_tells_names_and_place_of_the_original(hook: Any) -> None:
    def told() -> tuple[Any, ...]:
        code = Library.plain.__code__
        return code.co_name, code.co_qualname, code.co_filename, code.co_firstlineno

    before = told()
    hook("plain")
    assert told() == before


def test_a_traceback_shows_the_library(hook: Any) -> None:
    hook("fails")
    with pytest.raises(ValueError, match="its own") as caught:
        Library().fails()
    names = [
        (frame.filename, frame.name) for frame in traceback.extract_tb(caught.value.__traceback__)
    ]
    assert names.count((__file__, "fails")) == 2


@pytest.mark.parametrize("name", ["plain", "coroutine", "closure"])
def test_a_mock_made_after_it_is_what_it_was(hook: Any, seen: Seen, name: str) -> None:
    def told() -> tuple[Any, ...]:
        with mock.patch.object(Library, name, autospec=True) as mocked:
            call = mocked(Library(), one=1)
            if inspect.iscoroutine(call):
                call.close()
            return (
                inspect.signature(mocked),
                type(call).__name__,
                inspect.iscoroutinefunction(mocked),
            )

    before = told()
    hook(name)
    assert told() == before
    assert len(seen) == 0


def test_putting_again_changes_nothing(hook: Any, seen: Seen) -> None:
    one = hook("plain")
    code = Library.plain.__code__
    one.put()
    assert Library.plain.__code__ is code
    Library().plain(1)
    assert len(seen) == 1


def test_taking_out_what_is_not_in_does_nothing(seen: Seen) -> None:
    one = Hook(Library, "plain", seen)
    one.take()
    one.put()
    one.take()
    one.take()
    assert not one.in_place


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_several_in_one_function_are_taken_out_in_any_order(order: tuple[int, ...]) -> None:
    wrappers = [Seen(), Seen(), Seen()]
    hooks = [Hook(Library, "plain", wrapper) for wrapper in wrappers]
    for one in hooks:
        one.put()
    signature = inspect.signature(Library.plain)
    left = {0, 1, 2}
    for n in order:
        Library().plain(1)
        hooks[n].take()
        left.remove(n)
        assert inspect.signature(Library.plain) == signature
        assert [one.in_place for one in hooks] == [n in left for n in range(3)]
        counts = [len(wrapper) for wrapper in wrappers]
        assert Library().plain(1) == (1, "b", 3.0)
        assert [len(w) - c for w, c in zip(wrappers, counts, strict=True)] == [
            n in left for n in range(3)
        ]


def test_one_of_several_is_put_in_again() -> None:
    wrappers = [Seen(), Seen()]
    one, two = (Hook(Library, "plain", wrapper) for wrapper in wrappers)
    one.put()
    two.put()
    one.take()
    one.put()
    Library().plain(1)
    assert [len(wrapper) for wrapper in wrappers] == [1, 1]
    two.take()
    Library().plain(1)
    assert [len(wrapper) for wrapper in wrappers] == [2, 1]
    one.take()


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
def test_what_was_taken_out_can_be_forgotten(again: bool) -> None:
    wrapper = Seen()
    one = Hook(Library, "plain", wrapper)
    for _ in range(1 + again):
        one.put()
        Library().plain(1)
        one.take()
    gone = weakref.ref(wrapper)
    del one, wrapper
    gc.collect()
    assert gone() is None


def _changing(function: FunctionType, seen: Seen) -> Callable[[], None]:
    """Another tool that changes a function's code, as ddtrace does; returns its undoing."""
    code = function.__code__
    inner = FunctionType(
        code, function.__globals__, "<wrapped>", function.__defaults__, function.__closure__
    )
    inner.__kwdefaults__ = function.__kwdefaults__

    def theirs(*args: Any, **kwargs: Any) -> Any:
        note: Any = "note"
        call: Any = "inner"
        note()
        return call(*args, **kwargs)

    constants: dict[Any, Any] = {
        "note": _elsewhere(lambda: seen.calls.append((None, (), {}))),
        "inner": inner,
    }
    made = theirs.__code__
    function.__code__ = made.replace(co_consts=tuple(constants.get(c, c) for c in made.co_consts))

    def undo() -> None:
        function.__code__ = inner.__code__

    return undo


class TestCodeThatOthersChange:
    def test_what_stands_inside_theirs_is_still_in_place(self, hook: Any, seen: Seen) -> None:
        others = Seen()
        one = hook("plain")
        undo = _changing(Library.plain, others)
        assert one.in_place
        one.put()
        assert Library().plain(1) == (1, "b", 3.0)
        assert (len(seen), len(others)) == (1, 1)
        undo()
        Library().plain(1)
        assert (len(seen), len(others)) == (2, 1)

    def test_theirs_stays_and_ours_in_it_does_nothing(self, hook: Any, seen: Seen) -> None:
        others = Seen()
        one = hook("plain")
        undo = _changing(Library.plain, others)
        one.take()
        assert not one.in_place
        assert Library().plain(1) == (1, "b", 3.0)
        assert (len(seen), len(others)) == (0, 1)
        undo()
        assert Library().plain(1) == (1, "b", 3.0)
        assert not one.in_place
        del Library.plain.__signature__  # type: ignore[attr-defined]

    def test_it_goes_into_the_librarys_own_code_inside_theirs(self, hook: Any, seen: Seen) -> None:
        others = Seen()
        code = Library.plain.__code__
        undo = _changing(Library.plain, others)
        one = hook("plain")
        assert Library().plain(1) == (1, "b", 3.0)
        assert (len(seen), len(others), one.in_place) == (1, 1, True)
        undo()
        Library().plain(1)
        assert (len(seen), len(others), one.in_place) == (2, 1, True)
        one.put()
        one.take()
        assert Library.plain.__code__ is code

    def test_its_own_code_is_told_from_that_of_others(self, hook: Any) -> None:
        package = __name__.partition(".")[0]
        function: Any = Library.plain
        assert is_own(function, package)
        assert not is_own(function, "other")
        assert not is_own(_by_wrapt(function), package)
        hook("plain")
        hook("plain")
        assert is_own(function, package)
        undo = _changing(function, Seen())
        assert not is_own(function, package)
        undo()

    def test_a_code_put_back_is_looked_at(self, hook: Any, seen: Seen) -> None:
        code = Library.plain.__code__
        one = hook("plain")
        Library.plain.__code__ = code
        assert not one.in_place
        one.put()
        assert one.in_place
        Library().plain(1)
        assert len(seen) == 1

    def test_another_code_is_the_original_from_then_on(self, hook: Any, seen: Seen) -> None:
        code = Library.plain.__code__
        one = hook("plain")
        other = code.replace(co_consts=tuple(c for c in code.co_consts))
        Library.plain.__code__ = other
        one.put()
        Library().plain(1)
        assert len(seen) == 1
        one.take()
        assert Library.plain.__code__ is other
        Library.plain.__code__ = code


def _closure_with_name(function: Any) -> Any:
    @functools.wraps(function)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return _elsewhere(theirs)


def _closure_without(function: Any) -> Any:
    return _elsewhere(lambda *args, **kwargs: function(*args, **kwargs))


def _default_of(function: Any) -> Any:
    return _elsewhere(lambda *args, _f=function, **kwargs: _f(*args, **kwargs))


def _elsewhere(function: Any) -> Any:
    """A function as if it were written in another package."""
    moved = FunctionType(
        function.__code__,
        {"__name__": "tool", "__builtins__": __builtins__},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    moved.__kwdefaults__ = function.__kwdefaults__
    vars(moved).update(vars(function))
    return moved


def _by_wrapt(function: Any) -> Any:
    return wrapt.FunctionWrapper(
        function, lambda wrapped, i, args, kwargs: wrapped(*args, **kwargs)
    )


WRAPPED = [
    pytest.param(_closure_with_name, id="wraps"),
    pytest.param(_closure_without, id="closure"),
    pytest.param(_default_of, id="default"),
    pytest.param(_by_wrapt, id="wrapt"),
    pytest.param(functools.partialmethod, id="partialmethod"),
    pytest.param(lambda f: _closure_without(_by_wrapt(_closure_with_name(f))), id="several"),
]


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("name", ["plain", "closure"])
def test_it_stands_in_the_librarys_own_function_inside_of_others_wrappers(
    hook: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch, wrap: Any, name: str
) -> None:
    own = vars(Library)[name]
    outer = wrap(own)
    with monkeypatch.context() as patching:
        patching.setattr(Library, name, outer)
        one = hook(name)
        assert vars(Library)[name] is outer
        getattr(Library(), name)(one=1)
        assert (one.in_place, len(seen), one.function()) == (True, 1, own)
    # They went, ours stayed.
    getattr(Library(), name)(one=1)
    assert len(seen) == 2


@pytest.mark.parametrize("wrap", WRAPPED)
def test_what_others_wrap_and_take_out_later_does_not_matter(
    hook: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch, wrap: Any
) -> None:
    one = hook("plain")
    with monkeypatch.context() as patching:
        patching.setattr(Library, "plain", wrap(vars(Library)["plain"]))
        one.put()
        Library().plain(one=1)
        assert (one.in_place, len(seen)) == (True, 1)
    Library().plain(1)
    assert (one.in_place, len(seen)) == (True, 2)


def test_a_mock_is_left_alone_and_what_it_gives_back_is_looked_at(hook: Any, seen: Seen) -> None:
    with mock.patch.object(Library, "plain", return_value="mocked"):
        one = hook("plain")
        assert Library().plain(1) == "mocked"
        assert not one.in_place
    one.put()
    Library().plain(1)
    assert (one.in_place, len(seen)) == (True, 1)
    with mock.patch.object(Library, "plain", return_value="mocked"):
        one.put()
        assert Library().plain(1) == "mocked"
    Library().plain(1)
    assert len(seen) == 2


def test_a_mock_that_calls_the_original_comes_to_it(hook: Any, seen: Seen) -> None:
    hook("plain")
    library = Library()
    with mock.patch.object(library, "plain", wraps=library.plain):
        assert library.plain(1) == (1, "b", 3.0)
    assert len(seen) == 1


class Compiled(list):  # type: ignore[type-arg]
    """A class some methods of which have no code of their own."""

    sorted = list.sort


class TestWithoutCode:
    """Methods of builtin and compiled classes, and functions of others."""

    def test_the_class_is_given_a_wrapper(self, seen: Seen) -> None:
        one = Hook(Compiled, "sorted", seen)
        one.put()
        items = Compiled([2, 1])
        items.sorted(reverse=False)
        assert (items, len(seen), one.in_place) == ([1, 2], 1, True)
        one.put()
        items.sorted()
        assert len(seen) == 2
        one.take()
        assert vars(Compiled)["sorted"] is list.sort
        assert not one.in_place

    def test_what_was_inherited_is_inherited_again(self, seen: Seen) -> None:
        one = Hook(Compiled, "reverse", seen)
        one.put()
        Compiled().reverse()
        one.take()
        assert "reverse" not in vars(Compiled)
        assert len(seen) == 1

    def test_one_that_was_taken_out_is_put_in_again(self, seen: Seen) -> None:
        one = Hook(Compiled, "sorted", seen)
        one.put()
        Compiled.sorted = list.sort  # type: ignore[method-assign]
        assert not one.in_place
        one.put()
        Compiled().sorted()
        assert (one.in_place, len(seen)) == (True, 1)
        one.take()

    def test_in_what_others_wrapped_around_it_stays_without_effect(self, seen: Seen) -> None:
        one = Hook(Compiled, "sorted", seen)
        one.put()
        outer = _by_wrapt(vars(Compiled)["sorted"])
        Compiled.sorted = outer  # type: ignore[method-assign]
        assert one.in_place
        one.take()
        assert vars(Compiled)["sorted"] is outer
        Compiled().sorted()
        assert len(seen) == 0
        one.put()
        Compiled().sorted()
        assert len(seen) == 1
        one.take()
        assert vars(Compiled)["sorted"] is outer
        Compiled.sorted = list.sort  # type: ignore[method-assign]


def test_what_is_not_there_is_not_in_place(seen: Seen) -> None:
    one = Hook(Library, "nothing", seen)
    one.put()
    assert not one.in_place
    one.take()


def test_calls_under_way_end_as_they_began() -> None:
    inside, go = threading.Event(), threading.Event()
    made: list[str] = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        inside.set()
        assert go.wait(10)
        made.append("wrapper")
        return wrapped(*args, **kwargs)

    one = Hook(Library, "plain", wrapper)
    one.put()
    thread = threading.Thread(target=lambda: made.append(str(Library().plain(1))))
    thread.start()
    assert inside.wait(10)
    one.take()
    assert Library().plain(1) == (1, "b", 3.0)
    go.set()
    thread.join()
    assert made == ["wrapper", "(1, 'b', 3.0)"]


def test_putting_in_and_out_while_others_call() -> None:
    wrong: list[Any] = []
    over = threading.Event()

    def calls() -> None:
        library = Library()
        while not over.is_set():
            try:
                assert library.plain(1) == (1, "b", 3.0)
                assert library.closure(one=1) == 1
            except BaseException as error:
                wrong.append(error)

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    hooks = [Hook(Library, name, wrapper) for name in ("plain", "closure")]
    for _ in range(200):
        for one in hooks:
            one.put()
        for one in hooks:
            one.take()
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
