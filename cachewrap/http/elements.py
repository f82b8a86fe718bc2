"""Elements of a list that one request asks for: embeddings and moderations, and their answers.

What is here has no cache in it. A request is told apart into its elements, an answer into one for
each of them, and such answers are put together to what a whole list is answered. What is not
exactly of a form that is known is left whole: a wrong guess would be a wrong vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import reduce
from json import loads
from typing import Any, Final, TypeAlias

import msgspec

Members: TypeAlias = dict[str, msgspec.Raw]
"""An object of JSON whose values are the bytes that came."""

MOST_INPUTS: Final = 2048
"""Elements that OpenAI takes in one request for embeddings."""

MOST_TOKENS: Final = 300_000
"""Tokens that OpenAI takes in one request for embeddings."""

_BYTES_PER_TOKEN: Final = 3
"""Bytes of text that are a token at least, in most languages: where a list is asked in parts."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of requests for several elements at one endpoint.

    Args:
        results: the member of the answer in which they are.
        indexed: whether each tells its place; else they are in order.
        tokens: whether an element may be a list of tokens.
        fields: the members of a request that mean the same for each element by itself.
        most: elements in one request.
        most_tokens: tokens in one request.
    """

    results: str
    indexed: bool
    tokens: bool
    fields: frozenset[str]
    most: float = float("inf")
    most_tokens: float = float("inf")


# Others may make the answer to one element depend on the rest, as `late_chunking` of Jina does.
_EMBEDDINGS: Final = Form(
    "data",
    True,
    True,
    frozenset(
        """
        dimensions embedding_type encoding_format input input_type metadata modality model
        normalized output_dimension output_dtype task truncate truncate_prompt_tokens truncation
        user
        """.split()
    ),
    MOST_INPUTS,
    MOST_TOKENS,
)
_MODERATIONS: Final = Form("results", False, False, frozenset(("input", "metadata", "model")))


def form_of(path: str) -> Form | None:
    """The form of requests to an endpoint of this path; None where there are no elements."""
    last = path.rpartition("/")[2]
    if last == "embeddings":
        return _EMBEDDINGS
    return _MODERATIONS if last == "moderations" and not path.endswith("chat/moderations") else None


@dataclass(frozen=True, slots=True)
class Listed:
    """The elements that a request asks for.

    Args:
        form: of the request.
        elements: each of them once, as it would be the input by itself.
        places: for each place of the list, which of the elements is there.
        alone: whether the input is the one element itself, rather than a list of elements.
    """

    form: Form
    elements: list[Any]
    places: list[int]
    alone: bool

    def inputs(self, given: Any, wanted: Iterable[int]) -> list[Any]:
        """Some of the elements, as the caller has given them.

        Args:
            given: the input of his request.
            wanted: which of the elements.
        """
        if self.alone:
            return [given for _ in wanted]
        first: dict[int, int] = {}
        for place, element in enumerate(self.places):
            first.setdefault(element, place)
        return [given[first[element]] for element in wanted]

    def is_all(self, wanted: Sequence[int]) -> bool:
        """Whether these elements are all that the request asks for, in its order."""
        return list(wanted) == self.places

    def groups(self, wanted: Iterable[int]) -> list[list[int]]:
        """The elements in as many parts as are asked for in one request each."""
        form, tokens = self.form, 0
        groups: list[list[int]] = [[]]
        for element in wanted:
            more = _tokens(self.elements[element])
            if groups[-1] and (len(groups[-1]) >= form.most or tokens + more > form.most_tokens):
                groups.append([])
                tokens = 0
            groups[-1].append(element)
            tokens += more
        return groups


def listed(path: str, request: Mapping[str, Any]) -> Listed | None:
    """The elements of a canonical request; None for one that is left whole.

    Args:
        path: of the endpoint.
        request: in canonical form.
    """
    form, body = form_of(path), request.get("body")
    if form is None or type(body) is not dict or not body.keys() <= form.fields:
        return None
    if "stream" in request or "files" in request:
        return None
    asked = body.get("input")
    if type(asked) is str or (form.tokens and _are_tokens(asked)):
        return Listed(form, [asked], [0], True)
    if type(asked) is not list or not asked:
        return None
    if all(type(one) is str for one in asked):
        names: list[Any] = asked
    elif form.tokens and all(map(_are_tokens, asked)):
        names = [tuple(one) for one in asked]
    else:
        return None
    numbers: dict[Any, int] = {}
    places = [numbers.setdefault(name, len(numbers)) for name in names]
    elements = [one if type(one) is str else list(one) for one in numbers]
    return Listed(form, elements, places, False)


def _are_tokens(value: Any) -> bool:
    return type(value) is list and bool(value) and all(type(one) is int for one in value)


def _weight(element: Any) -> int:
    """How long an element is: what its part of the tokens is reckoned by."""
    return len(element.encode()) if type(element) is str else len(element)


def _tokens(element: Any) -> int:
    return _weight(element) // (_BYTES_PER_TOKEN if type(element) is str else 1)


# -- answers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Element:
    """One element's answer.

    Args:
        head: what is said of all elements of an answer.
        told: what is said of this one.
        usage: what it has used, if that is told.
    """

    head: Members
    told: Members
    usage: Any

    def summary(self) -> dict[str, Any]:
        """What its answer tells beside the result itself, as plain JSON."""
        plain = {
            name: loads(bytes(value))
            for name, value in self.head.items()
            if bytes(memoryview(value)[:1]) not in (b"[", b"{")
        }
        return plain if self.usage is None else {**plain, "usage": self.usage}


def taken_apart(form: Form, body: bytes, asked: Sequence[Any]) -> list[Element] | None:
    """One answer for each element that was asked for; None for what is not of the form.

    What was used is told of all of them together. It is shared out by their length, in whole
    numbers whose sum is exact.

    Args:
        form: of the request.
        body: what upstream has answered.
        asked: the elements that it was asked for, in this order.
    """
    try:
        head, results, usage = _read(form, body)
        ordered = _in_order(form, results)
    except (ValueError, RecursionError):
        return None
    if len(ordered) != len(asked):
        return None
    used = [usage] if len(asked) == 1 else _shared_out(usage, [_weight(one) for one in asked])
    return [Element(head, told, one) for told, one in zip(ordered, used, strict=True)]


def read_element(form: Form, body: bytes) -> Element:
    """The answer of one element. Raises `ValueError` for anything else."""
    try:
        head, results, usage = _read(form, body)
        [told] = _in_order(form, results)
    except RecursionError as error:
        raise ValueError("an answer that is nested too deeply") from error
    return Element(head, told, usage)


def put_together(form: Form, elements: Sequence[Element], head: Members) -> bytes:
    """What a list is answered.

    Args:
        form: of the request.
        elements: the answer of each element, in the order of the list.
        head: what is said of all of them.
    """
    used = _added_up([element.usage for element in elements])
    return _written(form, head, [element.told for element in elements], used)


_members: Final = msgspec.json.Decoder(Members)
_results: Final = msgspec.json.Decoder(list[Members])
_index: Final = msgspec.json.Decoder(int)


def _read(form: Form, body: bytes) -> tuple[Members, list[Members], Any]:
    """An answer's members, the results among them, and what was used."""
    head: Members = _decoded(_members, body)
    results: list[Members] = _decoded(_results, head.get(form.results, b""))
    for name, value in head.items():
        # What is told of each element outside of the results, nobody could tell apart.
        if name not in (form.results, "usage") and bytes(memoryview(value)[:1]) in (b"[", b"{"):
            raise ValueError(f"{name} is of no known form")
    usage = loads(bytes(head["usage"]), parse_float=_number) if "usage" in head else None
    return head, results, usage


