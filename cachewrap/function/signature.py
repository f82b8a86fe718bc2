"""Arguments of a call under their names, and what is bound to a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from inspect import Parameter
from typing import Any

from cachewrap.errors import ConfigurationError


def bound_to(function: Callable[..., Any]) -> Callable[[], dict[str, Any]] | None:
    """What tells this function from others of its name, read at each call; None for most.

    It is a partial's arguments, the object that a method is bound to, and the one whose
    ``__call__`` is decorated, also where a decorator has wrapped them with `functools.wraps`.
    """
    if isinstance(function, functools.partial):
        inner = bound_to(function.func)
        given = {"partial": [list(function.args), function.keywords]}
        return lambda: {**given, **(inner() if inner else {})}
    if inspect.ismethod(function):
        return lambda: {"object": function.__self__}
    if not inspect.isroutine(function):
        return lambda: {"object": function}
    wrapped: Any = getattr(function, "__wrapped__", None)
    known = inspect.isroutine(wrapped) or isinstance(wrapped, functools.partial)
    below = bound_to(wrapped) if known else None
    return None if below is None else lambda: {"wrapped": below()}


Binder = Callable[..., dict[str, Any]]


def make_binder(function: Callable[..., Any], ignore: Collection[str]) -> Binder:
    """A function that takes what ``function`` takes and returns its arguments as a dictionary.

    Defaults are filled in; ``*args`` is a list under its name, ``**kwargs`` a dictionary under its
    name. Like `collections.namedtuple`, it is compiled from the signature, because
    `inspect.Signature.bind` costs more than the store's own read.

    What decorators made of a function (with `functools.wraps`) has the signature of the inner one,
    but may take other arguments: those are bound as the outermost takes them.

    Args:
        function: whose signature is taken.
        ignore: parameters to leave out, named ones and those in ``**kwargs`` alike.

    Raises `ConfigurationError` for a name in ``ignore`` that the function cannot take. The binder
    raises `TypeError` where the function would.
    """
    parameters = _parameters(function)
    _check_ignored(function, parameters, ignore)
    binder = _compiled(function, parameters, ignore)
    outer = _parameters(function, follow_wrapped=False)
    if outer == parameters:
        return binder
    rebind = _compiled(function, outer, ignore)

    def bind(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return binder(*args, **kwargs)
        except TypeError:
            # Under a name that no parameter has: the two ways never come to one dictionary.
            return {"*": rebind(*args, **kwargs)}

    return bind


def place_of(function: Callable[..., Any], name: str, ignore: Collection[str]) -> int:
    """The place of a parameter that takes a list, among those of the function.

    Raises `ConfigurationError` where there is none of that name, or none that counts.
    """
    parameters = _parameters(function)
    several = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
    for at, parameter in enumerate(parameters):
        if parameter.name == name and name not in ignore and parameter.kind not in several:
            return at
    names = sorted({parameter.name for parameter in parameters}.difference(ignore))
    raise ConfigurationError(
        f"each={name!r}: {getattr(function, '__qualname__', function)} has no such parameter that"
        f" takes a list and counts; it has {', '.join(names) or 'none'}"
    )


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters, as the binder has them."""
    return [parameter.name for parameter in _parameters(function)]


def _parameters(function: Callable[..., Any], *, follow_wrapped: bool = True) -> list[Parameter]:
    try:
        signature = inspect.signature(function, follow_wrapped=follow_wrapped)
    except ValueError:  # some builtins have no signature
        return [
            Parameter("args", Parameter.VAR_POSITIONAL),
            Parameter("kwargs", Parameter.VAR_KEYWORD),
        ]
    return list(signature.parameters.values())


def _compiled(
    function: Callable[..., Any], parameters: list[Parameter], ignore: Collection[str]
) -> Binder:
    namespace: dict[str, Any] = {"_cachewrap_ignore": frozenset(ignore)}
    header: list[str] = []
    items: list[str] = []
    previous: Any = None
    for index, parameter in enumerate(parameters):
        name, kind = parameter.name, parameter.kind
        if previous is Parameter.POSITIONAL_ONLY and kind is not previous:
            header.append("/")
        if kind is Parameter.KEYWORD_ONLY and previous not in (kind, Parameter.VAR_POSITIONAL):
            header.append("*")
        previous = kind
        default = ""
        if parameter.default is not Parameter.empty:
            namespace[f"_cachewrap_{index}"] = parameter.default
            default = f"=_cachewrap_{index}"
        stars = "*" if kind is Parameter.VAR_POSITIONAL else "**" if _is_rest(parameter) else ""
        header.append(f"{stars}{name}{default}")
        if name in ignore:
            continue
        if kind is Parameter.VAR_POSITIONAL:
            items.append(f"{name!r}: [*{name}]")
        elif kind is Parameter.VAR_KEYWORD and ignore:
            kept = f"{{k: v for k, v in {name}.items() if k not in _cachewrap_ignore}}"
            items.append(f"{name!r}: {kept}")
        else:
            items.append(f"{name!r}: {name}")
    if previous is Parameter.POSITIONAL_ONLY:
        header.append("/")
    source = f"def binder({', '.join(header)}): return {{{', '.join(items)}}}"
    exec(compile(source, "<cachewrap binder>", "exec"), namespace)
    binder: Binder = namespace["binder"]
    # A wrong call then reads "complete() missing 1 required …", as from the function itself.
    binder.__qualname__ = getattr(function, "__qualname__", "binder")
    return binder


def _is_rest(parameter: Parameter) -> bool:
    return parameter.kind is Parameter.VAR_KEYWORD


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether the function has a parameter of this very name."""
    try:
        return name in inspect.signature(function).parameters
    except ValueError:
        return False


def _check_ignored(
    function: Callable[..., Any], parameters: list[Parameter], ignore: Collection[str]
) -> None:
    names = {parameter.name for parameter in parameters}
    unknown = sorted(set(ignore) - names)
    if unknown and not any(_is_rest(parameter) for parameter in parameters):
        raise ConfigurationError(
            f"ignore={unknown[0]!r}: {getattr(function, '__qualname__', function)} has no such "
            f"parameter; it has {', '.join(sorted(names)) or 'none'}"
        )
