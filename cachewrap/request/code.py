"""The fingerprint of a function's own code: its syntax tree as text, the same on every Python.

Comments, formatting, the function's name, docstring, annotations, decorators and defaults are no
part of it. Where no source can be had that gives the very code which runs, the fingerprint is of
that code: of its bytecode, which differs from one Python to the next.
"""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import hashlib
import inspect
import linecache
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final, Generic, TypeVar
from weakref import ref

from cachewrap.request.syntax import Definition, Text, docstring_of
from cachewrap.secrets import HIDDEN, is_secret_constant

T = TypeVar("T")

_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

_MOST: Final = 8_000
"""Characters of a text that a request holds; of what is longer it holds a digest."""

_BEGINS: Final = 200

_LAYERS: Final = 100

_TELL_DOCSTRING: Final = frozenset({"__doc__", "getdoc"})
_TELL_ANNOTATIONS: Final = frozenset(
    {"__annotations__", "get_annotations", "get_type_hints", "signature"}
)


def layers(function: Any) -> list[FunctionType]:
    """The Python functions that a callable is made of, from the outermost to the innermost.

    They are what a partial calls, a method's function, those that decorators wrapped (with
    `functools.wraps`), and the ``__call__`` of an object.
    """
    found: list[FunctionType] = []
    for _ in range(_LAYERS):
        if type(function) is FunctionType:
            found.append(function)
        if isinstance(function, partial):
            function = function.func
        elif (below := _below(function)) is not None:
            function = below
        elif inspect.isroutine(function):
            break
        else:
            function = type(function).__call__
    return found


def _below(function: Any) -> Any:
    below = getattr(function, "__wrapped__", None)
    return getattr(function, "__func__", None) if below is None else below


def fingerprint(function: Any) -> Any:
    """What a request holds of a function's code, in canonical form; None where it has none.

    It is the text of its syntax tree, or a digest where that is long, or of the bytecode where no
    source can be had. Of a decorated function it is that of the innermost; its docstring and its
    annotations, which the decorators may read, then count as well.
    """
    chain = layers(function)
    if not chain:
        return None
    inner, wrapped = chain[-1], len(chain) > 1
    code = inner.__code__
    # Functions that one place makes again and again, each closing over other values, have one code.
    known = _known.get(code)
    if known is None or known[0] != wrapped:
        known = wrapped, _fingerprint(inner, wrapped=wrapped)
        _known.set(code, known)
    return known[1]


class ByCode(Generic[T]):
    """Values for code objects, by their identity, each for as long as its code is there."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[ref[CodeType], T]] = {}

    def get(self, code: CodeType) -> T | None:
        held = self._held.get(id(code))
        return None if held is None else held[1]

    def set(self, code: CodeType, value: T) -> None:
        self._held[id(code)] = ref(code, partial(self._forget, id(code))), value

    def _forget(self, number: int, gone: ref[CodeType]) -> None:
        if (held := self._held.get(number)) is not None and held[0] is gone:
            del self._held[number]

    def __len__(self) -> int:
        return len(self._held)


_known: Final[ByCode[tuple[bool, Any]]] = ByCode()


def _fingerprint(function: FunctionType, *, wrapped: bool) -> Any:
    code = function.__code__
    told = _names(code)
    try:
        found = _find(function)
        if found is not None:
            read = wrapped or _hands_itself_on(found, code.co_name)
            text = Text(
                docstring=read or not told.isdisjoint(_TELL_DOCSTRING),
                annotations=read or not told.isdisjoint(_TELL_ANNOTATIONS),
            ).definition(found)
            return shortened(text)
    except RecursionError:
        pass
    tell = {*_TELL_DOCSTRING, code.co_name}
    docstring = function.__doc__ if told.isdisjoint(tell) else None
    plain = repr(_plain(code, docstring))
    return {"bytecode": hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()}


def _hands_itself_on(node: Definition, name: str) -> bool:
    """Whether a function names itself but to be called: who is given it may read all of it."""
    called = {id(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call)}
    return any(
        isinstance(inner, ast.Name) and inner.id == name and id(inner) not in called
        for inner in ast.walk(node)
    )


def shortened(text: str) -> Any:
    """A text as a request holds it: itself, or its digest and beginning where it is long."""
    if len(text) <= _MOST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"begins": text[:_BEGINS], "sha256": digest}


def nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that are inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def _names(code: CodeType) -> set[str]:
    return {name for inner in nested(code) for name in inner.co_names}


# -- the source of the very code that runs -----------------------------------------------------


def _find(function: FunctionType) -> Definition | None:
    """The syntax tree that compiles to a function's code; None where there is none."""
    code = function.__code__
    for lines in _sources(function):
        for candidates in (_block, _whole):
            found = list(_of_name(candidates(lines, code), code))
            found.sort(key=lambda node: abs(_first_line(node) - code.co_firstlineno))
            for same in (_is_same, _is_rewritten):
                for node in found:
                    if same(node, code):
                        return node
    return None


