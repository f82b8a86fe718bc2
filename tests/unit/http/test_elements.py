"""Lists of embeddings and moderations: what their elements are, and how answers are told apart."""

from __future__ import annotations

import json
from decimal import Decimal, Inexact, localcontext
from typing import Any

import pytest
from examples_tried import many
from hypothesis import given, settings, strategies as st

from cachewrap.http.elements import (
    Listed,
    form_of,
    listed,
    put_together,
    read_element,
    taken_apart,
)

EMBEDDINGS: Any = form_of("embeddings")
MODERATIONS: Any = form_of("moderations")


def asked(value: Any, path: str = "embeddings", **more: Any) -> Listed | None:
    return listed(
        path, {"method": "POST", "url": "u", "body": {"model": "m", "input": value, **more}}
    )


@pytest.mark.parametrize(
    ("value", "elements", "places", "alone"),
    [
        ("a", ["a"], [0], True),
        (["a"], ["a"], [0], False),
        (["b", "a", "b"], ["b", "a"], [0, 1, 0], False),
        (["ä", "a\u0308", "世界🌍"], ["ä", "a\u0308", "世界🌍"], [0, 1, 2], False),
        ([1, 2, 3], [[1, 2, 3]], [0], True),
        ([[1, 2], [3], [1, 2]], [[1, 2], [3]], [0, 1, 0], False),
        ([[1], [1, 1]], [[1], [1, 1]], [0, 1], False),
    ],
)
def test_the_elements_of_a_request_for_embeddings(
    value: Any, elements: list[Any], places: list[int], alone: bool
) -> None:
    found = asked(value)
    assert found is not None
    assert (found.elements, found.places, found.alone) == (elements, places, alone)


@pytest.mark.parametrize(
    "value",
    [
        *([], [[]], [[], [1]], ["a", [1]], ["a", 1], [1, "a"], [1.5], [True], [[True]], [[[1]]]),
        *(None, 3, {"text": "a"}, [{"text": "a"}], [None], ["a", None], [{"!str": "a"}]),
    ],
)
def test_what_is_no_list_of_elements_is_left_whole(value: Any) -> None:
    assert asked(value) is None


@pytest.mark.parametrize(
    ("path", "value", "elements"),
    [
        ("moderations", "a", ["a"]),
        ("v1/moderations", ["a", "b", "a"], ["a", "b"]),
        ("moderations", [{"type": "text", "text": "a"}], None),
        ("moderations", ["a", {"type": "text", "text": "a"}], None),
        ("moderations", [1, 2], None),
        ("v1/chat/moderations", ["a"], None),
        ("openai/deployments/d/embeddings", ["a"], ["a"]),
        ("openai/v1/embeddings", ["a"], ["a"]),
        ("responses", ["a"], None),
        ("multimodalembeddings", ["a"], None),
    ],
)
def test_which_endpoints_have_elements(path: str, value: Any, elements: Any) -> None:
    found = asked(value, path)
    assert (found and found.elements) == elements


@pytest.mark.parametrize(
    "more", [{"late_chunking": True}, {"late_chunking": False}, {"unheard_of": 1}]
)
def test_a_list_with_a_field_that_may_bind_its_elements_is_left_whole(more: Any) -> None:
    assert asked(["a", "b"], **more) is None
    assert asked(["a", "b"], dimensions=2, encoding_format="base64", user="u") is not None


def test_a_stream_and_a_body_of_another_kind_are_left_whole() -> None:
    body = {"model": "m", "input": ["a"]}
    assert listed("embeddings", {"body": body, "stream": True}) is None
    assert listed("embeddings", {"body": [body]}) is None
    assert listed("embeddings", {}) is None


def test_the_inputs_are_the_callers_own() -> None:
    given: Any = ("b", "a", "b")
    found = asked(list(given))
    assert found is not None
    assert found.inputs(given, [1]) == ["a"]
    assert found.inputs(given, [1, 0]) == ["a", "b"]
    alone = asked("a")
    assert alone is not None
    assert alone.inputs("a", [0]) == ["a"]


