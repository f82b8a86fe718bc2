"""Models out of bytes by a mould: what msgspec is to find there is said once for each class.

A mould is learned from entries that were decoded in the general way. It gives the same value or
none at all: what it has read is encoded again, and must be the bytes that it was read from, so that
nothing in them is in another order, form or place. The classes are looked for as in the general
way, and nothing of theirs is run.
"""

from __future__ import annotations

from collections.abc import Callable
from keyword import iskeyword
from typing import Any, Final, Literal, Union

import msgspec

from cachewrap.format.classes import Look, ModelFilling, model_filling, place

UNFIT: Final = object()
"""What `cast` gives where no mould fits."""

MODEL: Final = b"\x01\x81\xa9!pydantic\x95"
"""How an answer begins that is a model."""

_HEAD: Final = len(MODEL)
_MOST_KEPT: Final = 256
_MOST_TRIES: Final = 8
_MOST_SHAPES: Final = 64

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_members_of: Final = msgspec.structs.asdict
_new: Final[Any] = object.__new__
_SCALARS: Final = (type(None), bool, int, float, str)  # and no bytes, which msgspec takes for text


class _UnfitError(Exception):
    """A form that is not a mould's."""


class _Shape:
    """The form of the models of one class, as far as entries have shown it.

    Attributes:
        single: the names of fields that have a model.
        many: those that have a list of models.
        lists: those that have a list of what is plain.
        inner: the shapes of these models.
    """

    def __init__(self, spec: str, names: list[str]) -> None:
        self.spec = spec
        self.names = names
        self.single: set[str] = set()
        self.many: set[str] = set()
        self.lists: set[str] = set()
        self.inner: dict[str, _Shape] = {}

    def __len__(self) -> int:
        return 1 + sum(map(len, self.inner.values()))

    def learn(self, members: dict[str, Any]) -> None:
        """Learn what the fields of one more model have. Raises `_UnfitError` where none can."""
        for name, value in members.items():
            kind = type(value)
            if kind is dict:
                self.single.add(name)
                self.inner[name] = _shape_of(value, self.inner.get(name))
            elif kind is list and value and type(value[0]) is dict:
                self.many.add(name)
                for item in value:
                    self.inner[name] = _shape_of(item, self.inner.get(name))
            elif kind is list and set(_SCALARS).issuperset(map(type, value)):
                self.lists.add(name)
            elif kind not in _SCALARS:
                raise _UnfitError
        if not self.many.isdisjoint(self.lists):
            self.lists -= self.many  # an empty list is one of either


def _shape_of(tagged: Any, known: _Shape | None) -> _Shape:
    """The shape of a model's tagged form, with what was known of it before."""
    inner = tagged.get("!pydantic") if type(tagged) is dict else None
    if len(tagged) != 1 or type(inner) is not list or len(inner) != 5:
        raise _UnfitError
    spec, members, extra, _, private = inner
    if type(spec) is not str or type(members) is not dict or extra or private is not None:
        raise _UnfitError
    names = list(members)
    if known is None:
        known = _Shape(spec, names)
    elif known.spec != spec or known.names != names:
        raise _UnfitError
    known.learn(members)
    return known