def _sources(function: FunctionType) -> Iterator[list[str]]:
    """The lines in which a function may be defined."""
    file = function.__code__.co_filename
    yield linecache.getlines(file, function.__globals__)
    linecache.checkcache(file)  # it may hold the file as it was
    yield linecache.getlines(file, function.__globals__)
    if file != _TIMED:
        return
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    if shell is None:
        return
    for cell in reversed(shell.history_manager.input_hist_raw):
        text = cell.lstrip()
        while text.startswith("%%"):
            text = text.partition("\n")[2]
        if len(text) < len(cell.lstrip()):
            yield shell.transform_cell(text).splitlines(keepends=True)


# What IPython runs under ``%%time`` has this name, and no lines.
_TIMED: Final = "<timed exec>"


def _block(lines: list[str], code: CodeType) -> ast.AST | None:
    """What begins at the very line of the code; in a long file that is parsed much sooner."""
    if code.co_name == "<lambda>" or code.co_firstlineno > len(lines):
        return None
    try:
        block = inspect.getblock(lines[code.co_firstlineno - 1 :])
        tree = ast.parse("if 1:\n" + "".join(block) if block[0][:1].isspace() else "".join(block))
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None
    return tree


def _whole(lines: list[str], _code: CodeType) -> ast.AST | None:
    text = "".join(lines)
    if not _trees or _trees[0][0] != text:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return None
        _trees[:] = [(text, tree)]
    return _trees[0][1]


_trees: Final[list[tuple[str, ast.AST]]] = []
"""The file that was last parsed whole: another function of it is asked for next."""


def _of_name(tree: ast.AST | None, code: CodeType) -> Iterator[Definition]:
    """Whatever might be the definition of a code object, by its name and its parameters."""
    count = code.co_argcount + code.co_kwonlyargcount
    for node in ast.walk(tree) if tree is not None else ():
        if (
            isinstance(node, _DEFINITIONS)
            and getattr(node, "name", "<lambda>") == code.co_name
            and len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) == count
        ):
            yield node


def _first_line(node: Definition) -> int:
    above: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in above)])


_FUTURE: Final[int] = sum(
    getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
)
_KIND: Final = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


def _compiled(node: Definition, code: CodeType) -> CodeType | None:
    """The code of a definition, compiled by itself, in a place like that of the code it may be."""
    node = copy.deepcopy(node)
    ast.increment_lineno(node, code.co_firstlineno - _first_line(node))
    arguments = node.args
    for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
        for argument in group:
            argument.annotation = None
    for starred in (arguments.vararg, arguments.kwarg):
        if starred is not None:
            starred.annotation = None
    arguments.defaults = []
    arguments.kw_defaults = [None] * len(arguments.kwonlyargs)
    if isinstance(node, ast.Lambda):
        statement: ast.stmt = ast.copy_location(ast.Expr(node), node)
    else:
        node.returns = None
        # The lines of decorators are lines of the code.
        node.decorator_list = [
            ast.copy_location(ast.Constant(None), above) for above in node.decorator_list
        ]
        vars(node)["type_params"] = []
        _as_it_is(node, code)
        statement = node
    scope = _class_of(code.co_qualname)
    if scope:
        whole = ast.parse("class scope: pass").body[0]
        assert isinstance(whole, ast.ClassDef)
        whole.name, whole.body = scope, [statement]
        statement = whole
    free = [name for name in code.co_freevars if not (scope and name == "__class__")]
    module = ast.parse("def outer(): pass")
    outer = module.body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.args.args = [ast.arg(name) for name in free]
    outer.body = [statement]
    defined = getattr(statement, "name", "")
    if defined and defined not in free:
        outer.body.insert(0, ast.Global([defined]))
    if imported := _imported(code):
        module.body.insert(0, ast.Import([ast.alias(name) for name in sorted(imported)]))
    flags = code.co_flags & _FUTURE
    try:
        made: CodeType = compile(
            ast.fix_missing_locations(module), code.co_filename, "exec", flags, dont_inherit=True
        )
    except (SyntaxError, ValueError):
        return None
    for _ in range(3 if scope else 2):
        found = next((c for c in made.co_consts if isinstance(c, CodeType)), None)
        if found is None:
            return None
        made = found
    return made


