# ruff: noqa: F401, UP006, UP007, UP035, UP045, PYI061
# The texts of classes below are run with the names of this module.
"""Classes in a request, and what is made of them: all that a model or a program reads of them."""

from __future__ import annotations

import collections
import collections.abc
import enum
import gc
import itertools
import pickle
import sys
import textwrap
import threading
import time
import types
import typing
import warnings
import weakref
from dataclasses import InitVar, dataclass, field, make_dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Callable,
    ClassVar,
    Dict,
    ForwardRef,
    Generic,
    List,
    Literal,
    NamedTuple,
    Never,
    NewType,
    NotRequired,
    Optional,
    ParamSpec,
    Required,
    Self,
    Tuple,
    Type,
    TypedDict,
    TypeVar,
    Union,
)

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, RootModel, create_model
from pydantic.dataclasses import dataclass as pydantic_dataclass

from cachewrap import Cache, llm_cached
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode, key_of, salted

T = TypeVar("T")


def key(value: object) -> str:
    return key_of(salted("41"), encode(canonical(value)))


def known_names() -> dict[str, Any]:
    return {
        **{name: held for name, held in globals().items() if name[0] != "_"},
        "__name__": "made",
    }


def define(source: str, **names: Any) -> Any:
    """The class A that a module of this text has, in which the names of this one are known."""
    module = sys.modules["made"] = types.ModuleType("made")
    vars(module).update(known_names(), **names)
    code = compile(textwrap.dedent(source), "made.py", "exec", dont_inherit=True)
    exec(code, vars(module))
    return module.A


def body(base: str, *lines: str, head: str = "") -> str:
    """The text of a class."""
    return "\n".join([head, f"class A({base}):", *(f"    {line}" for line in lines), "    pass"])


def models(*bodies: str) -> list[str]:
    return [body("BaseModel", *text.split("; ")) for text in bodies]


def dataclasses_(*bodies: str, head: str = "@dataclass") -> list[str]:
    return [body("", *text.split("; "), head=head) for text in bodies]


