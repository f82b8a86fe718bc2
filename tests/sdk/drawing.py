"""Values of JSON drawn by the types that an SDK declares, nearly as an API would send them."""

from __future__ import annotations

import copy
import json
import random
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

import pydantic

from cachewrap.format.plans import Models
from sdk.openai.asking import anatomy

ODD: list[Any] = [
    None,
    True,
    0,
    1.0,
    2**53 + 1,
    2**70,
    "7",
    "",
    "\ud800",
    [],
    [None],
    [1, "a"],
    [[]],
    {},
    {"type": "function"},
    {"type": "brand_new", "id": "x"},
    {"type": None},
    {"type": ["a"]},
    {"_fields_set": ["x"], "a": 1},
    [{"type": "new", "index": "0", "finish_reason": "unheard of"}],
]
MORE = ["extra", "model_extra"]
ODD_MORE = [*MORE, "id", "type", "_fields_set"]


class Drawing:
    """A source of values.

    Args:
        seed: for the same values again.
        odd: how often, of one, a value is none of its type.
    """

    def __init__(self, seed: int, odd: float) -> None:
        self._random = random.Random(seed)
        self._odd = odd

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def value(self, type_: Any, depth: int = 0) -> Any:
        """A value of a type, or another."""
        if self._chance(self._odd):
            return copy.deepcopy(self._random.choice(ODD))
        while hasattr(type_, "__metadata__"):
            type_ = get_args(type_)[0]
        origin, inner = get_origin(type_), get_args(type_)
        if origin in (typing.Union, types.UnionType):
            if type(None) in inner and (depth > 5 or self._chance(0.3)):
                return None
            return self.value(self._random.choice(inner), depth)
        if origin is Literal:
            return self._random.choice(inner)
        if origin is list:
            number = self._random.choice((0, 1, 1, 2)) if depth < 6 else 0
            return [self.value(inner[0], depth + 1) for _ in range(number)]
        if origin is dict:
            return {name: self.value(inner[1], depth + 1) for name in ("a", "type")}
        if isinstance(type_, type) and issubclass(type_, pydantic.BaseModel):
            return self._members(type_, depth)
        return self._random.choice(SCALARS.get(type_, ["2020-01-01", 5, None]))

    def _members(self, cls: type[pydantic.BaseModel], depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if self._chance(self._odd / 3 if field.is_required() else 0.5 + depth / 10):
                continue
            if field.alias is not None and self._chance(self._odd):
                members[name] = "under its other name"
            members[field.alias or name] = self.value(field.annotation, depth + 1)
        if self._chance(0.15):
            members[self._random.choice(ODD_MORE if self._odd else MORE)] = self._random.choice(
                [1, None, {"a": 1}]
            )
        names = list(members)
        if self._chance(0.3):
            self._random.shuffle(names)
        return {name: members[name] for name in names}


SCALARS: dict[Any, list[Any]] = {
    str: ["", "a", "type"],
    bool: [True, False],
    int: [0, 1, -5, 2**70],
    float: [0.5, 1, -2.0],
    type(None): [None],
    object: [None, 1, "a", {"x": [1]}, [1]],
}


def drawn(type_: Any, count: int) -> Iterable[dict[str, Any]]:
    """Dictionaries for a type: right ones, and ones in which something is odd."""
    for seed in range(count):
        value = Drawing(seed, (0, 0.02, 0.1)[seed % 3]).value(type_)
        if isinstance(value, dict):
            yield value


def outcome(make: Callable[[Any], Any], data: str) -> Any:
    """What is made of JSON, or the class of the error."""
    try:
        made = make(json.loads(data))
        return anatomy(made), repr(made)
    except Exception as error:
        return type(error)


def differing(module: Any, type_: Any, values: Iterable[dict[str, Any]]) -> list[str]:
    """The values, as JSON, of which a plan makes something else than the SDK does."""
    build = Models(module).builder(type_)
    assert build is not None
    texts = map(json.dumps, values)

    def construct(value: Any) -> Any:
        return module.construct_type(type_=type_, value=value)

    return [data for data in texts if outcome(build, data) != outcome(construct, data)]


def left_to_the_sdk(module: Any, type_: Any, values: Iterable[dict[str, Any]]) -> list[str]:
    """The values, as JSON, in which something is left to the SDK or to pydantic.

    The SDK must not know the type's plan yet.
    """
    left: list[str] = []
    asked = 0

    class Watched(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(module, name)

        @staticmethod
        def construct_type(*, value: object, type_: Any, metadata: Any = None) -> object:
            nonlocal asked
            asked += 1
            return module.construct_type(value=value, type_=type_, metadata=metadata)

    build = Models(Watched(module.__name__)).builder(type_)
    assert build is not None
    adapter = pydantic.TypeAdapter
    for value in values:
        asked = 0

        def watched(type_: Any) -> Any:
            nonlocal asked
            asked += 1
            return adapter(type_)

        pydantic.TypeAdapter = watched  # type: ignore[misc, assignment]
        try:
            build(value)
        finally:
            pydantic.TypeAdapter = adapter  # type: ignore[misc]
        if asked:
            left.append(json.dumps(value))
    return left
