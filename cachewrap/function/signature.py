"""Arguments of a call under their names, what is bound to a function, constants that it reads."""

from __future__ import annotations

import dis
import functools
import inspect
import os
import types
from collections.abc import Callable, Collection, Iterator
from inspect import Parameter
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeAlias

import wrapt

from cachewrap.errors import ConfigurationError
from cachewrap.function.code import ByCode, fingerprint, layers, shortened
from cachewrap.request.canonical import canonical
from cachewrap.request.values import function_name
from cachewrap.secrets import is_secret_constant


def source_of(function: Callable[..., Any]) -> str:
    """``module:qualname`` of a function, of what a partial calls, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function_name(function)


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


# -- constants ---------------------------------------------------------------------------------


_ATOMS: Final = frozenset({str, bytes, int, float, complex, bool, type(None)})

# What says where a module is, and not what it does.
_OF_A_MODULE: Final = frozenset(
    "__name__ __file__ __path__ __spec__ __loader__ __package__ __cached__ __builtins__".split()
)
_GLOBAL: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_CLOSURE: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_CHANGED_GLOBAL: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_CHANGED_CLOSURE: Final = frozenset({"STORE_DEREF", "DELETE_DEREF"})

Same: TypeAlias = Callable[[], bool]


class Constants:
    """The variables of a function that may hold constants: of its closure and its globals.

    They are those that it reads and nowhere rebinds, and ``module.NAME`` of modules of the user's
    own. Of the decorators that wrap it the closures count, and the globals where they are of its
    own package. Functions that it closes over are among them, and what those close over: what one
    place makes of one function is not what it makes of another.

    Args:
        chain: the functions that it is made of, from the outermost to the innermost.
    """

    def __init__(self, chain: list[FunctionType]) -> None:
        self._chain = chain
        self._home = _package(chain[-1]) if chain else ""
        self._read = [
            (function, path)
            for function in reversed(chain)
            for path in _variables(function.__code__)
            if path[0] or _package(function) == self._home
        ]

    def survey(self) -> tuple[Same | None, dict[str, Any]]:
        """What tells whether all is as it is now, None for none, and the values by their names.

        It holds the values, so that no other object can be taken for one of them.
        """
        tests: list[str] = []
        held: dict[str, Any] = {}
        found: dict[str, Any] = {}
        seen: set[tuple[int, str]] = set()
        places = list(self._places())
        changed = {id(place) for label, place, _ in places if not label}
        for label, place, name in places:
            if (id(place), name) in seen or id(place) in changed:
                continue
            seen.add((id(place), name))
            where, what = f"p{len(tests)}", f"v{len(tests)}"
            held[where] = place
            if type(place) is dict:
                there = name in place
                value = place[name] if there else None
                tests.append(
                    f"{where}[{name!r}] is {what}" if there else f"{name!r} not in {where}"
                )
            else:
                there, value = _content(place)
                tests.append(f"{where}.cell_contents is {what}" if there else "False")
            if there:
                held[what] = value
                if _is_function(value) and (type(place) is dict or self._is_self(value)):
                    continue
                while label in found:
                    label += "'"
                found[label] = value
        if not tests:
            return None, {}
        made = _tester(", ".join(held), " and ".join(tests))
        return made(**held), found

    def _places(self) -> Iterator[tuple[str, Any, str]]:
        """Each variable: what it is called, the dictionary or cell it is in, its name there.

        Cells that are rebound are among them without a label.
        """
        for function in self._chain:
            yield from _rebound(function)
        for function, (closed, root, inner) in self._read:
            place: Any = _cells(function)[root] if closed else function.__globals__
            if not inner:
                yield root, place, root
                if closed:
                    yield from _closed_over(root, place, set())
                continue
            value = _content(place)[1] if closed else place.get(root)
            *modules, name = inner
            for module in modules:
                value = vars(value).get(module) if isinstance(value, ModuleType) else None
            if isinstance(value, ModuleType) and self._is_own(value):
                yield ".".join([root, *inner]), vars(value), name

    def functions(self) -> list[Any]:
        """The functions that it closes over, in an order of which each process has the same."""
        return [value for value in self.survey()[1].values() if _is_function(value)]

    def _is_self(self, value: Any) -> bool:
        """Whether a function is the very one, or wraps it: then its code counts as it is."""
        return layers(value)[-1:] == self._chain[-1:]

    def _is_own(self, module: ModuleType) -> bool:
        if module.__name__.partition(".")[0] == self._home:
            return True
        return not _is_installed(getattr(module, "__file__", None) or os.__file__)


def _is_installed(file: str) -> bool:
    return file.startswith(_STANDARD) or not _INSTALLED.isdisjoint(file.split(os.sep))


_STANDARD: Final = os.path.dirname(os.__file__) + os.sep
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def _package(function: FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]


def _cells(function: FunctionType) -> dict[str, Any]:
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _closed_over(label: str, cell: Any, seen: set[int]) -> Iterator[tuple[str, Any, str]]:
    """The variables of the closures of a function that is in a cell; of another value none."""
    value = _content(cell)[1]
    if not _is_function(value):
        return
    for function in layers(value):
        if id(function) in seen:
            continue
        seen.add(id(function))
        yield from _rebound(function)
        cells = _cells(function)
        for closed, root, inner in _variables(function.__code__):
            if closed and not inner:
                yield f"{label}.{root}", cells[root], root
                yield from _closed_over(f"{label}.{root}", cells[root], seen)


def _rebound(function: FunctionType) -> Iterator[tuple[str, Any, str]]:
    """The cells of its closure that a function rebinds."""
    read = {path[1] for path in _variables(function.__code__) if path[0]}
    for name, cell in _cells(function).items():
        if name not in read:
            yield "", cell, name


def _is_function(value: Any) -> bool:
    # Its ``__class__`` is not asked for: of a proxy that may be anything, even an error.
    return issubclass(type(value), _FUNCTIONS)


_FUNCTIONS: Final = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
    *(functools.partial, functools._lru_cache_wrapper),
    *(wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper),
)


def _content(cell: Any) -> tuple[bool, Any]:
    try:
        return True, cell.cell_contents
    except ValueError:  # not bound yet
        return False, None


@functools.lru_cache(maxsize=256)
def _tester(parameters: str, tests: str) -> Callable[..., Same]:
    """Makes what answers whether all tests hold: compiled, since it is asked at each call."""
    source = (
        f"def tester({parameters}):\n"
        "    def same():\n"
        f"        try: return {tests}\n"
        "        except (KeyError, ValueError): return False\n"
        "    return same"
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, "<cachewrap constants>", "exec"), namespace)
    made: Callable[..., Same] = namespace["tester"]
    return made


Path: TypeAlias = tuple[bool, str, tuple[str, ...]]
"""Whether a variable is of the closure, its name, and the attributes that are read of it."""


_known: Final[ByCode[list[Path]]] = ByCode()


def _variables(code: CodeType) -> list[Path]:
    """What a function reads of its closure and globals, but for what it rebinds itself."""
    known = _known.get(code)
    if known is None:
        known = _read_by(code)
        _known.set(code, known)
    return known


def _read_by(code: CodeType) -> list[Path]:
    read: dict[Path, None] = {(True, name, ()): None for name in code.co_freevars}
    changed: set[tuple[bool, str]] = set()
    for inner, closed in _scopes(code, frozenset(code.co_freevars)):
        path: Path | None = None
        for step in dis.get_instructions(inner):
            name, does = step.argval, step.opname
            if does == "EXTENDED_ARG":
                continue
            if does == "LOAD_ATTR" and path is not None:
                path = (path[0], path[1], (*path[2], name))
            elif does in _GLOBAL:
                path = (False, name, ())
            elif does in _CLOSURE and name in closed:
                path = (True, name, ())
            else:
                path = None
                if does in _CHANGED_GLOBAL:
                    changed.add((False, name))
                elif does in _CHANGED_CLOSURE and name in closed:
                    changed.add((True, name))
            if path is not None:
                read[path] = None
    return [path for path in read if path[:2] not in changed and path[1] not in _OF_A_MODULE]


def _scopes(code: CodeType, closed: frozenset[str]) -> Iterator[tuple[CodeType, frozenset[str]]]:
    """A code object and all inside it, each with the names that are the outermost's closure's."""
    closed -= set(code.co_cellvars)
    yield code, closed
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _scopes(constant, closed & set(constant.co_freevars))


def constants_among(values: dict[str, Any]) -> dict[str, Any]:
    """The canonical form of the values that are functions, or constants and no credentials."""
    return {
        name: _constant(value)
        for name, value in values.items()
        if _is_function(value) or (_is_constant(value) and not _is_credential(name, value))
    }


def _constant(value: Any) -> Any:
    if type(value) is str:
        return shortened(value)
    if not _is_function(value):
        return canonical(value)
    form = form_of(value)
    if isinstance(value, functools.partial):
        given = {str(at): argument for at, argument in enumerate(value.args)}
        form = {**form, "partial": constants_among({**given, **value.keywords})}
    return form


def form_of(function: Any) -> dict[str, Any]:
    """What a request holds of a function that another one closes over: its name and its code."""
    chain = layers(function)
    code = chain[-1].__code__ if chain else None
    if code is not None and (told := _arrived.get(code)) is not None:
        return told
    form: dict[str, Any] = {"function": source_of(function)}
    if code is not None and not _is_installed(code.co_filename):
        form["code"] = fingerprint(function)
    return form


def remember(function: Any, form: dict[str, Any]) -> None:
    """Take this for the form of a function: it comes from a process that may know more of it."""
    if chain := layers(function):
        _arrived.set(chain[-1].__code__, form)


_arrived: Final[ByCode[dict[str, Any]]] = ByCode()


def _is_constant(value: Any) -> bool:
    kind = type(value)
    return kind in _ATOMS or (
        (kind is tuple or kind is frozenset) and all(map(_is_constant, value))
    )


def _is_credential(name: str, value: Any) -> bool:
    kind = type(value)
    if kind is str or kind is bytes:
        return is_secret_constant(name, value)
    return (kind is tuple or kind is frozenset) and any(_is_credential(name, v) for v in value)


# -- arguments ---------------------------------------------------------------------------------


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
