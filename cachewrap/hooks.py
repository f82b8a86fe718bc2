"""Hooks: wrappers that stand inside a function, where everybody who holds it comes to them.

A wrapper on a class is seen by those alone who look the method up there, later. Other tools keep
the function that they found, put their own around it, and put back what they once took. A hook
changes the function's code instead: whoever calls the function calls the wrapper, which is always
the innermost, and the class keeps the very function that it had.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, ref

import wrapt

Wrapper: TypeAlias = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""What is called in a function's place, as wrapt calls it: with the function, bound to the instance
of its class, that instance, and the rest of the arguments."""

_lock: Final = threading.RLock()


class Hook:
    """A wrapper of a method, put in and taken out as often as one likes.

    Its place is the owner's own function, found inside what other tools wrapped around it. A method
    that is no Python function is wrapped in its class, by wrapt.

    Args:
        owner: the class, or the module of a plain function, whose wrapper gets None as instance.
        name: of the method. Where the class inherits it, instances of its base come as well.
        wrapper: stands in for it.
        around: does so where it can but stand around what somebody else put there.
    """

    def __init__(
        self,
        owner: type | ModuleType,
        name: str,
        wrapper: Wrapper,
        around: Wrapper | None = None,
    ) -> None:
        self.owner = owner
        self.name = name
        self._wrapper = wrapper
        self._around = around or wrapper
        self._stand: _Inside | _Around | None = None

    @property
    def in_place(self) -> bool:
        """Whether calls of the method come to the wrapper now."""
        with _lock:
            return self._stand is not None and self._stand.is_in_place(self.function())

    def function(self) -> FunctionType | None:
        """The owner's own function of that name, where there is one."""
        found = _attribute(self.owner, self.name)
        package = _package(self.owner)
        return next((f for f in _inside(found, self.name) if _package(f) == package), None)

    def put(self) -> None:
        """Put the wrapper in, wherever it does not stand."""
        with _lock:
            function, stand = self.function(), self._stand
            if stand is not None:
                if stand.put(function):
                    return
                stand.take(function)
            self._stand = None
            found = _attribute(self.owner, self.name)
            if function is not None:
                bound = isinstance(self.owner, type) and not isinstance(found, staticmethod)
                self._stand = _Inside(_innermost(function), self._wrapper, bound=bound)
            elif hasattr(type(found), "__get__"):  # a mock, for one, is no method
                self._stand = _Around(self.owner, self.name, found, self._around)
            if self._stand is not None:
                self._stand.put(function)

    def take(self) -> None:
        """Take the wrapper out. Where others hold it in what is theirs, it does nothing more."""
        with _lock:
            if self._stand is not None:
                self._stand.take(self.function())


def is_own(function: Any, package: str) -> bool:
    """Whether something is a package's own function, and nobody but hooks stands in its code."""
    while type(function) is FunctionType and _package(function) == package:
        inside = [held for held in function.__code__.co_consts if not isinstance(held, _PLAIN)]
        if not inside:
            return True
        if inside[1:] != [MethodType] or not isinstance(inside[0], _Inside):
            return False
        function = inside[0].original
    return False


_PLAIN: Final = (
    *(type(None), type(...), bool, int, float, complex, str, bytes, tuple, frozenset, slice),
    CodeType,
)
"""What a compiler puts into the constants of code."""


def _attribute(owner: type | ModuleType, name: str) -> Any:
    """What a class or a module has under a name, not bound to anything."""
    for place in owner.__mro__ if isinstance(owner, type) else (owner,):
        if name in vars(place):
            return vars(place)[name]
    return None


def _package(thing: type | ModuleType | FunctionType) -> str:
    """The top-level package in which something was written, whatever it says of itself."""
    if isinstance(thing, FunctionType):
        module = thing.__globals__.get("__name__") or ""
    else:
        module = thing.__module__ if isinstance(thing, type) else thing.__name__
    return str(module).partition(".")[0]


_MOST: Final = 200