# Each is the text of a class A; any two of one family differ.
DIFFERENT: dict[str, list[str]] = {
    "enums": [
        "A = enum.Enum('A', ['X', 'Y'])",
        "A = enum.Enum('A', ['X', 'Z'])",
        "A = enum.Enum('A', ['Y', 'X'])",
        "A = enum.Enum('A', ['X'])",
        "A = enum.Enum('A', {'X': 1, 'Y': 3})",
        "A = enum.Enum('A', {'X': 1, 'Y': 1})",
        "A = enum.Enum('A', {'X': '1', 'Y': '2'})",
        "A = enum.Enum('A', {})",
        "A = enum.IntEnum('A', ['X', 'Y'])",
        "A = enum.Flag('A', ['X', 'Y'])",
        "A = enum.IntFlag('A', ['X', 'Y'])",
        "A = enum.StrEnum('A', {'X': '1', 'Y': '2'})",
        "A = enum.Enum('A', {'X': '1', 'Y': '2'}, type=str)",
        body("enum.Enum", "'A text.'", "X = 1", "Y = 2"),
        body("enum.Enum", "'Another text.'", "X = 1", "Y = 2"),
        "A = enum.Enum('A', ['X', 'Y']); A.X.__doc__ = 'A text.'",
        "A = enum.Enum('A', ['X', 'Y']); A.X.__doc__ = 'Another text.'",
        body("enum.Enum", "X = 1", "Y = 2", "Z = 1"),
        body("enum.Enum", "X = 1", "Y = 2", "def __init__(self, n): self.text = 'a'"),
        body("enum.Enum", "X = 1", "Y = 2", "def __init__(self, n): self.text = 'b'"),
        body("enum.Enum", "X = lambda: 1", "Y = 2", "prompt = enum.nonmember('a')"),
        body("enum.Enum", "X = lambda: 1", "Y = 2", "prompt = enum.nonmember('b')"),
    ],
    "models": models(
        "x: int",
        "x: str",
        "y: int",
        "x: int = 1",
        "x: int = 2",
        "x: int = None",
        "x: int; y: str",
        "y: str; x: int",
        "'A text.'; x: int",
        "'Another text.'; x: int",
        "x: int = Field(description='a')",
        "x: int = Field(description='b')",
        "x: Annotated[int, Field(description='c')]",
        "x: int = Field(alias='z')",
        "x: int = Field(title='a')",
        "x: int = Field(examples=[1])",
        "x: int = Field(examples=[2])",
        "x: int = Field(ge=1)",
        "x: int = Field(ge=2)",
        "x: int = Field(json_schema_extra={'a': 1})",
        "x: int | None",
        "x: None | int",
        "x: list[int]",
        "x: Literal['a', 'b']",
        "x: Literal['b', 'a']",
        "x: 'list[A]' = []",
        "x: int; model_config = {'extra': 'forbid'}",
        "x: int; model_config = {'json_schema_extra': {'a': 1}}",
        "x: int; prompt: ClassVar[str] = 'a'",
        "x: int; prompt: ClassVar[str] = 'b'",
        "x: int; stop: ClassVar[list] = ['a']",
        "x: int; stop: ClassVar[list] = ['b']",
        "x: int; _tone: str = 'a'",
        "x: int; _tone: str = 'b'",
        "x: int; _notes: list = PrivateAttr(default_factory=list)",
        "x: int; _notes: dict = PrivateAttr(default_factory=dict)",
    ),
    "models that have no JSON schema": models(
        "x: Callable[[int], str]",
        "x: Callable[[int], int]",
        "x: Callable[[int], str] = Field(description='a')",
        "x: Callable[[int], str] = print",
        "y: Callable[[int], str]",
        "x: Callable[[int], str]; y: Callable[[int], str]",
        "y: Callable[[int], str]; x: Callable[[int], str]",
        "'A text.'; x: Callable[[int], str]",
    ),
    "what a JSON schema drops": models(
        "x: Any = threading.Lock()",
        "x: Any = print",
        "x: Any = Field(default_factory=list)",
        "x: Any = Field(default_factory=dict)",
        "x: Any = Field(default_factory=lambda: 1)",
        "x: tuple[int, ...]",
        "x: list[int]",
        "x: typing.Sequence[int]",
        "x: Annotated[Any, BeforeValidator(textwrap.dedent)]",
        "x: Annotated[Any, BeforeValidator(textwrap.indent)]",
    ),
    "models in models": [
        body("BaseModel", "x: B", head=body("BaseModel", text).replace("A(", "B("))
        for text in ("'Inner.'; y: int".replace("; ", "\n    "), "y: int", "y: str", "z: int")
    ]
    + ["class B(BaseModel):\n    y: int\nclass A(B):\n    pass"]
    + ["class B(BaseModel):\n    y: int\n    'a'\nclass A(B):\n    x: int"],
    "annotations in quotes twice": [
        f"class B:\n    n = {n}\n@dataclass\nclass A:\n    x: \"'list[B]'\"" for n in (1, 2)
    ],
    "typed dictionaries": [
        "A = TypedDict('A', {'x': int, 'y': str})",
        "A = TypedDict('A', {'y': str, 'x': int})",
        "A = TypedDict('A', {'x': int})",
        "A = TypedDict('A', {'x': int, 'y': int})",
        "A = TypedDict('A', {'x': int, 'z': str})",
        "A = TypedDict('A', {'x': int, 'y': str}, total=False)",
        "A = TypedDict('A', {'x': int, 'y': NotRequired[str]})",
        "A = TypedDict('A', {'x': int, 'y': Annotated[str, 'a']})",
        "A = TypedDict('A', {'x': int, 'y': Annotated[str, 'b']})",
        "A = TypedDict('A', {'x': Required[int], 'y': str}, total=False)",
        body("TypedDict", "'A text.'", "x: int", "y: str"),
        body("TypedDict", "'Another text.'", "x: int", "y: str"),
    ],
    "named tuples": [
        "A = collections.namedtuple('A', 'x y')",
        "A = collections.namedtuple('A', 'y x')",
        "A = collections.namedtuple('A', 'x')",
        "A = collections.namedtuple('A', 'x y', defaults=[1])",
        "A = collections.namedtuple('A', 'x y', defaults=[2])",
        "A = collections.namedtuple('A', 'x y', defaults=[1, 1])",
        "A = collections.namedtuple('A', 'x y'); A.__doc__ = 'A text.'",
        "A = collections.namedtuple('A', 'x y'); A.x.__doc__ = 'A text.'",
        body("NamedTuple", "x: int", "y: str"),
        body("NamedTuple", "x: int", "y: int"),
        body("NamedTuple", "x: int", "y: str = 'a'"),
        body("NamedTuple", "x: int", "y: str = 'b'"),
        body("NamedTuple", "'A text.'", "x: int", "y: str"),
        body("NamedTuple", "x: int", "y: str", "prompt = 'a'"),
    ],
    "dataclasses": dataclasses_(
        "x: int",
        "x: str",
        "y: int",
        "x: int; y: str",
        "y: str; x: int",
        "x: int = 1",
        "x: int = 2",
        "x: int = None",
        "x: int = field(default_factory=list)",
        "x: int = field(default_factory=dict)",
        "x: int = field(metadata={'description': 'a'})",
        "x: int = field(metadata={'description': 'b'})",
        "x: int = field(kw_only=True)",
        "x: int = field(init=False)",
        "x: InitVar[int]",
        "x: InitVar[str]",
        "x: ClassVar[int]",
        "x: ClassVar[int] = 3",
        "x: ClassVar[int] = 4",
        "x: Annotated[int, 'a']",
        "x: Annotated[int, 'b']",
        "x: Annotated[int, Field(description='a')]",
        "x: Annotated[int, Field(description='b')]",
        "x: 'int | None'",
        "'A text.'; x: int",
        "'A(x: int, as it is)'; x: int",
        "x: int; prompt = 'a'",
        "x: int; prompt = 'b'",
    )
    + dataclasses_("x: int = 7", head="@dataclass(kw_only=True)"),
    "dataclasses of pydantic": dataclasses_(
        "x: int",
        "x: str",
        "x: int = 1",
        "x: int = Field(description='a')",
        "x: int = Field(description='b')",
        "'A text.'; x: int",
        "'Another text.'; x: int",
        head="@pydantic_dataclass",
    ),
    "undecorated subclasses": [
        f"@dataclass\nclass B:\n    {line}\nclass A(B):\n    {more}"
        for line in ("x: int", "x: str", "'A text.'")
        for more in ("pass", "'A text.'", "y: int", "y = 1")
    ],
    "protocols and generics": [
        body("typing.Protocol", "x: int"),
        body("typing.Protocol", "x: str"),
        body("Generic[T]", "x: T"),
        body("Generic[T]", "x: int"),
        body("", "x: int"),
    ],
    "classes of one's own": [
        body("", ""),
        body("", "'A text.'"),
        body("", "'Another text.'"),
        body("", "prompt = 'a'"),
        body("", "prompt = 'b'"),
        body("", "prompt = b'a'"),
        body("", "prompt = ['a']"),
        body("", "prompt = ('a',)"),
        body("", "prompt = {'a': 1}"),
        body("", "prompt = {'a': 2}"),
        body("", "prompt = {'a', 'b'}"),
        body("", "prompt = None"),
        body("", "prompt = 1"),
        body("", "prompt = 1.0"),
        body("", "prompt = True"),
        body("", "prompt = threading.Lock()"),
        body("", "prompt = object()"),
        body("", "prompt = types.SimpleNamespace(a=1)"),
        body("", "prompt = types.SimpleNamespace(a=2)"),
        body("", "prompt = int"),
        body("", "prompt = list[int]"),
        body("", "_prompt = 'a'"),
        body("", "__prompt = 'a'"),
        body("", "prompt: str"),
        body("", "prompt: int"),
        body("", "class prompt: text = 'a'"),
        body("", "class prompt: text = 'b'"),
        body("dict", ""),
        body("list", ""),
        body("dict[str, int]", ""),
        body("B", "", head="class B: prompt = 'a'"),
        body("B", "", head="class B: prompt = 'b'"),
        body("B", "", head="class B: 'A text.'"),
        body("B, C", "", head="class B: pass\nclass C: pass"),
        body("C, B", "", head="class B: pass\nclass C: pass"),
    ],
    "classes made by type()": [
        "A = type('A', (), {'prompt': 'a'})",
        "A = type('A', (), {'prompt': 'b'})",
        "class B: tone = 'a'\nA = type('A', (B,), {'prompt': 'a'})",
        "class B: tone = 'b'\nA = type('A', (B,), {'prompt': 'a'})",
        "A = type('A', (), {'tone': 'a'})",
    ],
    "classes whose module is called as one of Python's": [
        "A = types.new_class('A'); A.prompt = 'a'",
        "A = types.new_class('A'); A.prompt = 'b'",
        "A = types.new_class('A'); A.__module__ = 'types'",
        "A = make_dataclass('A', [('x', int)]); A.__module__ = 'types'",
        "A = make_dataclass('A', [('x', str)]); A.__module__ = 'types'",
        "A = type('int', (), {'__module__': 'builtins', 'prompt': 'a'})",
        "A = type('int', (), {'__module__': 'builtins', 'prompt': 'b'})",
    ],
}