class Mould:
    """The mould of the models of one class.

    Args:
        shape: of the models.

    Attributes:
        tagged: what msgspec is to find.
    """

    tagged: Any
    __slots__ = ("_cls", "_counts", "_filling", "_inner", "_looks", "tagged")

    def __init__(self, shape: _Shape) -> None:
        known = place(shape.spec)
        self._cls: Any = known.cls
        self._filling: ModelFilling = model_filling(known.cls)
        fields: Any = known.own.get("__pydantic_fields__", {})
        if fields.keys() != set(shape.names) or any(map(iskeyword, shape.names)):
            raise _UnfitError
        moulds = {name: Mould(inner) for name, inner in shape.inner.items()}
        self._inner = tuple((name, moulds[name], name in shape.many) for name in moulds)
        looks = [*known.looks, (known.own, "__pydantic_fields__", fields)]
        self._looks: dict[tuple[int, str], Look] = {(id(one[0]), one[1]): one for one in looks}
        self._counts: dict[str, tuple[Any, int]] = {shape.spec: (fields, len(fields))}
        for mould in moulds.values():
            self._looks |= mould._looks
            self._counts |= mould._counts
        plain: Any = Union[_SCALARS]  # noqa: UP007
        forms = []
        for name in shape.names:
            kinds: list[Any] = [*_SCALARS]
            if name in shape.single:
                kinds.append(moulds[name].tagged)
            if name in shape.many:
                kinds.append(list[moulds[name].tagged])  # type: ignore[misc]
            elif name in shape.lists:
                kinds.append(list[plain])
            forms.append((name, Union[tuple(kinds)]))  # noqa: UP007
        members = msgspec.defstruct("Members", forms, gc=False)
        parts: list[Any] = [
            ("spec", Literal[shape.spec]),
            ("members", members),
            ("extra", dict[str, plain] | None),
            ("given", list[str]),
            ("private", None),
        ]
        model = msgspec.defstruct("Model", parts, array_like=True, gc=False)
        self.tagged = msgspec.defstruct(
            "Tagged", [("model", model)], rename={"model": "!pydantic"}, gc=False
        )

    def holds(self) -> bool:
        """Whether the classes, and their fields, are still those that the mould was made for."""
        for space, name, held in self._looks.values():
            if space.get(name) is not held:
                return False
        for fields, count in self._counts.values():  # noqa: SIM110
            if len(fields) != count:
                return False
        return True

    def fill(self, tagged: Any) -> Any:
        """A model of what msgspec has found. Raises `_UnfitError` where it is to be looked at."""
        model = tagged.model
        extra = model.extra
        if extra:  # it may be a tagged form
            raise _UnfitError
        members = _members_of(model.members)
        for name, mould, many in self._inner:
            value = members[name]
            if type(value) is mould.tagged:
                members[name] = mould.fill(value)
            elif many and type(value) is list:
                members[name] = [mould.fill(item) for item in value]
        filling = self._filling
        given, fields_set = filling.told
        if model.given != given:
            fields_set = filling.tell(model.given)
        instance = _new(self._cls)
        filling.put(instance, members)
        filling.extra(instance, extra)
        filling.set_fields(instance, fields_set.copy())
        filling.private(instance, None)
        return instance


class _Answers:
    """The answers that are a model of one class.

    Attributes:
        tries: how often none of a mould's was there for one.
        made: the mould, with what reads its form; None where there is none, or none any more.
    """

    __slots__ = ("made", "shape", "tries")

    def __init__(self) -> None:
        self.tries = 0
        self.shape: _Shape | None = None
        self.made: tuple[Callable[[bytes], Any], Mould] | None = None


_answers: Final[dict[bytes, _Answers]] = {}
_settled: Any = None


def cast(data: bytes, settled: object) -> Any:
    """The model that an answer is; `UNFIT` for all that is to be decoded in the general way.

    Args:
        data: the answer, which begins with `MODEL`.
        settled: what `classes.settle` gave.
    """
    global _settled
    if settled is not _settled:
        _answers.clear()
        _settled = settled
    answers = _answers.get(_named(data))
    if answers is None or answers.made is None:
        return UNFIT
    body = data[1:]
    read, mould = answers.made
    try:
        tagged = read(body)
        if _encode(tagged) == body and mould.holds():
            return mould.fill(tagged)
    except (_UnfitError, msgspec.MsgspecError, UnicodeError):
        pass
    return UNFIT


def learn(data: bytes) -> None:
    """Learn from an answer that was decoded in the general way, and begins with `MODEL`.

    A mould is made for the second of a class, and with what was learned before it where an answer
    did not fit: so often at most as takes no time to speak of.
    """
    name = _named(data)
    if len(_answers) >= _MOST_KEPT:
        _answers.clear()
    answers = _answers.setdefault(name, _Answers())
    answers.tries += 1
    if answers.tries == 1:
        return
    made, answers.made = None, None
    if answers.tries <= _MOST_TRIES:
        try:
            answers.shape = _shape_of(_decode(data[1:]), answers.shape)
            if len(answers.shape) > _MOST_SHAPES:
                raise _UnfitError
            mould = Mould(answers.shape)
            made = msgspec.msgpack.Decoder(mould.tagged).decode, mould
        except Exception:
            answers.tries = _MOST_TRIES
    answers.made = made


def _named(data: bytes) -> bytes:
    """The name of the class that an answer is a model of; not all of one of 256 bytes and more."""
    head = data[_HEAD]
    if head == _LONG:
        return data[_HEAD + 2 : _HEAD + 2 + data[_HEAD + 1]]
    return data[_HEAD + 1 : _HEAD + 1 + (head & 0x1F)]


_LONG: Final = 0xD9  # begins a text of 32 to 255 bytes
