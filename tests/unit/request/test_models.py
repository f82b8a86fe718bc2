"""Models in a list: each has the form that it has alone, though their class is looked at once."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Generic, TypeVar

import pydantic
import pytest
from kinds import VALUES
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, create_model

from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode

T = TypeVar("T")


class Message(BaseModel):
    role: str = "user"
    content: Any = "hi"


class One(BaseModel):
    text: str


class Open(Message):
    model_config = ConfigDict(extra="allow")


class Private(Message):
    _seen: list[str] = PrivateAttr(default_factory=list)
    _late: str = PrivateAttr()


class Shared(Message):
    unit: ClassVar[str] = "mm"
    tone: ClassVar[list[str]] = ["kind"]


class Mixin:
    size = 3
    _kind = "mixed"


class Mixed(Mixin, Message):
    pass


class Slotted(Message):
    __slots__ = ("more",)


class Keyed(Message):
    def __cache_key__(self) -> Any:
        return ["own", self.role]


class Computed(Message):
    @functools.cached_property
    def length(self) -> int:
        return len(self.content)


class Schema(BaseModel):
    properties: Any
    name: str = "n"


class Box(BaseModel, Generic[T]):
    value: T
    more: str = ""


class Alias(BaseModel):
    kind: str = Field(alias="type")
    other: int = 1


Numbers = RootModel[list[int]]
Tagged: Any = create_model("Tagged", **{"!tuple": (list[int], [1])})  # type: ignore[call-overload]


def slotted(more: str) -> Slotted:
    made = Slotted()
    object.__setattr__(made, "more", more)
    return made


def computed() -> Computed:
    made = Computed(content="abc")
    assert made.length == 3
    return made


def private(*texts: str, late: str | None = None) -> Private:
    made = Private()
    made._seen.extend(texts)
    if late is not None:
        made._late = late
    return made


def bare() -> Message:
    return Message.__new__(Message)


MODELS: dict[str, Any] = {
    "texts": Message(content="x"),
    "none": Message(content=None),
    "a number": Message(content=2**70),
    "a float": Message(content=float("nan")),
    "a surrogate": Message(content="\ud800"),
    "bytes": Message(content=b"x"),
    "parts": Message(content=[{"type": "text"}, ("a", 1)]),
    "a model": Message(content=Message(content="inside")),
    "models": Message(content=[Message(), One(text="a")]),
    "one field": One(text="x"),
    "a schema": Schema(properties={"b": {}, "a": {}}),
    "a schema turned": Schema(properties={"a": {}, "b": {}}),
    "nothing more": Open(),
    "extra": Open(x=1, content_type="a"),
    "private": private("a"),
    "private, empty": private(),
    "private, late": private(late="l"),
    "a class variable": Shared(),
    "a mixin": Mixed(),
    "slots": slotted("a"),
    "slots, empty": Slotted(),
    "its own key": Keyed(),
    "a cached property": computed(),
    "of a parameter": Box[int](value=1),
    "of another parameter": Box[str](value="1"),
    "an alias": Alias(type="t"),
    "a root": Numbers([1, 2]),
    "a name like a tag": Tagged(),
    "constructed": Message.model_construct(role=1, content={1: 2}),
    "constructed with less": Message.model_construct(content="x"),
    "never validated": bare(),
    **{name: value for name, value in VALUES.items() if isinstance(value, pydantic.BaseModel)},
}


def alone(value: Any) -> bytes:
    return encode(canonical(value))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_a_list_has_the_form_that_it_has_alone(name: str) -> None:
    one, other = MODELS[name], Message(content="other")
    form = canonical(one)
    for _ in range(2):
        assert alone([one, other, one]) == encode([form, canonical(other), form])
        assert alone({"a": [one], "b": (one, one)}) == encode(
            {"a": [form], "b": {"!tuple": [form, form]}}
        )


def test_models_of_many_classes_beside_each_other() -> None:
    models = [*MODELS.values(), *reversed(MODELS.values())]
    assert alone(models) == encode([canonical(model) for model in models])


def test_a_class_that_has_changed_is_looked_at_again() -> None:
    class Changing(Message):
        tone: ClassVar[str] = "kind"

    models = [Changing(), Changing()]
    forms = [alone(models)]
    type.__setattr__(Changing, "tone", "cold")
    forms.append(alone(models))
    type.__setattr__(Changing, "__cache_key__", lambda self: "own")
    forms.append(alone(models))
    assert len({*forms}) == 3
    assert forms[2] == encode([canonical(models[0])] * 2)
