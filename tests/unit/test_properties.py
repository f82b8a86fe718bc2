"""What holds for every value: keys tell apart, the codec gives back, decoding is total."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import re
from collections import Counter, defaultdict, deque
from types import MappingProxyType
from typing import Any

import kinds
import msgspec
import pydantic
from examples_tried import many
from hypothesis import given, settings, strategies as st
from kinds import same

from cachewrap.entry import Facts, Kind
from cachewrap.errors import CorruptEntryError, MissingTypeError
from cachewrap.format import codec
from cachewrap.format.envelope import seal, sealed, unseal
from cachewrap.request.canonical import canonical, canonical_json
from cachewrap.request.key import encode, key_of, salted
from cachewrap.request.values import are_plain, is_plain

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["!tuple", "!dict", "!int", "!str", "!bytes"]
)

HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    ANY_TEXT,
    st.binary(max_size=8),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.complex_numbers(allow_nan=False),
    st.sampled_from(list(kinds.Colour) + list(kinds.Shade) + list(kinds.Level)),
    st.builds(kinds.Frozen, st.integers()),
    st.ip_addresses(),
    st.builds(lambda one: ipaddress.ip_network((one, 8), strict=False), st.ip_addresses()),
    st.builds(lambda one: ipaddress.ip_interface((one, 9)), st.ip_addresses()),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.builds(lambda text: re.compile(re.escape(text)), ANY_TEXT),
    st.builds(lambda data: re.compile(re.escape(data), re.DOTALL), st.binary(max_size=8)),
    st.builds(kinds.Name, ANY_TEXT).map(lambda made: kinds.noted(made, given="a")),
    st.builds(kinds.Kilos, st.floats(allow_nan=False)),
)

HASHABLES = st.recursive(
    HASHABLE, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.dictionaries(HASHABLES, inner, max_size=3),
        st.dictionaries(ANY_TEXT, inner, max_size=3),
        st.sets(HASHABLES, max_size=3),
        st.builds(kinds.Point, inner, inner),
        st.builds(kinds.Spot, inner, inner),
        st.builds(kinds.City, inner, inner),
        st.builds(lambda value: kinds.Model.model_construct(extra=value), inner),
        st.builds(lambda value: kinds.Box[Any].model_construct(content=value), inner),
        st.builds(
            lambda items, more: deque(items, more and len(items) + more),
            st.lists(inner, max_size=3),
            st.none() | st.integers(1, 3),
        ),
        st.builds(
            lambda pairs: defaultdict(list, pairs), st.dictionaries(HASHABLES, inner, max_size=3)
        ),
        st.builds(Counter, st.dictionaries(HASHABLES, st.integers(), max_size=3)),
        st.builds(MappingProxyType, st.dictionaries(HASHABLES, inner, max_size=3)),
        st.builds(kinds.Labels, st.lists(inner, max_size=3)),
        st.builds(kinds.Crate, inner),
    )


# Pydantic 2.10 has no hash of them.
URLS = st.builds(lambda name: pydantic.HttpUrl(f"http://a.b/{name}"), st.integers())

VALUES = st.recursive(
    HASHABLES | st.floats() | st.binary().map(bytearray) | URLS, _containers, max_leaves=8
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)


def key(value: object) -> str:
    return key_of(salted(), encode(canonical(value)))


def shuffled(value: Any) -> Any:
    """An equal value whose dictionaries and sets were filled in another order."""
    if type(value) is dict:
        return {k: shuffled(v) for k, v in reversed(value.items())}
    if type(value) in (list, tuple):
        return type(value)(shuffled(item) for item in value)
    if type(value) in (set, frozenset):
        return type(value)(sorted(value, key=lambda item: repr(item), reverse=True))
    return value


@given(VALUES, VALUES)
@settings(max_examples=many(400), deadline=None)
def test_two_values_share_a_key_only_if_they_are_the_same(one: Any, other: Any) -> None:
    if key(one) == key(other):
        assert same(one, other) or one == other


@given(VALUES)
@settings(max_examples=many(300), deadline=None)
def test_the_order_of_dictionaries_and_sets_makes_no_difference(value: Any) -> None:
    assert key(shuffled(value)) == key(value)


@given(VALUES)
@settings(max_examples=many(300), deadline=None)
def test_a_value_in_a_container_has_another_key(value: Any) -> None:
    assert len({key(value), key([value]), key((value,)), key({"x": value})}) == 4


@given(VALUES)
@settings(max_examples=many(400), deadline=None)
def test_the_codec_gives_back_what_it_was_given(value: Any) -> None:
    back = codec.decode(*codec.encode(value))
    assert same(back, value)
    assert key(back) == key(value)


@given(VALUES | JSON, VALUES | JSON)
@settings(max_examples=many(400), deadline=None)
def test_arguments_are_plain_if_each_of_them_is(one: Any, other: Any) -> None:
    arguments = {"one": one, "more": [other, {"a": one, "b": other}]}
    assert are_plain(arguments) == is_plain(arguments)
    assert are_plain({"one": one}) == is_plain(one)


@given(JSON)
@settings(max_examples=many(300), deadline=None)
def test_a_json_body_has_one_key_however_its_numbers_are_written(body: Any) -> None:
    def rewritten(value: Any) -> Any:
        if type(value) is int and abs(value) <= 2**53:
            return float(value)
        if type(value) is list:
            return tuple(rewritten(item) for item in value)
        if type(value) is dict:
            return {k: rewritten(v) for k, v in reversed(value.items())}
        return value

    assert encode(canonical_json(rewritten(body))) == encode(canonical_json(body))


def decode_quietly(kind: Kind, data: bytes) -> None:
    with contextlib.suppress(CorruptEntryError, MissingTypeError):
        codec.decode(kind, data)


@given(st.sampled_from(Kind), st.sampled_from([b"", b"\x00", b"\x01"]), st.binary(max_size=200))
@settings(max_examples=many(600), deadline=None)
def test_decoding_any_bytes_raises_nothing_else(kind: Kind, mark: bytes, data: bytes) -> None:
    decode_quietly(kind, mark + data)


TAGS = st.sampled_from(
    "!int !float !str !bytes !bytearray !complex !date !datetime !time !timedelta !uuid !decimal "
    "!fraction !path !tuple !set !frozenset !dict !ordered !namespace !enum !namedtuple !dataclass "
    "!pydantic !array !number !range !pattern !zone !ip !url !deque !defaultdict !mappingproxy "
    "!attrs !struct !subclass !unset !nonsense".split()
)
NAMES = st.sampled_from(
    "kinds:Point kinds:Model kinds:Box kinds:Colour kinds:Right kinds:City kinds:Slotted "
    "kinds:Ticket kinds:Cost kinds:Labels kinds:Name kinds:Row pydantic.networks:HttpUrl "
    "IPv4Address 1.2.3.4 http://a.b/ builtins:dict subprocess:Popen os:system "
    "nowhere:Thing kinds:RAN :".split()
)
HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
    | st.binary(max_size=8) | st.text(st.characters(codec="utf-8"), max_size=8) | NAMES | TAGS,
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(TAGS, inner, min_size=1, max_size=1)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(HOSTILE)
@settings(max_examples=many(1000), deadline=None)
def test_decoding_any_tagged_form_raises_nothing_else(plain: Any) -> None:
    decode_quietly(Kind.VALUE, b"\x01" + msgspec.msgpack.encode(plain))


@given(
    st.binary(max_size=300),
    st.floats(0, 1e6),
    st.floats(0, 1e10),
    st.floats(0, 1e10),
    st.integers(0, 2**40),
)
def test_what_is_stored_is_known_as_it_will_be_read(
    answer: bytes, seconds: float, created: float, expires: float, tokens: int
) -> None:
    facts = Facts(created, seconds, expires, "m:f", "gpt", tokens, tokens + 1)
    raw, entry = sealed(Kind.VALUE, answer, b"request", facts)
    read = unseal(raw)
    for name in ("kind", "answer", "created", "seconds", "expires", "tokens_in", "tokens_out"):
        assert getattr(entry, name) == getattr(read, name)
    assert entry.read_record() == read.read_record()


@given(st.binary(max_size=300), st.integers(0, 299), st.integers(1, 255))
@settings(max_examples=many(500), deadline=None)
def test_opening_any_bytes_raises_nothing_else(data: bytes, position: int, flip: int) -> None:
    raw = bytearray(seal(Kind.VALUE, b"\x00" + data, data, Facts(1.0, 1.0)))
    raw[position % len(raw)] ^= flip
    for candidate in (data, b"cw\x00\x01" + data, bytes(raw)):
        try:
            entry = unseal(candidate)
            entry.read_record()
        except CorruptEntryError:
            continue
        decode_quietly(entry.kind, entry.answer)
