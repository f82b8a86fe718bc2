"""The constants of a function: what it reads of its closure and its globals."""

from __future__ import annotations

import dis
import functools
import os
import types
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeAlias

import wrapt

from cachewrap.request.canonical import canonical
from cachewrap.request.code import ByCode, fingerprint, layers, shortened
from cachewrap.request.values import function_name
from cachewrap.secrets import is_secret_constant


def source_of(function: Callable[..., Any]) -> str:
    """``module:qualname`` of a function, of what a partial calls, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    return function_name(function)


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
