"""The text of a function's syntax tree, the same for the same code on every Python."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from cachewrap.secrets import HIDDEN, is_secret_constant

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


_SIGNS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.MatMult: "@", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&",
    ast.BitOr: "|", ast.BitXor: "^", ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=",
    ast.Gt: ">", ast.GtE: ">=", ast.Is: "is", ast.IsNot: "is not", ast.In: "in",
    ast.NotIn: "not in", ast.And: "and", ast.Or: "or", ast.Not: "not", ast.Invert: "~",
    ast.UAdd: "+", ast.USub: "-",
}  # fmt: skip

_SKIPPED: Final = frozenset({"ctx", "kind", "type_comment"})

_BLOCKS: Final = ("body", "handlers", "cases", "orelse", "finalbody")


class Text:
    """The text of a function's syntax tree, a statement a line; different trees differ in it.

    It looks like Python where that is unambiguous; every other node is ``<Type field=value …>``.

    Args:
        docstring: whether the function's own docstring counts.
        annotations: whether its own annotations count.
    """

    def __init__(self, *, docstring: bool, annotations: bool) -> None:
        self._docstring = docstring
        self._annotations = annotations
        self._depth = 0  # of definitions inside

    def definition(self, node: Definition) -> str:
        arguments = self._arguments(node.args, outer=True)
        if isinstance(node, ast.Lambda):
            return f"lambda {arguments} {self._node(node.body)}"
        head = ("async " if isinstance(node, ast.AsyncFunctionDef) else "") + f"def {arguments}"
        if self._annotations and node.returns is not None:
            head += f" -> {self._node(node.returns)}"
        body = node.body
        if docstring_of(body) is not None and not self._docstring:
            body = body[1:]
        return "\n".join([head, *self._indented(body)])

    def _indented(self, body: list[Any]) -> list[str]:
        return [f" {line}" for node in body for line in self._statement(node)]

    def _statement(self, node: Any) -> list[str]:
        if isinstance(node, ast.Expr):
            return [self._node(node.value)]
        if isinstance(node, ast.Return) and node.value is not None:
            return [f"return {self._node(node.value)}"]
        if isinstance(node, ast.Assign):
            targets = [self._node(target) for target in node.targets]
            names = list(map(_name, node.targets))
            value = self._node(node.value, next(filter(None, names), ""))
            return [" = ".join([*targets, value])]
        if isinstance(node, ast.AnnAssign) and not (self._annotations or self._depth):
            # A local variable's annotation is never even evaluated.
            target = self._node(node.target)
            if node.value is not None:
                return [f"{target} = {self._node(node.value, _name(node.target))}"]
            return [] if node.simple else [target]
        deeper = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        self._depth += deeper
        lines = [f"{type(node).__name__.lower()}{self._fields(node, _BLOCKS)}"]
        for name in _BLOCKS:
            block = getattr(node, name, None)
            if block:
                lines += [f"{name}:"] if name != "body" else []
                lines += self._indented(block)
        self._depth -= deeper
        return lines

    def _fields(self, node: ast.AST, without: tuple[str, ...] = ()) -> str:
        secret = _name(getattr(node, "target", None))
        found = []
        for name, value in ast.iter_fields(node):
            if name in _SKIPPED or name in without or value is None or value == []:
                continue
            if type(value) is int and not value:
                continue
            found.append(f" {name}={self._value(value, secret if name == 'value' else '')}")
        return "".join(found)

    def _value(self, value: Any, secret: str = "") -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(self._value, value))}]"
        if isinstance(value, ast.AST):
            return self._node(value, secret)
        if isinstance(value, str) and not value.replace(".", "").isidentifier():
            return json.dumps(value)
        return "-" if value is None else str(value)

    def _node(self, node: ast.AST, secret: str = "") -> str:
        """The text of an expression; ``secret`` is the name that its value is given, if any."""
        match node:
            case ast.Name():
                return node.id
            case ast.Constant():
                return _constant(node.value, secret)
            case ast.Attribute():
                return f"{self._operand(node.value)}.{node.attr}"
            case ast.Subscript():
                return f"{self._operand(node.value)}[{self._node(node.slice)}]"
            case ast.Call():
                given = [*node.args, *node.keywords]
                return f"{self._operand(node.func)}({', '.join(map(self._node, given))})"
            case ast.keyword():
                value = self._node(node.value, node.arg or "")
                return f"{node.arg}={value}" if node.arg else f"**{value}"
            case ast.Starred():
                return f"*{self._node(node.value)}"
            case ast.BinOp():
                left, right = self._node(node.left, secret), self._node(node.right, secret)
                return f"({left} {_SIGNS[type(node.op)]} {right})"
            case ast.BoolOp():
                values = [self._node(value, secret) for value in node.values]
                return f"({f' {_SIGNS[type(node.op)]} '.join(values)})"
            case ast.UnaryOp():
                return f"({_SIGNS[type(node.op)]} {self._node(node.operand)})"
            case ast.IfExp():
                body, orelse = self._node(node.body, secret), self._node(node.orelse, secret)
                return f"({body} if {self._node(node.test)} else {orelse})"
            case ast.Compare():
                rest = zip(node.ops, node.comparators, strict=True)
                steps = [f" {_SIGNS[type(op)]} {self._node(value)}" for op, value in rest]
                return f"({self._node(node.left)}{''.join(steps)})"
            case ast.Tuple():
                return f"({''.join(f'{self._node(item, secret)}, ' for item in node.elts)})"
            case ast.List():
                return f"[{', '.join(self._node(item, secret) for item in node.elts)}]"
            case ast.Set():
                return f"{{{', '.join(self._node(item, secret) for item in node.elts)}}}"
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                return f"{{{', '.join(self._pair(key, value) for key, value in pairs)}}}"
            case ast.JoinedStr():
                return self._joined(node, secret)
            case ast.arguments():
                return self._arguments(node)
        return f"<{type(node).__name__}{self._fields(node)}>"

    def _operand(self, node: ast.AST) -> str:
        text = self._node(node)
        number = isinstance(node, ast.Constant) and not isinstance(node.value, (str, bytes))
        return f"({text})" if number else text

    def _pair(self, key: ast.expr | None, value: ast.expr) -> str:
        if key is None:
            return f"**{self._node(value)}"
        return f"{self._node(key)}: {self._node(value, _text_of(key))}"

    def _joined(self, node: ast.JoinedStr, secret: str) -> str:
        parts: list[str | ast.FormattedValue] = []
        for value in _flat(node):
            if isinstance(value, ast.FormattedValue):
                parts.append(value)
            elif parts and isinstance(parts[-1], str):
                parts[-1] += value
            elif value:
                parts.append(value)
        if all(isinstance(part, str) for part in parts):
            return _constant("".join(map(str, parts)), secret)
        shown = (
            _constant(part, secret) if isinstance(part, str) else self._formatted(part)
            for part in parts
        )
        return f"f{{{', '.join(shown)}}}"

    def _formatted(self, node: ast.FormattedValue) -> str:
        text = self._node(node.value)
        if node.conversion > 0:
            text += f"!{chr(node.conversion)}"
        spec = self._node(node.format_spec) if node.format_spec is not None else '""'
        return f"{{{text}}}" if spec == '""' else f"{{{text}:{spec}}}"

    def _arguments(self, node: ast.arguments, *, outer: bool = False) -> str:
        """Parameters; of the function itself without defaults, which are arguments of a call."""
        plain = [*node.posonlyargs, *node.args]
        defaults: list[Any] = [None] * (len(plain) - len(node.defaults)) + node.defaults
        pairs = zip([*plain, *node.kwonlyargs], [*defaults, *node.kw_defaults], strict=True)
        shown = [self._argument(*pair, outer=outer) for pair in pairs]
        after = len(plain)
        if node.kwonlyargs or node.vararg:
            star = self._argument(node.vararg, None, outer=outer) if node.vararg else ""
            shown.insert(after, f"*{star}")
        if node.posonlyargs:
            shown.insert(len(node.posonlyargs), "/")
        if node.kwarg:
            shown.append(f"**{self._argument(node.kwarg, None, outer=outer)}")
        return f"({', '.join(shown)})"

    def _argument(self, node: ast.arg, default: ast.expr | None, *, outer: bool) -> str:
        text = node.arg
        if node.annotation is not None and (self._annotations or not outer):
            text += f": {self._node(node.annotation)}"
        if default is not None and not outer:
            text += f"={self._node(default, node.arg)}"
        return text


def _flat(node: ast.JoinedStr) -> Iterator[str | ast.FormattedValue]:
    for value in node.values:
        if isinstance(value, ast.JoinedStr):
            yield from _flat(value)
        elif isinstance(value, ast.Constant):
            yield str(value.value)
        elif isinstance(value, ast.FormattedValue):
            yield value


def _name(target: Any) -> str:
    """The name that an assignment gives a value; "" for none."""
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute):
        return target.attr
    return _text_of(target.slice) if isinstance(target, ast.Subscript) else ""


def _text_of(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _constant(value: Any, secret: str) -> str:
    """A constant with its type; without what looks like a credential."""
    if isinstance(value, (str, bytes)) and is_secret_constant(secret, value):
        return HIDDEN
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()  # lone surrogates
    if isinstance(value, (float, complex)):
        text = repr(value)
        return text if math.isfinite(abs(value)) else f"<{text}>"
    if type(value) is int and abs(value) >= 2**64:
        return hex(value)
    return "..." if value is ... else repr(value)


def docstring_of(body: list[ast.stmt]) -> ast.Constant | None:
    """The docstring that a definition's body begins with."""
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first.value if isinstance(first.value.value, str) else None
    return None