def _imported(code: CodeType) -> set[str]:
    """Names that the module may import: what is called of such a name is compiled otherwise."""
    found: set[str] = set()
    called: set[str] = set()
    for inner in nested(code):
        last = ""
        for step in dis.get_instructions(inner):
            name = step.opname
            if last and (name == "LOAD_METHOD" or (name == "LOAD_ATTR" and _ATTR_IS_METHOD(step))):
                called.add(last)
            if name != "EXTENDED_ARG":
                last = _loaded(step)
                found.add(last)
    return {name for name in found - called if name.isidentifier()} - {"super"}


def _loaded(step: dis.Instruction) -> str:
    """The variable that an instruction loads last; "" for none."""
    if "LOAD_" not in step.opname or step.opname in _NO_VARIABLES:
        return ""
    name = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
    return name if isinstance(name, str) else ""


_NO_VARIABLES: Final = frozenset({"LOAD_CONST", "LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})
_ATTR_IS_METHOD: Final[Callable[[dis.Instruction], bool]] = (
    (lambda step: bool((step.arg or 0) & 1)) if sys.version_info >= (3, 12) else lambda step: False
)


def _as_it_is(node: ast.FunctionDef | ast.AsyncFunctionDef, code: CodeType) -> None:
    """Give the definition the docstring of the code, which may have been edited since."""
    old = code.co_consts[0] if code.co_consts else None
    if isinstance(old, str) and (text := docstring_of(node.body)) is not None:
        text.value = old


def _class_of(qualname: str) -> str:
    """The class whose private names a function of this qualified name has; "" for none."""
    *outer, _ = qualname.split(".")
    for at in range(len(outer) - 1, -1, -1):
        inside = outer[at + 1] if at + 1 < len(outer) else ""
        if outer[at] != "<locals>" and inside != "<locals>":
            return outer[at] if outer[at].isidentifier() else ""
    return ""


def _is_same(node: Definition, code: CodeType) -> bool:
    made = _compiled(node, code)
    return made is not None and _equal(made, code)


def _equal(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same, wherever they stand."""
    return bool(_plain(one) == _plain(other))


def _plain(value: Any, docstring: str | None = None) -> Any:
    """What makes up a constant or a code object, so that equal is what is the same."""
    kind = type(value)
    if kind is CodeType:
        constants = value.co_consts
        if docstring is not None and constants[:1] == (docstring,):
            constants = (None, *constants[1:])
        return (
            value.co_name,
            value.co_code,
            value.co_exceptiontable,
            value.co_names,
            value.co_varnames,
            value.co_cellvars,
            value.co_freevars,
            (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount),
            value.co_flags & _KIND,
            [_plain(constant) for constant in constants],
        )
    if kind is tuple:
        return [_plain(inner) for inner in value]
    if kind is frozenset:
        return ("frozenset", sorted(repr(_plain(inner)) for inner in value))
    if kind in (str, bytes) and is_secret_constant("", value):
        return HIDDEN
    return kind.__name__, repr(value)


# pytest compiles other code where it has rewritten assertions.
_REWRITTEN: Final = "@pytest_ar"


def _is_rewritten(node: Definition, code: CodeType) -> bool:
    """Whether the definition may be that of code whose assertions pytest has rewritten."""
    if _REWRITTEN not in _names(code):
        return False
    made = _compiled(_WithoutAssertions().visit(copy.deepcopy(node)), code)
    return made is not None and _held(made) <= _held(code)


def _held(code: CodeType) -> set[str]:
    found = _names(code)
    for inner in nested(code):
        constants = [_plain(c) for c in inner.co_consts if type(c) is not CodeType]
        found.update(map(repr, constants))
    return found


class _WithoutAssertions(ast.NodeTransformer):
    """The removal of assertions from a tree."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.copy_location(ast.Pass(), node)