def _inside(found: Any, name: str) -> Iterator[FunctionType]:
    """The method in what stands for it, the outermost function first.

    Proxies say that they are of the class of what is in them; their type does not.
    """
    seen: list[Any] = [found]
    for one in seen:
        plain = type(one) is FunctionType
        if plain and (one is found or one.__name__ == name):
            yield one
        held = [getattr(one, "__wrapped__", None)]
        if plain:
            held += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
            held += map(_content, one.__closure__ or ())
        elif isinstance(one, (staticmethod, classmethod, MethodType)):
            held.append(one.__func__)
        elif isinstance(one, (functools.partial, functools.partialmethod)):
            held.append(one.func)
        if len(seen) < _MOST:
            seen += [h for h in held if callable(h) and not any(h is known for known in seen)]


def _innermost(function: FunctionType) -> FunctionType:
    """The function with the library's own code, where another tool put that into one of its own."""
    held: FunctionType | None = function
    while held is not None:
        function = held
        inside = [one for one in function.__code__.co_consts if type(one) is FunctionType]
        held = next((one for one in inside if _package(one) == _package(function)), None)
    return function


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty yet
        return None


class _Around:
    """The wrapper around a method that has no code which could be changed."""

    def __init__(self, owner: type | ModuleType, name: str, found: Any, wrapper: Wrapper) -> None:
        self._owner = owner
        self._name = name
        self._original = vars(owner).get(name)  # None where it is inherited
        self._enabled = [True]  # until it is emptied
        self._is_put = False
        self._wrapped = wrapt.FunctionWrapper(
            found, wrapper, functools.partial(bool, self._enabled)
        )

    def is_in_place(self, function: FunctionType | None) -> bool:
        """Whether it is all that stands there, whatever is around it."""
        one = vars(self._owner).get(self._name)
        for _ in range(_MOST):
            if one is self._wrapped or one is None:
                break
            one = getattr(one, "__wrapped__", None)
        return one is self._wrapped and bool(self._enabled) and function is None

    def put(self, function: FunctionType | None) -> bool:
        """Put it in, the first time; later it tells whether it is in place."""
        if not self._is_put:
            self._is_put = True
            setattr(self._owner, self._name, self._wrapped)
        return self.is_in_place(function)

    def take(self, function: FunctionType | None) -> None:
        self._enabled.clear()
        if vars(self._owner).get(self._name) is not self._wrapped:
            return
        if self._original is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._original)


# The signatures that functions were given by us.
_signatures: Final[WeakKeyDictionary[FunctionType, inspect.Signature]] = WeakKeyDictionary()


class _Inside:
    """The wrapper inside one function, as it was when this was made.

    Attributes:
        active: whether it does anything, read at each call.
        original: a function with the code that the function had.
        wrapper: the wrapper, read at each call.
    """

    __slots__ = ("_bound", "_code", "_signature", "active", "function", "original", "wrapper")

    def __init__(self, function: FunctionType, wrapper: Wrapper, *, bound: bool) -> None:
        self.function = function
        self.wrapper = wrapper
        self.active = False
        self.original = _copy(function)
        self._signature: inspect.Signature | None = None
        self._bound = bound
        # It holds this, and the garbage collector sees through no code.
        self._code: Callable[[], CodeType | None] = lambda: None

    def is_in_place(self, function: FunctionType | None) -> bool:
        """Whether it is in a function, or in the one that it was put into, which may come back."""
        return self.active and self._holder(function) is not None

    def put(self, function: FunctionType | None) -> bool:
        """Put it in, unless that has become another function."""
        if self._holder(function) is None:
            place = self.function if function is None else _innermost(function)
            if place is not self.function or place.__code__ is not self.original.__code__:
                return False
            self._sign(place)
            code = self._code() or _trampoline(place.__code__, self, bound=self._bound)
            self._code = ref(code)
            place.__code__ = code
        self.active = True
        return True

    def take(self, function: FunctionType | None) -> None:
        self.active = False
        for holder in (self._holder(function), self._holder(None)):
            if holder is not None:
                holder.__code__ = self.original.__code__
                _unsign(holder)

    def _holder(self, function: FunctionType | None) -> FunctionType | None:
        """The function that has our code: this one, or one inside it.

        Other tools change code as well, and keep what was there in a function of theirs.
        """
        own = self._code()
        seen = [function or self.function]
        for one in seen:
            code = one.__code__
            if code is own:
                return one
            for held in code.co_consts:
                inner = held.original if isinstance(held, _Inside) else held
                if type(inner) is FunctionType and inner not in seen:
                    seen.append(inner)
        return None

    def _sign(self, function: FunctionType) -> None:
        """Let a function tell the signature that its code no longer tells."""
        told = vars(function)
        if "__wrapped__" in told or "__signature__" in told:
            return
        if self._signature is None:
            how: dict[str, Any] = {}
            if sys.version_info >= (3, 14):
                from annotationlib import Format

                how["annotation_format"] = Format.FORWARDREF
            self._signature = inspect.signature(function, **how)
        _signatures[function] = function.__signature__ = self._signature  # type: ignore[attr-defined]


