"""Binding: which calls are one request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from cachewrap.errors import ConfigurationError
from cachewrap.function.signature import make_binder


def plain(x: int, y: int = 2) -> None: ...
def positional(x: int, /, y: int = 2) -> None: ...
def all_positional(x: int, y: int = 2, /) -> None: ...
def keyword(x: int, *, y: int = 2) -> None: ...
def starred(x: int, *args: int, y: int = 2, **kwargs: int) -> None: ...
def shadowing(list: int, dict: int = 2, *k: int, **v: int) -> None: ...
def nothing() -> None: ...


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (plain, (1,), {}),
    (plain, (1, 2), {}),
    (plain, (), {"y": 3, "x": 1}),
    (positional, (1,), {"y": 3}),
    (all_positional, (1, 3), {}),
    (keyword, (1,), {"y": 3}),
    (starred, (1, 8, 9), {"y": 3, "z": 4}),
    (starred, (1,), {}),
    (shadowing, (1, 2, 3), {"k": 4}),
    (nothing, (), {}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_binds_as_the_signature_does(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    expected = {k: list(v) if isinstance(v, tuple) else v for k, v in bound.arguments.items()}
    assert make_binder(function, ())(*args, **kwargs) == expected


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})]
)
def test_refuses_what_the_function_refuses_in_its_words(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError) as expected:
        plain(*args, **kwargs)
    with pytest.raises(TypeError) as raised:
        make_binder(plain, ())(*args, **kwargs)
    assert str(raised.value) == str(expected.value)


def test_leaves_out_what_is_ignored() -> None:
    binder = make_binder(starred, ("x", "z"))
    assert binder(1, 2, z=3, w=4) == {"args": [2], "y": 2, "kwargs": {"w": 4}}


def test_an_ignored_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"'client'.*plain.*it has x, y"):
        make_binder(plain, ("client",))


def test_a_builtin_without_a_signature_is_bound_by_position() -> None:
    assert make_binder(min, ())(1, 2) == {"args": [1, 2], "kwargs": {}}


def with_client(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("client", *args, **kwargs)

    return wrapper


def verbosely(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, verbose: bool = False, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@with_client
def given_a_client(client: str, prompt: str) -> None: ...


@verbosely
def with_a_switch(prompt: str, *, model: str = "small") -> None: ...


OUTER: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (with_a_switch, ("hi",), {}, {"prompt": "hi", "model": "small"}),
    (
        with_a_switch,
        ("hi",),
        {"verbose": True},
        {"*": {"args": ["hi"], "verbose": True, "kwargs": {}}},
    ),
    (given_a_client, ("hi",), {}, {"*": {"args": ["hi"], "kwargs": {}}}),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "bound"), OUTER)
def test_what_a_decorator_takes_beside_the_signature_is_bound_as_it_takes_it(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    bound: dict[str, Any],
) -> None:
    assert make_binder(function, ())(*args, **kwargs) == bound