@pytest.mark.parametrize("family", DIFFERENT.values(), ids=DIFFERENT)
def test_classes_that_were_edited_differ(family: list[str]) -> None:
    keys = [key(define(source)) for source in family]
    pairs = itertools.combinations(range(len(family)), 2)
    assert [(family[i], family[j]) for i, j in pairs if keys[i] == keys[j]] == []


@pytest.mark.parametrize(
    "source", [pytest.param(text, id=text) for family in DIFFERENT.values() for text in family]
)
def test_a_class_that_was_made_again_is_the_same(source: str) -> None:
    one, other = define(source), define(source)
    assert key(one) == key(other) == key(one)


@pytest.mark.parametrize("form", ["list[A]", "A | None", "type[A]", "Annotated[A, 'a']"])
@pytest.mark.parametrize("family", DIFFERENT.values(), ids=DIFFERENT)
def test_what_is_made_of_classes_differs_as_they_do(family: list[str], form: str) -> None:
    sources = family[:6]
    keys = {key(eval(form, {**known_names(), "A": define(source)})) for source in sources}
    assert len(keys) == len(sources)


EQUAL: dict[str, tuple[str, str]] = {
    "how a docstring is indented": (
        body("", '"""One.', "", "Two.", '"""'),
        'class A:\n        """One.\n\n        Two.\n        """',
    ),
    "methods": (body("", "def f(self): return 1"), body("", "def f(self): return 2")),
    "which methods": (body("", ""), body("", "def f(self): ...", "g = classmethod(f)", "h = len")),
    "properties": (body("", "x = property(lambda self: 1)"), body("", "")),
    "the order of attributes": (body("", "a = 1", "b = 2"), body("", "b = 2", "a = 1")),
    "validators": (body("BaseModel", "x: int"), body("BaseModel", "x: int", "def f(self): ...")),
    "the default docstring of a dataclass": (
        "@dataclass\nclass A:\n    x: int",
        "@dataclass\nclass A:\n    x: int\nA.__doc__ = None",
    ),
    "the default docstring of a named tuple": (
        "A = collections.namedtuple('A', 'x')",
        "A = collections.namedtuple('A', 'x'); A.__doc__ = None",
    ),
    "how an enum is made": (
        "A = enum.Enum('A', {'X': 1, 'Y': 2})",
        body("enum.Enum", "X = 1", "Y = 2"),
    ),
    "how a dictionary is typed": (
        "A = TypedDict('A', {'x': int})",
        body("TypedDict", "x: int"),
    ),
    "quotes around a type": (body("", "x: 'list[int]'"), body("", "x: list[int]")),
    "quotes in a type": (body("", "x: list['A']"), body("", "x: 'list[A]'")),
    "older names of types": (
        body("", "x: List[Optional[int]]"),
        body("", "x: list[int | None]"),
    ),
    "slots": (
        "@dataclass\nclass A:\n    x: int = 1",
        "@dataclass(slots=True)\nclass A:\n    x: int = 1",
    ),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_what_nobody_reads_of_a_class_makes_no_difference(one: str, other: str) -> None:
    assert key(define(one)) == key(define(other))


# -- type forms -----------------------------------------------------------------------------------


class Item(BaseModel):
    """One of them."""

    name: str


class Twin(BaseModel):
    """One of them."""

    name: str


class Node(BaseModel):
    next: Node | None = None
    items: list[Item] = []


@dataclass
class Tree:
    leaves: list[Tree]
    item: Item


class Page(BaseModel, Generic[T]):
    items: list[T]


class Shelf(Generic[T]):
    content: T


class Tone(enum.Enum):
    KIND = "kind"
    HARSH = "harsh"


P = ParamSpec("P")
Bound = TypeVar("Bound", bound=Item)
Early = TypeVar("Early", bound="Item")
Chosen = TypeVar("Chosen", int, str)
UserId = NewType("UserId", int)
Name = NewType("Name", str)


FORMS: list[Any] = [
    *(None, ..., Any, Never, Self, int, str, Item, Twin, Node, Tree, Tone, Page, Shelf, "Item"),
    *(list, list[Item], list[Twin], list[int], list[str], list["Item"], list[Any], list[list[int]]),
    *(dict[str, int], dict[int, str], tuple[int, ...], tuple[int], tuple[int, int], tuple[()]),
    *(set[int], frozenset[int], type[Item], type[Any], type, dict, tuple, typing.Iterable[int]),
    *(int | None, int | str, str | int, None | int, int | str | None, Union[Item, Twin]),
    *(Literal["a"], Literal["a", "b"], Literal["b", "a"], Literal[1], Literal["1"], Literal[True]),
    *(Literal[b"a"], Literal[None], Literal[Tone.KIND], Literal[Tone.HARSH]),
    *(Annotated[int, "a"], Annotated[int, "b"], Annotated[str, "a"], Annotated[int, "a", "b"]),
    *(Annotated[int, Field(description="a")], Annotated[int, Field(description="b")]),
    *(Annotated[int, Field(gt=1)], Annotated[int, Field(gt=2)], Annotated[int, 1], Field),
    *(Annotated[int, BeforeValidator(len)], Annotated[int, BeforeValidator(abs)]),
    *(Annotated[int, len], Annotated[int, abs], Annotated[int, types.SimpleNamespace(a=1)]),
    *(Callable[[int], str], Callable[[str], str], Callable[..., str], Callable[[], str]),
    *(Callable[[int, str], str], Callable[P, int], collections.abc.Callable),
    *(T, Bound, Chosen, P, UserId, Name, ForwardRef("Missing"), InitVar[int], InitVar[str]),
    *(Required[int], NotRequired[int], ClassVar[int], Optional, Union, Literal),
    *(Page[Item], Page[Twin], Page[int], Shelf[int], Shelf[Item], Shelf[T], RootModel[list[int]]),
    *(RootModel[list[str]], list[Page[Item]], collections.OrderedDict[str, int]),
]
FORMS.remove(Field)


def test_no_two_forms_share_a_key() -> None:
    keys = [key(form) for form in FORMS]
    pairs = itertools.combinations(range(len(FORMS)), 2)
    assert [(FORMS[i], FORMS[j]) for i, j in pairs if keys[i] == keys[j]] == []


EQUAL_FORMS: dict[str, tuple[Any, Any]] = {
    "a list": (list[Item], List[Item]),
    "a dictionary": (dict[str, int], Dict[str, int]),
    "a tuple": (tuple[int, ...], Tuple[int, ...]),
    "a class": (type[Item], Type[Item]),
    "a bare list": (list, List),
    "a bare tuple": (tuple, Tuple),
    "a union": (int | None, Optional[int]),
    "a union by name": (int | str, Union[int, str]),
    "a union in a list": (list[int | None], List[Optional[int]]),
    "a callable": (Callable[[int], str], collections.abc.Callable[[int], str]),
    "a name": (list["Missing"], List["Missing"]),  # noqa: F821
    "nested metadata": (Annotated[Annotated[int, 1], 2], Annotated[int, 1, 2]),
    "None": (Optional[int], Union[int, type(None)]),
    "a bound by name": (
        define("A = TypeVar('A', bound='int')"),
        define("A = TypeVar('A', bound='int')"),
    ),
}


@pytest.mark.parametrize(("one", "other"), EQUAL_FORMS.values(), ids=EQUAL_FORMS)
def test_two_ways_to_write_a_form_are_one(one: Any, other: Any) -> None:
    assert key(one) == key(other)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is of Python 3.12")
def test_aliases_of_types_count_by_what_they_stand_for() -> None:
    sources = [
        "type A = int",
        "type A = str",
        "type A[T] = list[T]",
        "type A[T] = set[T]",
        "type A[T: int] = list[T]",
        "type A = list[A] | int",
        "type A = list[A] | str",
        "type A = Missing",
        "type A = None",
        "class A[T]:\n    x: T",
        "class A[T: int]:\n    x: T",
        "class A[T: A]:\n    x: T",
    ]
    assert len({key(define(source)) for source in sources}) == len(sources)
    assert [key(define(source)) for source in sources] == [key(define(s)) for s in sources]


def test_a_form_of_another_module_has_the_name_of_the_standard_one() -> None:
    extensions = pytest.importorskip("typing_extensions")
    for name in ("Never", "Self", "LiteralString", "Required", "ReadOnly"):
        assert canonical(getattr(extensions, name)) == {"!type": [f"typing:{name}", None]}
    assert key(extensions.Annotated[int, 1]) == key(Annotated[int, 1])


@pytest.mark.parametrize("value", [Path, Path[str] if hasattr(Path, "__class_getitem__") else Path])
def test_a_class_of_python_has_the_name_that_it_is_imported_by(value: Any) -> None:
    assert "pathlib:Path" in repr(canonical(value))


def test_classes_of_python_count_by_name() -> None:
    for cls in (int, Path, enum.Enum, BaseModel, threading.Thread, collections.OrderedDict):
        ((name, schema),) = canonical(cls).values()
        assert name.endswith(f":{cls.__qualname__}") and schema is None


# -- what changes while it is known -------------------------------------------------------------


def test_an_attribute_that_is_changed_in_place_counts() -> None:
    cls = define(body("", "prompt = 'a'", "stop = ['a']", "seen = {'a': [1]}"))
    keys = [key(cls)]
    cls.prompt = "b"
    keys.append(key(cls))
    cls.stop.append("b")
    keys.append(key(cls))
    cls.seen["a"].append(True)
    keys.append(key(cls))
    cls.seen["a"][1] = 1
    keys.append(key(cls))
    cls.__doc__ = "A text."
    keys.append(key(cls))
    assert len(set(keys)) == len(keys)
    assert key(cls) == keys[-1]


def test_what_is_changed_in_a_base_or_a_part_counts() -> None:
    part = define(body("BaseModel", "x: int"))
    base = define(body("", "prompt = 'a'"))
    whole = define(body("B", "part: C", head=""), B=base, C=part)
    keys = [key(whole)]
    base.prompt = "b"
    keys.append(key(whole))
    part.__doc__ = "A text."
    keys.append(key(whole))
    assert len(set(keys)) == len(keys)


def test_a_model_that_is_built_again_counts() -> None:
    cls = define(body("BaseModel", "x: int = Field(description='a')"))
    keys = [key(cls)]
    cls.model_fields["x"].description = "b"
    keys.append(key(cls))
    cls.model_rebuild(force=True)
    keys.append(key(cls))
    assert len(set(keys)) == 3
    assert "'description': 'b'" in repr(canonical(cls)["!type"][1]["json"])


def test_a_model_that_was_not_complete_is_asked_again() -> None:
    namespace: dict[str, Any] = known_names()
    exec("class A(BaseModel):\n    x: 'Later'", namespace)
    before = key(namespace["A"])
    later = define("class A(BaseModel):\n    y: int")
    namespace["A"].model_rebuild(_types_namespace={"Later": later})
    assert key(namespace["A"]) != before


def test_a_member_whose_value_was_changed_in_place_counts() -> None:
    cls = define("A = enum.Enum('A', ['X', 'Y'])")
    keys = [key(cls)]
    cls.X._value_ = 5
    keys.append(key(cls))
    cls.Y.text = "a"
    keys.append(key(cls))
    assert len(set(keys)) == 3


def test_what_a_member_holds_and_was_changed_in_place_counts() -> None:
    cls = define("A = enum.Enum('A', {'X': {'a': 1}})\nA.X.seen = []")
    keys = [key(cls)]
    cls.X.value["b"] = 2
    keys.append(key(cls))
    cls.X.seen.append("c")
    keys.append(key(cls))
    assert len(set(keys)) == 3


def test_the_order_of_calls_makes_no_difference() -> None:
    def ring() -> tuple[Any, Any]:
        namespace: dict[str, Any] = known_names()
        exec(
            "class A(BaseModel):\n    b: 'B | None'\nclass B(BaseModel):\n    a: 'A | None'",
            namespace,
        )
        for name in "AB":
            namespace[name].model_rebuild(_types_namespace=namespace)
        return namespace["A"], namespace["B"]

    one, other = ring(), ring()
    assert [key(one[0]), key(one[1])] == [key(other[1]), key(other[0])][::-1]


@pytest.mark.parametrize("source", ["class A: pass", *(f[0] for f in DIFFERENT.values())])
def test_a_class_is_not_kept(source: str) -> None:
    cls = define(source)
    key(cls)
    gone = weakref.ref(cls)
    del cls, sys.modules["made"]
    gc.collect()
    assert gone() is None


def test_a_class_that_is_pickled_by_value_takes_nothing_along() -> None:
    key(Tree)
    found = vars(Tree)["__cachewrap_form__"]
    assert pickle.loads(pickle.dumps(found)) is None


def test_a_subclass_and_a_copy_do_not_take_what_is_known_of_the_class() -> None:
    cls = define(body("", "prompt = 'a'"))
    before = key(cls)
    under = type("A", (cls,), {"__module__": "made"})
    copy = type("A", (), {**vars(cls), "prompt": "b"})
    assert len({before, key(under), key(copy)}) == 3


def test_threads_come_to_one_form() -> None:
    cls = define(body("BaseModel", "x: int", "stop: ClassVar[list] = [1]"))
    keys: set[str] = set()
    threads = [threading.Thread(target=lambda: keys.add(key(cls))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys == {key(define(body("BaseModel", "x: int", "stop: ClassVar[list] = [1]")))}


def test_what_runs_while_a_class_is_read_may_ask_of_classes_itself() -> None:
    asked = []

    class Watched(BaseModel):
        x: Item

        @classmethod
        def model_json_schema(cls, **_: Any) -> Any:
            asked.append(key(Item))
            return {}

    key(Watched)
    assert asked == [key(Item)]


def test_no_warning_comes_of_a_default_that_json_has_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        key(define(body("BaseModel", "x: Any = threading.Lock()")))


def test_a_class_that_cannot_be_described_by_its_own_schema_has_its_fields() -> None:
    source = body("BaseModel", "x: {}", "@classmethod", "def model_json_schema(cls): 1 / 0")
    assert key(define(source.format("int"))) != key(define(source.format("str")))


def test_a_class_in_itself_ends() -> None:
    cls = define(body("", "kinds = []", "x: 'A'"))
    cls.kinds.append(cls)
    cls.itself = cls
    assert key(cls) == key(cls)
    assert key([Node, Tree]) == key([Node, Tree])


def test_many_classes_that_refer_to_each_other_are_read_once() -> None:
    source = "class A0: pass\n"
    for at in range(1, 40):
        source += f"class A{at}:\n    x: A{at - 1}\n    y: A{at - 1}\n    z: list[A{at - 1}]\n"
    began = time.perf_counter()
    key(define(source + "A = A39"))
    assert time.perf_counter() - began < 2


def test_classes_may_be_as_deep_in_each_other_as_they_like() -> None:
    source = "class A0: prompt = {!r}\n"
    for at in range(1, 500):
        source += f"class A{at}:\n    x: A{at - 1}\n"
    one, other = (define(source.replace("{!r}", text) + "A = A499") for text in ("'a'", "'b'"))
    assert key(one) != key(other)


def test_two_classes_of_one_name_are_two() -> None:
    def named(x: Any) -> Any:
        return define("class B: prompt = x\nA = B", x=x)

    keys = {
        key(define("class A: first, second, third = x", x=tuple(parts)))
        for one, other in [(named("a"), named("b"))]
        for parts in itertools.product((one, other), repeat=3)
    }
    assert len(keys) == 8


def test_a_model_in_a_constant_of_a_model_has_its_own_schema() -> None:
    def within(description: str) -> Any:
        source = "x: Any", "answer: ClassVar[Any] = B"
        inner = create_model("B", __module__="made")
        inner.__get_pydantic_json_schema__ = classmethod(  # type: ignore[method-assign, assignment]
            lambda cls, core, handler: {"description": description}
        )
        inner.model_rebuild(force=True)
        return define(body("BaseModel", *source), B=inner)

    assert key(within("a")) != key(within("b"))


class Loud(type):
    loud = False

    def __getattr__(cls, name: str) -> Any:
        raise AssertionError(name) if Loud.loud else AttributeError(name)

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = type.__hash__


def test_nothing_of_a_metaclass_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (dataclass(Loud("A", (), {"__module__": "made", "x": x})) for x in (1, 2))
    monkeypatch.setattr(Loud, "loud", True)
    assert key(one) != key(other)
    assert key(one()) != key(other())


# -- attrs and msgspec ----------------------------------------------------------------------------


def test_classes_of_attrs_are_their_fields() -> None:
    attrs = pytest.importorskip("attrs")
    sources = dataclasses_(
        "x: int",
        "x: str",
        "y: int",
        "x: int; y: int",
        "y: int; x: int",
        "x: int = 1",
        "x: int = None",
        "x: int = attrs.field(factory=list)",
        "x: int = attrs.field(metadata={'a': 1})",
        "x: int = attrs.field(validator=attrs.validators.gt(1))",
        "x: int = attrs.field(validator=attrs.validators.gt(2))",
        "x: int = attrs.field(kw_only=True)",
        "'A text.'; x: int",
        head="@attrs.define",
    )
    assert len({key(define(source, attrs=attrs)) for source in sources}) == len(sources)
    assert [key(define(s, attrs=attrs)) for s in sources] == [
        key(define(s, attrs=attrs)) for s in sources
    ]


def test_structs_are_their_fields() -> None:
    msgspec = pytest.importorskip("msgspec")
    sources = [
        body(base, *text.split("; "))
        for base, text in [
            ("msgspec.Struct", "x: int"),
            ("msgspec.Struct", "x: str"),
            ("msgspec.Struct", "y: int"),
            ("msgspec.Struct", "x: int; y: int"),
            ("msgspec.Struct", "y: int; x: int"),
            ("msgspec.Struct", "x: int = 1"),
            ("msgspec.Struct", "x: int = 2"),
            ("msgspec.Struct", "x: list = []"),
            ("msgspec.Struct", "x: int = msgspec.field(name='z')"),
            ("msgspec.Struct", "'A text.'; x: int"),
            ("msgspec.Struct", "x: Annotated[int, msgspec.Meta(description='a')]"),
            ("msgspec.Struct", "x: Annotated[int, msgspec.Meta(description='b')]"),
            ("msgspec.Struct, tag='a'", "x: int"),
            ("msgspec.Struct, tag='b'", "x: int"),
            ("msgspec.Struct, forbid_unknown_fields=True", "x: int"),
        ]
    ]
    assert len({key(define(source, msgspec=msgspec)) for source in sources}) == len(sources)


def test_models_of_the_older_pydantic_are_their_schema() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        older = pytest.importorskip("pydantic.v1")
        sources = [
            body("v1.BaseModel", "x: int"),
            body("v1.BaseModel", "x: str"),
            body("v1.BaseModel", "x: int = v1.Field(1, description='a')"),
            body("v1.BaseModel", "x: int = v1.Field(1, description='b')"),
        ]
        try:
            classes = [define(source, v1=older) for source in sources]
        except Exception as error:
            pytest.skip(f"it does not run here: {error}")
        assert len({key(cls) for cls in classes}) == len(sources)


# -- what holds for any class ------------------------------------------------------------------

IDENTIFIERS = st.sampled_from(["alpha", "beta", "gamma", "delta"])
TYPES = st.sampled_from(["int", "str", "list[int]", "int | None", "Literal['a', 'b']", "Item"])
TEXTS = st.sampled_from(["", "a text", "another text"])
FIELDS = st.lists(
    st.tuples(IDENTIFIERS, TYPES, st.none() | st.integers(0, 2), TEXTS),
    min_size=1,
    max_size=3,
    unique_by=lambda row: row[0],
)
SHAPES = st.tuples(st.sampled_from(["model", "dataclass", "typed"]), TEXTS, FIELDS)


def built(shape: tuple[str, str, list[tuple[str, str, int | None, str]]]) -> Any:
    kind, text, fields = shape
    lines = [f"{text!r}"] if text else []
    # A field without a default stands before those that have one.
    for name, hint, default, described in sorted(fields, key=lambda row: row[2] is not None):
        noted = f"Annotated[{hint}, Field(description={described!r})]" if described else hint
        given = "" if default is None or kind == "typed" else f" = {default}"
        lines.append(f"{name}: {noted}{given}")
    bases = {"model": "BaseModel", "dataclass": "", "typed": "TypedDict"}
    head = "@dataclass" if kind == "dataclass" else ""
    return define(body(bases[kind], *lines, head=head))


def read(shape: tuple[str, str, list[tuple[str, str, int | None, str]]]) -> Any:
    kind, text, fields = shape
    rows = sorted(fields, key=lambda row: row[2] is not None)
    if kind == "typed":  # it has no defaults
        rows = [(name, hint, None, described) for name, hint, _, described in rows]
    return kind, text, rows


@given(SHAPES, SHAPES)
@settings(max_examples=many(150), deadline=None)
def test_two_classes_are_one_only_if_all_that_can_be_read_is(one: Any, other: Any) -> None:
    assert (key(built(one)) == key(built(other))) == (read(one) == read(other))


@given(SHAPES, st.data())
@settings(max_examples=many(150), deadline=None)
def test_one_edit_is_another_class(shape: Any, data: st.DataObject) -> None:
    kind, text, fields = shape
    at = data.draw(st.integers(0, len(fields) - 1))
    name, hint, default, described = fields[at]
    edits = [
        (kind, text + " edited", fields),
        (kind, text, [*fields[:at], (name + "_", hint, default, described), *fields[at + 1 :]]),
        (kind, text, [*fields[:at], (name, "bytes", default, described), *fields[at + 1 :]]),
        (kind, text, [*fields[:at], (name, hint, default, described + "."), *fields[at + 1 :]]),
        (kind, text, [*fields, ("more", "int", 5, "")]),
    ]
    if kind != "typed":
        edits.append((kind, text, [*fields[:at], (name, hint, 7, described), *fields[at + 1 :]]))
    assert key(built(shape)) not in {key(built(edit)) for edit in edits}


MEMBERS = st.dictionaries(
    IDENTIFIERS, st.one_of(st.integers(-2, 2), TEXTS, st.booleans(), st.none()), min_size=1
)


@given(MEMBERS, MEMBERS)
@settings(max_examples=many(300), deadline=None)
def test_two_enums_are_one_only_if_their_members_are(one: Any, other: Any) -> None:
    def rows(members: Any) -> Any:
        return [(name, type(value), value) for name, value in members.items()]

    def is_the_same(one: Any, other: Any) -> bool:
        return rows(one) == rows(other)

    def known(members: Any) -> Any:
        # Of values that are equal to Python, such as True and 1, an enum keeps the first.
        return {name: member.value for name, member in enum.Enum("E", members).__members__.items()}

    made = [enum.Enum("A", members, module="made") for members in (one, other)]
    assert (key(made[0]) == key(made[1])) == is_the_same(known(one), known(other))


# -- through the decorator ------------------------------------------------------------------------


class Base:
    prompt = "none"

    @classmethod
    @llm_cached(version=1)
    def ask(cls, text: str) -> str:
        ASKED.append(text)
        return f"{cls.prompt}: {text}"


@llm_cached(version=1)
def classify(text: str, labels: Any) -> str:
    ASKED.append(text)
    return f"{text} as {labels}"


ASKED: list[str] = []


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


def test_other_labels_are_another_question() -> None:
    with Cache.memory():
        for labels in (["GOOD", "BAD"], ["GOOD", "BAD", "NEUTRAL"], ["BAD", "GOOD"]) * 2:
            classify("fine", enum.Enum("Label", labels))
    assert len(ASKED) == 3


def test_another_answer_model_is_another_question() -> None:
    with Cache.memory():
        for fields in ({"x": (int, ...)}, {"x": (str, ...)}, {"y": (int, ...)}) * 2:
            made = create_model("Answer", **fields)  # type: ignore[call-overload]
            for form in (made, list[made], made | None):  # type: ignore[valid-type]
                classify("fine", form)
    assert len(ASKED) == 9


def test_a_dataclass_made_at_run_time_is_its_fields() -> None:
    with Cache.memory():
        for fields in ([("x", int)], [("x", str)], [("y", int)]) * 2:
            classify("fine", make_dataclass("Answer", fields))
    assert len(ASKED) == 3


def test_a_class_method_asks_for_its_class() -> None:
    with Cache.memory():
        answers = [
            type("Agent", (Base,), {"prompt": prompt}).ask("go on")  # type: ignore[attr-defined]
            for prompt in ("a", "b", "a")
        ]
    assert answers == ["a: go on", "b: go on", "a: go on"]
    assert len(ASKED) == 2


def test_a_prompt_that_was_edited_is_asked_anew() -> None:
    with Cache.memory():
        agent: Any = type("Agent", (Base,), {"prompt": "a"})
        first = agent.ask("go on")
        agent.prompt = "b"
        assert agent.ask("go on") != first
    assert len(ASKED) == 2