def _decoded(decoder: Any, text: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def _in_order(form: Form, results: list[Members]) -> list[Members]:
    """The results in the order in which they were asked for. Raises `ValueError`."""
    if not form.indexed:
        return results
    ordered: list[Members | None] = [None] * len(results)
    for told in results:
        at: int = _decoded(_index, told.get("index", b""))
        if not 0 <= at < len(results) or ordered[at] is not None:
            raise ValueError(f"the index {at}")
        ordered[at] = told
    return [told for told in ordered if told is not None]


def _written(form: Form, head: Members, results: Sequence[Members], usage: Any) -> bytes:
    if form.indexed:
        results = [
            {**told, "index": msgspec.Raw(b"%d" % place)} for place, told in enumerate(results)
        ]
    members: dict[str, Any] = {**head, form.results: list(results)}
    if "usage" in head:
        members["usage"] = _plain(usage)
    return msgspec.json.encode(members)


# The program's own context of decimals may be anything.
_EXACT: Final = Context(prec=100, traps=[])
_MOST_PLACES: Final = 50
_GREATEST: Final = 30  # digits before the point


def _number(text: str) -> Decimal | float:
    """A number with a fraction; of one beyond all that is counted no more than a float."""
    number = _EXACT.create_decimal(text)
    if not number.is_finite() or number.adjusted() > _GREATEST:
        return float(text)
    if int(number.as_tuple().exponent) < -_MOST_PLACES:
        return _EXACT.quantize(number, Decimal(1).scaleb(-_MOST_PLACES, _EXACT))
    return number


def _plain(value: Any) -> Any:
    if type(value) is dict:
        return {name: _plain(inner) for name, inner in value.items()}
    if type(value) is list:
        return list(map(_plain, value))
    return msgspec.Raw(f"{value:f}".encode()) if type(value) is Decimal else value


_FINER: Final = 6
"""Digits that the parts of a number with a fraction have more than it has."""


def _shared_out(total: Any, weights: Sequence[int]) -> list[Any]:
    """A total in as many parts as there are weights, and in proportion to them."""
    kind = type(total)
    if kind is dict:
        parts = {name: _shared_out(inner, weights) for name, inner in total.items()}
        return [{name: each[i] for name, each in parts.items()} for i in range(len(weights))]
    if kind is int:
        return _by_remainder(total, weights)
    if kind is Decimal:
        places = min(max(0, -int(total.as_tuple().exponent)) + _FINER, _MOST_PLACES)
        units = _by_remainder(int(total.scaleb(places, _EXACT)), weights)
        return [Decimal(unit).scaleb(-places, _EXACT) for unit in units]
    return [total] * len(weights)


def _by_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to the weights, by the method of the largest remainder."""
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    parts = [total * weight // whole for weight in weights]
    rests = [total * weight % whole for weight in weights]
    for i in sorted(range(len(weights)), key=lambda i: -rests[i])[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _added_up(values: Sequence[Any]) -> Any:
    """The sum of what several answers tell, member by member; of what is no number the last."""
    kinds = {type(value) for value in values}
    if kinds == {dict}:
        names = dict.fromkeys(name for value in values for name in value)
        sums = {}
        for name in names:
            sums[name] = _added_up([value[name] for value in values if name in value])
        return sums
    if kinds == {int}:
        return sum(values)
    if kinds <= {int, Decimal}:
        return reduce(_EXACT.add, values, Decimal(0)).normalize(_EXACT)
    return values[-1]
