# ruff: noqa
"""Functions that between them have every node of Python's syntax, each under its own name.

Their fingerprints are kept in ``golden/functions.json``; ``python tests/corpus.py`` adds those
that are missing. Formatting and comments are of no account, so the file may be formatted anew.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden" / "functions.json"


def nothing() -> None:
    """Only a docstring."""


def passes():
    pass


def constants():
    return [None, True, False, ..., 0, 1, -1, 0x10, 10**3, 2**70, 18446744073709551616]


def floats():
    return [0.0, -0.0, 1.0, 1e300, 1e999, 0.1, 1e-7, 123456789.123, 1_000.5]


def complexes():
    return [1j, 1.5j, 1 + 2j, 1e999j]


def texts():
    return [
        "",
        "a",
        "quote \" and '",
        "new\nline",
        "tab\t",
        "\\",
        "\x00",
        "é",
        "日本",
        "\U0001f600",
    ]


def surrogate():
    return "\ud800 alone"


def long_text():
    return """Several
        lines, with "quotes"
    and blanks at their start.
"""


def joined_texts():
    return "one two three"


def binary():
    return [b"", b"abc", b"\x00\xff", b"'\""]


def parameters(a, /, b, *args, c, d=1, **kwargs):
    return a, b, args, c, d, kwargs


def defaults(a=1, *, b="two", c=None):
    return a, b, c


def annotated(a: int, *b: str, c: list[int] | None = None, **d: Any) -> dict[str, int]:
    e: int = 1
    f: str
    f = "f"
    return {f: a + e}


def operators(a, b):
    return (
        a + b,
        a - b,
        a * b,
        a / b,
        a // b,
        a % b,
        a**b,
        a @ b,
        a << b,
        a >> b,
        a & b,
        a | b,
        a ^ b,
    )


def unary(a):
    return -a, +a, ~a, not a


def comparisons(a, b):
    return a == b, a != b, a < b, a <= b, a > b, a >= b, a is b, a is not b, a in b, a not in b


def chained(a, b, c):
    return a < b < c, (a < b) < c, a < (b < c)


def booleans(a, b, c):
    return (a and b) or c, a and (b or c), not (a and b)


def conditional(a, b):
    return a if b else None


def walrus(a):
    if (n := len(a)) > 10:
        return n
    return (y := 2) + y


def assignments(a):
    b = c = a
    d, e = b
    (f, *g), [h, i] = c
    a.x = a["y"] = a[1:2] = 3
    return d, e, f, g, h, i


def augmented(a, b):
    a += b
    a -= b
    a *= b
    a /= b
    a //= b
    a %= b
    a **= b
    a @= b
    a <<= b
    a >>= b
    a &= b
    a |= b
    a ^= b
    a.x += 1
    a[0] += 1
    return a


def slices(a):
    return a[1], a[1:2], a[1:2:3], a[:], a[::2], a[1:, ::2], a[...], a[(1, 2)], a[-1]


def collections(a, b):
    return [1, *a], (1, *b), {1, *a}, {"a": 1, **b, 2: 3}, (), [], {}, (1,)


def calls(f, a, k):
    return f(), f(a), f(a, b=1), f(*a, **k), f(1, *a, 2, x=1, **k, y=2), f(a)(b=2)(3)


def attributes(a):
    return a.b.c, (1).real, (1.5).imag, "x".join(a), (-1).real, a.b().c[0].d


def comprehensions(a):
    return (
        [x for x in a],
        {x for x in a if x if x > 1},
        {x: y for x, y in a},
        list(x for x in a for y in x),
        [[z for z in y] for y in a],
    )


def lambdas(a):
    return (lambda: 1), (lambda x, /, y=2, *z, w=3, **v: (x, y, z, w, v)), (lambda: (yield))


def formatted(a, b):
    return f"{a}", f"a {a} b", f"{a!r}{a!s}{a!a}", f"{a:>10}", f"{a:{b}}", f"{a!r:>{b}.{b}}"


def formatted_oddly(a, b):
    return "", "plain", "{}", f"{a}tail", f"head {a}{b} tail", f"{a:}", f"{'x'}"


def formatted_debug(a):
    return f"{a=}", f"{a = }", f"{a=!s}", f"{a=:>5}", f"{a.b[0]=}"


def formatted_deeply(a, b):
    return (
        f"{a + (b if b else 1)!r:>{len(a)}}",
        f"{[x for x in a]}",
        f"{ {1: 2}[1] }",
        f"{(lambda: 1)()}",
    )


def formatted_over_lines(a):
    return f"""
    {a}
  and {
        a:
    >10}
    """


def conditions(a):
    if a == 1:
        b = 1
    elif a == 2:
        b = 2
    else:
        b = 3
    if b:
        pass
    return b


def loops(a):
    for i in a:
        if i:
            continue
        break
    else:
        a = None
    for x, (y, *z) in a:
        print(x, y, z)
    while a:
        a = a.next
    else:
        return a


def errors(a):
    try:
        a()
    except ValueError:
        raise
    except (TypeError, KeyError) as e:
        raise RuntimeError("x") from e
    except:
        pass
    else:
        a = 1
    finally:
        print(a)


def error_groups(a):
    try:
        a()
    except* ValueError as e:
        print(e)
    except* (OSError, KeyError):
        pass


def contexts(a, b):
    with a:
        pass
    with a as x, b as (y, z):
        return x, y, z
    with a as x, b:
        pass


def matching(a):
    match a:
        case 1 | 2:
            return 1
        case "x" | None | True | -1 | 1 + 2j:
            return 2
        case [1, x, *rest] if x > 1:
            return x, rest
        case [*_]:
            return 3
        case {"k": v, **others}:
            return v, others
        case str() | int(real=1):
            return 4
        case functools.partial(f, x=1) as whole:
            return f, whole
        case sys.maxsize:
            return 5
        case _:
            return 6


def imports():
    import os
    import os.path as path
    from json import dumps, loads as load

    from ..y import z  # type: ignore[import-not-found]
    from . import x  # type: ignore[attr-defined]

    return os, path, dumps, load, x, z


def globally():
    global changed
    changed = 1
    del changed


def nonlocally():
    n = 0

    def inner():
        nonlocal n
        n += 1
        return n

    return inner


def deletes(a):
    del a.x, a[0], a


def asserting(a):
    assert a, "message"
    assert a > 1
    return a


def generating(a):
    x = yield
    yield x
    y = yield from a
    return y


async def asynchronous(a):
    x = await a
    async with a as b, x:
        pass
    async for c in b:
        print(c)
    else:
        x = 1
    return [y async for y in a if await y], {z: 1 async for z in a}


async def async_generating(a):
    async for x in a:
        yield x
    yield (y async for y in a)


def decorated_inside(a):
    @functools.lru_cache(maxsize=None)
    def inner(x: int = 1, *, y: str) -> int:
        """What the inner one does."""
        z: int = 2
        return x

    @a.register
    async def other():
        return await inner()

    return inner, other


def classes_inside():
    class Answer(dict):
        """An answer."""

        text: str
        score: float = 0.5
        items: list[str] = []

        @property
        def first(self) -> str:
            return self.__hidden

    return Answer


def deep(a):
    if a:
        for b in a:
            while b:
                with b:
                    try:
                        if b:
                            return b
                    finally:
                        pass
    return None


def says_its_docstring():
    """It counts."""
    return says_its_docstring.__doc__


def says_its_annotations(a: int) -> str:
    return str(says_its_annotations.__annotations__)


def credentials(client):
    client.api_key = "0123456789abcdef"
    return client.ask(
        "hello", password="hunter2hunter2", headers={"x-api-key": "abcdef0123"}, key="by"
    )


def star_index(a, b):
    return a[*b], a[1, *b]


short = lambda a: a
pair = ((lambda a: a + 1), (lambda a: a + 2))
over_lines = functools.partial(
    lambda a, b: [
        a,
        b,
    ],
    1,
)


def _wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@_wraps
def wrapped(a: int) -> int:
    """Read by the decorator."""
    return a


def enclosing(a, b):
    def inside(c):
        return [a, b, c, __file__]

    return inside


class Methods:
    secret = 1

    def private(self):
        return self.__secret, __name__

    def calls_super(self):
        return super().__repr__()

    @staticmethod
    def static(a):
        return a

    @classmethod
    def of_class(cls, a=lambda: 1):
        return cls, a

    class Inner:
        def __init__(self):
            self.__x = Methods

    def __call__(self, a):
        return a


inside = enclosing(1, 2)
private = Methods.private
calls_super = Methods.calls_super
static = Methods.static
of_class = Methods.of_class
inner_init = Methods.Inner.__init__
called = Methods()
first_of_pair, second_of_pair = pair

FUNCTIONS: dict[str, Any] = {
    name: value
    for name, value in list(globals().items())
    if callable(value)
    and not name.startswith("_")
    and name not in ("Any", "Callable", "Path", "Methods")
}


def fingerprints() -> dict[str, Any]:
    from cachewrap.request.code import fingerprint

    return {name: fingerprint(function) for name, function in FUNCTIONS.items()}


def main() -> None:
    """Keep the fingerprints of functions that have none yet."""
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    text = json.dumps({**fingerprints(), **known}, indent=1, sort_keys=True)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
