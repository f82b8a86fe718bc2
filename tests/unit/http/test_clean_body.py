"""Bodies that are asked again and again are told by their bytes, and keep their keys."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.http.request import without_secrets
from cachewrap.request import states
from cachewrap.request.canonical import canonical_body
from cachewrap.request.key import encode, hashed, key_of, salted
from cachewrap.sdk.front import keywords
from cachewrap.sdk.front.keywords import clean_body

SIGNED = "https://files.test/a.png?X-Amz-Signature=0123456789abcdef&X-Amz-Expires=60"
PREFIX = salted()


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    states.forget()
    yield
    states.forget()


def said(number: int) -> dict[str, Any]:
    return {"role": ("user", "assistant")[number % 2], "content": f"{number} " * 500}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [said(number) for number in range(12)], **more}


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    found = body()
    change(found)
    return found


BODIES: dict[str, dict[str, Any]] = {
    "as it is": body(),
    "a turn more": changed(lambda one: one["messages"].append(said(12))),
    "shorter": changed(lambda one: one["messages"].pop()),
    "edited": changed(lambda one: one["messages"][5].update(content="x")),
    "a number": body(seed=1),
    "a bool": body(seed=True),
    "a fraction": body(seed=1.0),
    "another order": dict(reversed(body().items())),
    "a name": body(user="someone"),
    "a credential": body(api_key="sk-0123456789abcdef0123"),
    "steering": body(prompt_cache_key="k"),
    "tools": body(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
    "an address": changed(
        lambda one: one["messages"].append(
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": SIGNED}}]}
        )
    ),
    "a call": changed(
        lambda one: one["messages"].append(
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}
        )
    ),
    "a surrogate": changed(
        lambda one: one["messages"].append({"role": "user", "content": "\ud800"})
    ),
    "a large number": changed(lambda one: one["messages"].append({"role": "user", "n": 2**70})),
}


def key(clean: Any) -> str:
    return hashed(PREFIX, {"method": "POST", "body": clean})[0]


def key_plain(one: dict[str, Any], unkeyed: frozenset[str] = frozenset()) -> str:
    clean = canonical_body(without_secrets(one), unkeyed=unkeyed)
    return key_of(PREFIX, encode({"method": "POST", "body": clean}))


@pytest.mark.parametrize("before", BODIES)
def test_a_key_is_the_same_however_often_it_was_asked_for(before: str) -> None:
    keys = {name: key_plain(one) for name, one in BODIES.items()}
    for name in (before, *BODIES):
        for _ in range(4):
            assert key(clean_body(copy.deepcopy(BODIES[name]))) == keys[name]
    assert len({*keys.values()}) > len(keys) - 5


def repeated(one: dict[str, Any], unkeyed: frozenset[str] = frozenset()) -> Any:
    for _ in range(4):
        clean = clean_body(one, unkeyed)
        key(clean)
    return clean


def test_a_body_that_is_asked_again_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    repeated(BODIES["as it is"])
    monkeypatch.setattr(keywords, "plain_body", None)
    assert key(clean_body(body())) == key_plain(body())


def test_a_list_that_was_changed_since_is_another_body() -> None:
    one = body()
    repeated(one)
    one["messages"][3]["content"] = "other"
    assert key(clean_body(one)) == key_plain(one) != key_plain(body())
    assert encode(repeated(one)) == encode(canonical_body(one))


def test_nothing_is_kept_when_a_cache_has_closed() -> None:
    cache = Cache.memory()
    with cache:
        repeated(body())
    assert states.packed._kept == states._kept == ()


def test_what_is_given_is_the_callers_own() -> None:
    repeated(body())["more"] = 1
    assert "more" not in clean_body(body())


def test_names_that_do_not_count_are_of_their_own_cache() -> None:
    one, no_seed = body(seed=1), frozenset({"seed"})
    assert key(repeated(one)) == key_plain(one)
    assert key(repeated(one, no_seed)) == key_plain(one, no_seed) == key_plain(body())
    assert key(repeated(one)) == key_plain(one)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(tuple, id="a tuple"),
        pytest.param(lambda messages: [type("M", (dict,), {})(messages[0]), *messages[1:]], id="M"),
    ],
)
def test_what_is_not_plain_is_never_taken_for_what_is(other: Callable[[Any], Any]) -> None:
    repeated(body())
    assert clean_body(changed(lambda one: one.update(messages=other(one["messages"])))) is None


def test_a_body_with_a_credential_in_its_settings_is_not_kept() -> None:
    repeated(BODIES["a credential"])
    assert states.packed._kept == ()


def test_few_are_kept_and_none_that_is_very_long() -> None:
    for number in range(3 * states.MOST):
        repeated(body(seed=number))
    assert len(states.packed._kept) == states.MOST
    long = changed(lambda one: one["messages"].append({"role": "user", "content": "x" * 600_000}))
    repeated(long)
    assert all(len(told) * states.MOST <= states.ROOM // 2 for _, told, _ in states.packed._kept)


def test_conversations_of_which_each_is_new_are_not_looked_for() -> None:
    for count in range(8, 12):
        key(clean_body(body(messages=[said(number) for number in range(count)])))
        assert not states.packed.wanted
    key(clean_body(body(messages=[said(number) for number in range(8)])))
    assert states.packed.wanted