def _copy(function: FunctionType) -> FunctionType:
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__qualname__ = function.__qualname__
    copied.__module__ = function.__module__
    copied.__doc__ = function.__doc__
    return copied


def _unsign(function: FunctionType) -> None:
    if any(isinstance(held, _Inside) for held in function.__code__.co_consts):
        return  # another hook needs it
    signature = _signatures.pop(function, None)
    if signature is not None and vars(function).get("__signature__") is signature:
        del vars(function)["__signature__"]


_CALL: Final = """(
    hook.wrapper(method(hook.original, args[0]), args[0], args[1:], kwargs)
    if hook.active and args else hook.original(*args, **kwargs)
)"""
_CALL_UNBOUND: Final = """(
    hook.wrapper(hook.original, None, args, kwargs)
    if hook.active else hook.original(*args, **kwargs)
)"""

# The head of a trampoline and what it does, by the flag that tells the kind of its function.
_FORMS: Final = {
    0: ("def", "return {call}"),
    inspect.CO_COROUTINE: ("async def", "return await {call}"),
    inspect.CO_GENERATOR: ("def", "return (yield from {call})"),
    inspect.CO_ASYNC_GENERATOR: (
        "async def",
        """given = {call}
        try:
            item = await given.__anext__()
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await given.aclose()
                    raise
                except BaseException as error:
                    item = await given.athrow(error)
                else:
                    item = await given.asend(sent)
        except StopAsyncIteration:
            return""",
    ),
}


def _trampoline(code: CodeType, hook: _Inside, *, bound: bool) -> CodeType:
    """The code that calls a hook's wrapper, and looks from outside like the function's own."""
    kind = code.co_flags & sum(_FORMS)
    made = _compiled(kind, len(code.co_freevars), bound=bound)
    constants: dict[Any, Any] = {_HOOK: hook, _METHOD: MethodType}
    return made.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        co_freevars=code.co_freevars,
        co_flags=made.co_flags | code.co_flags & inspect.CO_ITERABLE_COROUTINE,
        co_consts=tuple(constants.get(c, c) if type(c) is str else c for c in made.co_consts),
    )


_HOOK: Final = "the hook"
_METHOD: Final = "the class of bound methods"


@functools.lru_cache(maxsize=64)
def _compiled(kind: int, free: int, *, bound: bool) -> CodeType:
    """A trampoline for any function with so many free variables, which its code has to have."""
    head, body = _FORMS[kind]
    names = [f"free{number}" for number in range(free)]
    text = f"""
def outer({", ".join(names)}):
    {head} trampoline(*args, **kwargs):
        hook = {_HOOK!r}
        method = {_METHOD!r}
        {body.format(call=_CALL if bound else _CALL_UNBOUND)}
        [{", ".join(names)}]  # never reached; so they are free variables of it
    return trampoline
"""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if "lineno" in node._attributes:  # all of it stands in the function's first line
            vars(node).update(lineno=1, end_lineno=1, col_offset=0, end_col_offset=0)
    (outer,) = (c for c in compile(tree, "", "exec").co_consts if isinstance(c, CodeType))
    (made,) = (c for c in outer.co_consts if isinstance(c, CodeType))
    return made