def test_all_that_a_request_asks_for_is_in_its_order_and_once() -> None:
    plain, twice = asked(["a", "b"]), asked(["a", "a"])
    assert plain is not None
    assert twice is not None
    assert plain.is_all([0, 1])
    assert not plain.is_all([1, 0])
    assert not plain.is_all([0])
    assert not twice.is_all([0])


@pytest.mark.parametrize(
    ("value", "sizes"),
    [
        ([str(n) for n in range(5000)], [2048, 2048, 904]),
        (["x" * 300_000] * 3, [1]),
        ([f"{n}" + "x" * 299_999 for n in range(7)], [3, 3, 1]),
        ([[n] * 8191 for n in range(40)], [36, 4]),
        ([[1] * 400_000, [2]], [1, 1]),
    ],
)
def test_a_long_list_is_asked_for_in_parts(value: Any, sizes: list[int]) -> None:
    found = asked(value)
    assert found is not None
    groups = found.groups(range(len(found.elements)))
    assert [len(group) for group in groups] == sizes
    assert [i for group in groups for i in group] == list(range(len(found.elements)))


def answer(vectors: list[Any], **more: Any) -> bytes:
    data = [
        {"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    whole = {"object": "list", "data": data, "model": "m-1", "usage": usage, **more}
    return json.dumps(whole).encode()


def apart(body: bytes, elements: list[Any], form: Any = EMBEDDINGS) -> list[bytes]:
    """The answer of each element, as it is stored."""
    found = taken_apart(form, body, elements)
    assert found is not None
    return [put_together(form, [one], one.head) for one in found]


def together(bodies: list[bytes], places: list[int], newest: int, form: Any = EMBEDDINGS) -> Any:
    elements = [read_element(form, body) for body in bodies]
    whole = put_together(form, [elements[at] for at in places], elements[newest].head)
    return json.loads(whole, parse_float=Decimal)


def test_an_answer_is_told_apart_by_index() -> None:
    whole = json.loads(answer([[1.0], "AACA", [3]]))
    whole["data"] = [whole["data"][i] for i in (2, 0, 1)]
    found = [json.loads(one) for one in apart(json.dumps(whole).encode(), ["a", "b", "cc"])]
    assert [one["data"][0]["embedding"] for one in found] == [[1.0], "AACA", [3]]
    assert {one["data"][0]["index"] for one in found} == {0}
    assert [one["usage"]["prompt_tokens"] for one in found] == [3, 2, 5]
    assert {one["model"] for one in found} == {"m-1"}


def test_the_bytes_of_a_vector_stay_as_they_came() -> None:
    vector = b"[ 1.0,-0.10000000149011612 ,\n1e-07, 123456789012345678901234567890]"
    body = answer(["x"]).replace(b'"x"', vector)
    [one] = apart(body, ["a"])
    assert vector in one
    element = read_element(EMBEDDINGS, one)
    assert put_together(EMBEDDINGS, [element, element], element.head).count(vector) == 2


def test_what_was_put_together_is_the_same_again() -> None:
    for one in apart(answer([[1], [2]], usage={"cost": 0.1, "n": 3}), ["a", "b"]):
        element = read_element(EMBEDDINGS, one)
        assert put_together(EMBEDDINGS, [element], element.head) == one


BROKEN = {
    "an index is missing": lambda w: w["data"][1].pop("index"),
    "an index is there twice": lambda w: w["data"][1].update(index=0),
    "an index is too high": lambda w: w["data"][1].update(index=2),
    "an index is below zero": lambda w: w["data"][1].update(index=-1),
    "an index is no number": lambda w: w["data"][1].update(index="1"),
    "an index is null": lambda w: w["data"][1].update(index=None),
    "there is one too few": lambda w: w["data"].pop(),
    "there is one too many": lambda w: w["data"].append({**w["data"][0], "index": 2}),
    "there is none": lambda w: w.pop("data"),
    "they are no list": lambda w: w.update(data={}),
    "one is no object": lambda w: w.update(data=[[1], [2]]),
    "something else is a list": lambda w: w.update(warnings=["a", "b"]),
    "something else is an object": lambda w: w.update(meta={"billed": 1}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_an_answer_of_another_form_is_not_told_apart(fault: str) -> None:
    whole = json.loads(answer([[1], [2]]))
    BROKEN[fault](whole)
    assert taken_apart(EMBEDDINGS, json.dumps(whole).encode(), ["a", "b"]) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"data": [NaN]}', b"\xff", b"[" * 9999]
)
def test_what_is_no_such_json_is_not_told_apart(body: bytes) -> None:
    assert taken_apart(EMBEDDINGS, body, ["a"]) is None
    with pytest.raises(ValueError):
        read_element(EMBEDDINGS, body)


def test_moderations_are_told_apart_by_their_order() -> None:
    results = [{"flagged": True}, {"flagged": False}]
    body = json.dumps({"id": "modr-1", "model": "o", "results": results}).encode()
    found = apart(body, ["a", "b"], MODERATIONS)
    assert [json.loads(one)["results"] for one in found] == [[results[0]], [results[1]]]
    merged = together(found, [1, 0, 1], 0, MODERATIONS)
    assert [one["flagged"] for one in merged["results"]] == [False, True, False]
    assert merged.keys() == {"id", "model", "results"}
    assert taken_apart(MODERATIONS, body, ["a"]) is None


def test_what_is_put_together_is_in_the_order_of_the_list() -> None:
    found = apart(answer([[1], [2]]), ["aaaa", "b"])
    newer = answer([[3]], model="m-2", id="e", usage={"prompt_tokens": 5, "total_tokens": 6})
    merged = together([*found, newer], [2, 0, 1, 0], 2)
    assert [one["embedding"] for one in merged["data"]] == [[3], [1], [2], [1]]
    assert [one["index"] for one in merged["data"]] == [0, 1, 2, 3]
    assert merged["usage"] == {"prompt_tokens": 5 + 8 + 2 + 8, "total_tokens": 6 + 8 + 2 + 8}
    assert (merged["model"], merged["id"]) == ("m-2", "e")


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 7, "total_tokens": 9},
        {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}, "cost": 0.000123},
        {"total_tokens": 2**60, "note": "a", "none": None, "flag": True},
        {"cost": 1e-9, "other": 3.0},
        {"details": [0.5, 1]},
        {},
        None,
    ],
)
def test_what_was_used_is_the_same_after_all(usage: Any) -> None:
    body = answer([[1], [2], [3]], usage=usage)
    merged = together(apart(body, ["a", "bbbb", ""]), [0, 1, 2], 0)
    assert merged["usage"] == json.loads(json.dumps(usage), parse_float=Decimal)
    plain = json.loads(body)
    del plain["usage"]
    without = apart(json.dumps(plain).encode(), ["a", "b", "c"])
    assert all("usage" not in json.loads(one) for one in without)


