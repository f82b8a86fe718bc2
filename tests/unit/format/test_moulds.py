"""A model that is read again and again is the same each time: by the mould, and in general."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given, strategies as st

from cachewrap.entry import Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.format import classes, codec, moulds

TIMES = 4
"""How often an answer is read: by then its mould is made and used."""


class Detail(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    text: str | None = None
    number: Any = 1


class Frozen(Detail):
    model_config = pydantic.ConfigDict(frozen=True)


class Root(pydantic.RootModel[int]):
    pass


class Private(Detail):
    _kept: int = pydantic.PrivateAttr(default=3)


class Tree(pydantic.BaseModel):
    left: Any = None
    right: Any = None


def tree(depth: int) -> Any:
    return Tree(left=tree(depth - 1), right=tree(depth - 1)) if depth else None


def nested(depth: int) -> Any:
    return Tree(left=nested(depth - 1)) if depth else None


class Answer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    id: str
    detail: Any = None
    details: Any = None
    numbers: Any = None


@pytest.fixture(autouse=True)
def unlearned() -> Iterator[None]:
    """No mould is there before a test, nor after it."""
    forget()
    yield
    forget()


def forget() -> None:
    moulds._answers.clear()
    classes.found.clear()


def state(value: Any) -> Any:
    """All that an object holds, with the order of its fields and the types of what is in them."""
    if isinstance(value, pydantic.BaseModel):
        extra, private = value.__pydantic_extra__, value.__pydantic_private__
        return (
            type(value),
            state(vars(value)),
            state(extra),
            value.__pydantic_fields_set__,
            type(value.__pydantic_fields_set__),
            state(private),
        )
    if type(value) is dict:
        return [(key, state(item)) for key, item in value.items()]
    if type(value) in (list, tuple):
        return type(value), [state(item) for item in value]
    return type(value), value


def has_mould() -> bool:
    return any(answers.made for answers in moulds._answers.values())


def reversed_fields() -> Any:
    answer = Answer(id="a", detail=Detail(text="b"))
    held = dict(reversed(vars(answer).items()))
    object.__setattr__(answer, "__dict__", held)
    return answer


MOULDED: dict[str, Callable[[], Any]] = {
    "plain fields": lambda: Answer(id="a"),
    "a model in it": lambda: Answer(id="a", detail=Detail(text="b", number=2)),
    "models in a list": lambda: Answer(id="a", details=[Detail(text="b"), Detail(number=1.5)]),
    "a frozen model in it": lambda: Answer(id="a", detail=Frozen(text="b")),
    "numbers": lambda: Answer(id="a", numbers=[0.5, 1.25, -1e300] * 10),
    "numbers of both kinds": lambda: Answer(id="a", numbers=[1, 0.5, True, None, "a"] * 10),
    "an empty list": lambda: Answer(id="a", details=[]),
    "text beyond ASCII": lambda: Answer(id="é", detail=Detail(text="\U0001f600")),
    "fields in another order": reversed_fields,
    "models in one another": lambda: tree(4),
    "models in one another that are deep": lambda: nested(60),
    "large numbers": lambda: Answer(id="a", numbers=[2**64 - 1, -(2**63)]),
    "a type that is not the declared one": lambda: Answer.model_construct(id=1.5, detail="text"),
    "no field that was set": lambda: Answer.model_construct(_fields_set=set(), id="a"),
}
UNFIT: dict[str, Callable[[], Any]] = {
    "extra attributes": lambda: Answer.model_validate({"id": "a", "other": 1}),
    "extra attributes in a model in it": lambda: Answer(
        id="a", detail=Detail.model_validate({"other": 1})
    ),
    "an extra that looks like a tag": lambda: Answer.model_validate({"id": "a", "!tuple": [1]}),
    "private attributes": lambda: Answer(id="a", detail=Private()),
    "a dictionary": lambda: Answer(id="a", detail={"a": 1}),
    "a dictionary like a tag": lambda: Answer(id="a", detail={"!tuple": [1]}),
    "bytes": lambda: Answer(id="a", detail=b"bytes"),
    "a date": lambda: Answer(id="a", detail=dt.date(2026, 1, 2)),
    "no finite number": lambda: Answer(id="a", detail=float("inf")),
    "a tuple": lambda: Answer(id="a", details=(1, 2)),
    "lists in a list": lambda: Answer(id="a", details=[[1], [2]]),
    "models of two classes": lambda: Answer(id="a", details=[Detail(), Frozen()]),
    "more models in one another than are worth a mould": lambda: tree(7),
    "a field that is missing": lambda: Answer.model_construct(detail=1),
    "half a surrogate": lambda: Answer(id="a", detail=Detail.model_construct(text="\ud800")),
}


@pytest.mark.parametrize("name", MOULDED)
def test_a_model_that_is_moulded_is_the_same_each_time(name: str) -> None:
    answer = MOULDED[name]()
    kind, data = codec.encode(answer)
    read = [state(codec.decode(kind, data)) for _ in range(TIMES)]
    assert (read, has_mould()) == ([state(answer)] * TIMES, True)


@pytest.mark.parametrize("name", UNFIT)
def test_a_model_that_no_mould_fits_is_the_same_each_time(name: str) -> None:
    answer = UNFIT[name]()
    kind, data = codec.encode(answer)
    assert [state(codec.decode(kind, data)) for _ in range(TIMES)] == [state(answer)] * TIMES
    assert not has_mould()


@pytest.mark.parametrize("second", [*MOULDED, *UNFIT])
def test_a_mould_of_one_answer_reads_another_as_it_is(second: str) -> None:
    for make in MOULDED.values():
        first = codec.encode(make())
        for _ in range(2):
            codec.decode(*first)
    answer = {**MOULDED, **UNFIT}[second]()
    stored = codec.encode(answer)
    assert [state(codec.decode(*stored)) for _ in range(2)] == [state(answer)] * 2


def test_a_mould_learns_what_other_answers_have() -> None:
    answers = [Answer(id="a"), Answer(id="a", detail=Detail()), Answer(id="a", details=[Detail()])]
    stored = [codec.encode(answer) for answer in answers]
    for one in stored * 2:
        codec.decode(*one)
    settled = classes.settle()
    assert [moulds.cast(data, settled) is moulds.UNFIT for _, data in stored] == [False] * 3


def test_a_field_may_hold_a_model_at_times_and_a_list_of_texts_at_others() -> None:
    inner, texts = Answer(id="a", detail=Detail(text="x")), Answer(id="a", detail=["x", "y"])
    for value in (inner, texts) * 3:
        assert codec.decode(*codec.encode(value)) == value


def test_a_class_of_too_many_forms_is_read_in_general() -> None:
    answers = [
        Answer(id="a", **{name: value})
        for name in ("detail", "details", "numbers")
        for value in (Detail(), [Detail()], [1], {"a": 1}, b"a")
    ]
    stored = [codec.encode(answer) for answer in answers]
    for _ in range(TIMES):
        assert [state(codec.decode(*one)) for one in stored] == [state(one) for one in answers]
    assert not has_mould()


def test_what_was_read_shares_nothing_with_what_is_read_next() -> None:
    stored = codec.encode(Answer(id="a", detail=Detail(text="b"), numbers=[1.5] * 20))
    for _ in range(TIMES):
        answer = codec.decode(*stored)
        assert state(answer) == state(Answer(id="a", detail=Detail(text="b"), numbers=[1.5] * 20))
        answer.detail.text = "c"
        answer.numbers.append(2)
        answer.detail.__pydantic_fields_set__.add("number")
        answer.other = answer.detail.other = 1


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
inner = st.builds(
    Detail, text=st.none() | st.text(max_size=3), number=plain | st.binary(max_size=2)
)
answers = st.builds(
    Answer,
    id=st.text(max_size=3),
    detail=plain | inner | st.just({}),
    details=st.none() | st.lists(inner, max_size=3) | st.tuples(plain),
    numbers=st.lists(plain, max_size=20),
)


@given(st.lists(answers, min_size=1, max_size=5))
def test_whatever_models_hold_comes_back_in_either_way(found: list[Any]) -> None:
    forget()
    stored = [codec.encode(one) for one in found]
    general = []
    for one in stored:
        forget()
        general.append(state(codec.decode(*one)))
    assert general == [state(one) for one in found]
    for _ in range(3):
        assert [state(codec.decode(*one)) for one in stored] == general


# -- entries that are hostile, and classes that change -------------------------------------------

GOOD: Any = {"!pydantic": [f"{__name__}:Detail", {"text": "a", "number": 1}, {}, ["text"], None]}


def write(plain: Any) -> bytes:
    return b"\x01" + msgspec.msgpack.encode(plain)


def changed(at: int, to: Any) -> bytes:
    inner = list(GOOD["!pydantic"])
    inner[at] = to
    return write({"!pydantic": inner})


HOSTILE: dict[str, bytes] = {
    "a tag among the fields": changed(1, {"text": {"!tuple": [1]}, "number": 1}),
    "an unknown tag": changed(1, {"text": {"!none": 1}, "number": 1}),
    "a tag for the fields": changed(1, {"!dict": [["text", "a"], ["number", 1]]}),
    "a field too many": changed(1, {"text": "a", "number": 1, "more": 2}),
    "a field too few": changed(1, {"text": "a"}),
    "no fields": changed(1, None),
    "a number among the names": changed(3, ["text", 1]),
    "a tagged name": changed(3, [{"!str": "dGV4dA=="}]),
    "no names": changed(3, None),
    "a tag for the extra": changed(2, {"!tuple": [1]}),
    "an extra": changed(2, {"more": 1}),
    "an extra that is a list": changed(2, []),
    "private attributes": changed(4, {"_more": 1}),
    "another class": changed(0, f"{__name__}:Frozen"),
    "a class that is none": changed(0, f"{__name__}:HOSTILE"),
    "a class that is absent": changed(0, f"{__name__}:Absent"),
    "a class that is no model": changed(0, "kinds:Point"),
    "a list of numbers and a tag": changed(1, {"text": [1.5] * 20 + [{"!tuple": []}], "number": 1}),
    "a moment": changed(1, {"text": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "number": 1}),
    "a pattern": changed(1, {"text": {"!pattern": ["a+", 0]}, "number": 1}),
    "a small float": write(GOOD).replace(b"number\x01", b"number\xca\x3f\x80\x00\x00"),
    "a long head": write(GOOD).replace(b"\x82\xa4text", b"\xde\x00\x02\xa4text"),
    "one field twice": write(GOOD).replace(b"\x82\xa4text", b"\x83\xa4text\x01\xa4text"),
    "bytes behind it": write(GOOD) + b"\xc0",
    "cut off": write(GOOD)[:-3],
    "cut off in the head": write(GOOD)[:13],
    "cut off in the name": write(GOOD)[:20],
    "no text": write(GOOD).replace(b"\xa1a", b"\xa1\xff"),
}


def outcome(data: bytes) -> Any:
    try:
        return state(codec.decode(Kind.VALUE, data))
    except (CorruptEntryError, MissingTypeError) as error:
        return type(error)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_mould_takes_nothing_that_is_not_taken_in_general(name: str) -> None:
    general = outcome(HOSTILE[name])
    forget()
    for _ in range(TIMES):
        codec.decode(Kind.VALUE, write(GOOD))
    assert has_mould()
    assert [outcome(HOSTILE[name]) for _ in range(TIMES)] == [general] * TIMES


MODULE = """
import dataclasses
import pydantic

class Inner(pydantic.BaseModel):
    a: int = 1
{more}
class Outer(pydantic.BaseModel):
    inner: Inner

@dataclasses.dataclass
class Data:
    a: int = 1
{more}
"""


def define(monkeypatch: pytest.MonkeyPatch, more: str = "") -> Any:
    module = types.ModuleType("moulded")
    monkeypatch.setitem(sys.modules, "moulded", module)
    exec(MODULE.format(more=more), vars(module))
    return module


def makers(module: Any) -> list[Any]:
    return [module.Outer(inner=module.Inner()), module.Data(), [module.Inner()]]


@pytest.mark.parametrize("which", range(3), ids=["model", "dataclass", "model in a list"])
def test_a_class_that_was_made_anew_is_the_one_that_is_built(
    which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = makers(define(monkeypatch))[which]
    stored = codec.encode(old)
    for _ in range(TIMES):
        codec.decode(*stored)
    new = makers(define(monkeypatch))[which]
    for _ in range(TIMES):
        assert state(codec.decode(*stored)) == state(new) or codec.decode(*stored) == new


@pytest.mark.parametrize("which", range(3), ids=["model", "dataclass", "model in a list"])
def test_a_class_that_has_gained_a_field_gives_its_default(
    which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = codec.encode(makers(define(monkeypatch))[which])
    for _ in range(TIMES):
        codec.decode(*stored)
    new = makers(define(monkeypatch, "    b: str = 'new'"))[which]
    for _ in range(TIMES):
        assert codec.decode(*stored) == new


@pytest.mark.parametrize("which", range(3), ids=["model", "dataclass", "model in a list"])
@pytest.mark.parametrize("gone", ["class", "module"])
def test_a_class_that_is_gone_is_missing(
    gone: str, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = define(monkeypatch)
    stored = codec.encode(makers(module)[which])
    for _ in range(TIMES):
        codec.decode(*stored)
    if gone == "class":
        del module.Inner, module.Data
    else:
        monkeypatch.delitem(sys.modules, "moulded")
    for _ in range(TIMES):
        with pytest.raises(MissingTypeError, match="import moulded before the call"):
            codec.decode(*stored)


def test_a_field_that_a_class_was_given_in_place_gives_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = codec.encode(Answer(id="a", detail=Detail(text="b")))
    for _ in range(TIMES):
        codec.decode(*stored)
    field = pydantic.fields.FieldInfo(annotation=int, default=5)
    monkeypatch.setitem(vars(Detail)["__pydantic_fields__"], "gained", field)
    assert [vars(codec.decode(*stored).detail).get("gained") for _ in range(TIMES)] == [5] * TIMES


def test_a_class_is_that_of_the_program_once_it_is_called_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = define(monkeypatch)
    stored = codec.encode(module.Inner())
    for _ in range(TIMES):
        codec.decode(*stored)
    main = types.ModuleType("__main__")
    exec(MODULE.format(more=""), vars(main))
    main.__file__ = "moulded.py"
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert [type(codec.decode(*stored)) for _ in range(TIMES)] == [main.Inner] * TIMES
    monkeypatch.undo()
    define(monkeypatch)
    with contextlib.suppress(MissingTypeError):
        assert type(codec.decode(*stored)) is not main.Inner


class TestNested:
    class Model(pydantic.BaseModel):
        a: int = 1

    def test_a_class_inside_another_is_found_again(self) -> None:
        stored = codec.encode(self.Model())
        assert [codec.decode(*stored) for _ in range(TIMES)] == [self.Model()] * TIMES