@pytest.mark.parametrize("cost", ["1e5000", "-1e999999999", "1e99999999999999999999", "1e-9999"])
def test_a_number_beyond_all_counting_costs_nothing(cost: str) -> None:
    body = answer([[1], [2]], usage={"cost": 9, "n": 4}).replace(b"9", cost.encode())
    found = apart(body, ["a", "b"])
    assert max(map(len, found)) < 300
    assert [json.loads(one)["usage"]["n"] for one in found] == [2, 2]


def test_the_programs_own_decimals_do_not_matter() -> None:
    with localcontext(prec=3) as decimals:
        decimals.traps[Inexact] = True
        found = apart(answer([[1], [2]], usage={"cost": 0.123457}), ["a", "b"])
        whole = together(found, [0, 1], 0)
    assert str(whole["usage"]["cost"]) == "0.123457"


@given(st.integers(0, 10**6), st.lists(st.integers(0, 9), min_size=1, max_size=20))
@settings(max_examples=many(200), deadline=None)
def test_the_parts_of_what_was_used_have_its_sum(total: int, lengths: list[int]) -> None:
    elements = ["x" * length for length in lengths]
    body = answer([[1]] * len(lengths), usage={"a": total, "b": total / 1024})
    bodies = apart(body, elements)
    used = [json.loads(one, parse_float=Decimal)["usage"] for one in bodies]
    assert sum(one["a"] for one in used) == total
    assert float(sum(one["b"] for one in used)) == total / 1024
    if whole := sum(lengths):
        for one, length in zip(used, lengths, strict=True):
            assert abs(one["a"] - total * length / whole) < 1
