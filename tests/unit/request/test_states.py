"""Long requests that go on from others: the same keys, with less hashed, and little kept."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from cachewrap.request import states
from cachewrap.request.canonical import canonical
from cachewrap.request.key import encode, hashed, key_of, make_keyer, salted
from cachewrap.request.states import LEAST, MOST, PATIENCE, ROOM, forget, hexdigest

PREFIX = salted("41")
HEAD = {"function": "m:f"}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    forget()
    yield
    forget()


def said(number: int, size: int = 1500) -> dict[str, Any]:
    return {"role": ("user", "assistant")[number % 2], "content": f"{number} " * (size // 3)}


LONG = [said(number) for number in range(12)]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SHARED: dict[str, list[Any]] = {
    "the same": LONG,
    "another last message": [*LONG[:-1], said(99)],
    "a turn more": [*LONG, said(12), said(13)],
    "many turns more": [*LONG, *(said(number) for number in range(12, 20))],
    "shorter": LONG[:7],
    "one message": LONG[:1],
    "edited in the middle": [*LONG[:5], said(98), *LONG[6:]],
    "edited at the start": [said(97), *LONG[1:]],
    "a message more in the middle": [*LONG[:5], said(96), *LONG[5:]],
    "in other order": LONG[::-1],
    "a call of a tool": [*LONG, {"role": "assistant", "tool_calls": [CALL]}],
    "a tool's answer": [*LONG, {"role": "tool", "tool_call_id": "c", "content": "1"}],
    "parts": [*LONG, {"role": "user", "content": [{"type": "text", "text": "x" * 9000}]}],
    "an empty message": [*LONG, {}],
    "no message": [None],
    "none": [],
    "a surrogate": [*LONG, {"role": "user", "content": "\ud800"}],
    "a surrogate before": [{"role": "user", "content": "\ud800"}, *LONG],
    "a large number": [*LONG, {"role": "user", "content": 2**70}],
    "bytes more than are kept": [*LONG, {"role": "user", "content": "x" * (ROOM + 1)}],
}


def key_plain(messages: Any, **more: Any) -> str:
    return key_of(PREFIX, encode({**HEAD, "arguments": {"messages": messages, **more}}))


def key_hashed(messages: Any, **more: Any) -> str:
    key, whole = hashed(PREFIX, {**HEAD, "arguments": {"messages": messages, **more}})
    assert hashlib.sha256(whole).hexdigest() == key
    return key


KEYER = make_keyer(PREFIX, HEAD, "arguments")


def key_of_keyer(messages: Any, **more: Any) -> str:
    found = KEYER({"messages": messages, **more})
    if found is None:  # it has what only `encode` can mend
        return key_plain(messages, **more)
    assert key_of(PREFIX, b"".join(found[1])) == found[0]
    return found[0]


WAYS = [pytest.param(key_hashed, id="hashed"), pytest.param(key_of_keyer, id="keyer")]


@pytest.mark.parametrize("key", WAYS)
@pytest.mark.parametrize("before", SHARED)
def test_a_key_is_the_same_whatever_was_asked_before(before: str, key: Callable[..., str]) -> None:
    key(SHARED[before], model="m")
    for messages in SHARED.values():
        for _ in range(2):
            assert key(messages, model="m") == key_plain(messages, model="m")


TEXT = st.text(st.characters(), max_size=3).map(lambda text: text * 400)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "tool"])},
    optional={"content": TEXT | st.none(), "tool_calls": st.just([CALL]), "name": st.integers()},
)


@given(st.lists(st.lists(MESSAGE, max_size=8), min_size=2, max_size=6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_keys_of_conversations_that_share_what_they_like(
    parts: list[list[Any]], draw: random.Random
) -> None:
    for _ in range(8):
        messages = [message for part in draw.choices(parts, k=4) for message in part]
        cut = draw.randrange(len(messages) + 1)
        for asked in (messages, messages[:cut], [*messages[:cut], *messages]):
            plain = canonical(asked)
            assert key_hashed(plain) == key_of_keyer(plain) == key_plain(plain)


def test_a_hash_that_began_otherwise_is_another() -> None:
    text = bytearray(b"x" * 2 * LEAST)
    ones = [hashlib.sha256(), hashlib.sha256(b"a"), hashlib.sha256(b"a"), hashlib.sha256(b"ax")]
    for one in ones * 2:
        whole = one.copy()
        whole.update(text)
        assert hexdigest(one, text) == whole.hexdigest()


def test_threads_have_the_keys_that_one_has() -> None:
    asked = [LONG[:count] for count in range(1, 12)] * 20
    random.Random(1).shuffle(asked)
    keys = [key_plain(messages) for messages in asked]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(key_hashed, asked)) == keys
        assert list(pool.map(key_of_keyer, asked)) == keys


# -- how much is hashed --------------------------------------------------------------------------


class Counting:
    """A hash that counts the bytes which it and its copies are given."""

    def __init__(self, digest: Any = None, counts: list[int] | None = None) -> None:
        self.digest = hashlib.sha256() if digest is None else digest
        self.counts: list[int] = [] if counts is None else counts

    def copy(self) -> Counting:
        return Counting(self.digest.copy(), self.counts)

    def update(self, text: Any) -> None:
        self.counts.append(len(text))
        self.digest.update(text)

    def hexdigest(self) -> str:
        return str(self.digest.hexdigest())


def spoken(messages: list[Any]) -> bytearray:
    return bytearray(b"".join(map(msgspec.msgpack.encode, messages)) + len(messages).to_bytes(4))


def bytes_hashed(counting: Counting, messages: list[Any]) -> int:
    counting.counts.clear()
    hexdigest(counting, spoken(messages), messages[-1])
    return sum(counting.counts)


AFTER = [
    pytest.param(LONG, id="again"),
    pytest.param([*LONG, said(12), said(13)], id="a turn more"),
    pytest.param([*LONG[:-1], said(99, 600)], id="another last message"),
]


@pytest.mark.parametrize("messages", AFTER)
def test_what_goes_on_is_hashed_from_there_on(messages: list[Any]) -> None:
    counting = Counting()
    assert bytes_hashed(counting, LONG) == len(spoken(LONG))
    for _ in range(3):
        assert bytes_hashed(counting, messages) < LEAST


def test_a_conversation_that_grows_is_hashed_about_once() -> None:
    counting = Counting()
    grown = [said(number) for number in range(60)]
    hashed = sum(bytes_hashed(counting, grown[:count]) for count in range(1, 61))
    assert hashed < 4 * len(spoken(grown))


def test_the_longest_beginning_is_gone_on_from() -> None:
    counting = Counting()
    for count in (12, 4, 8):
        bytes_hashed(counting, LONG[:count])
    assert bytes_hashed(counting, LONG) < LEAST


# -- how much is kept ----------------------------------------------------------------------------


def kept() -> list[int]:
    return [held[0].size for held in states._kept]


def test_few_requests_are_kept_the_last_ones() -> None:
    for number in range(3 * MOST):
        key_hashed([said(number, LEAST * 2)])
    assert len(kept()) == MOST
    counting = Counting()
    bytes_hashed(counting, LONG)
    for number in range(MOST):
        bytes_hashed(counting, [said(number, LEAST * 2)])
    assert bytes_hashed(counting, LONG) == len(spoken(LONG))


def test_of_many_with_nothing_in_common_few_are_kept_till_one_goes_on() -> None:
    counting = Counting()
    for number in range(10 * PATIENCE):
        bytes_hashed(counting, [said(number, LEAST * 2)])
    before = states._kept
    assert bytes_hashed(counting, [said(-1, LEAST * 2)]) > LEAST
    assert states._kept is before
    hashed = [bytes_hashed(counting, LONG) for _ in range(PATIENCE)]
    assert hashed[-1] < LEAST


def test_few_bytes_are_kept() -> None:
    for size in (ROOM // 2, ROOM // 3, ROOM // 4, ROOM // 2, ROOM - 5000, ROOM + 1, 2 * ROOM):
        hexdigest(hashlib.sha256(), bytearray(size))
        assert sum(kept()) <= ROOM


def test_what_is_too_long_drives_nothing_out() -> None:
    key_hashed(LONG)
    before = kept()
    hexdigest(hashlib.sha256(), bytearray(ROOM + 100))
    assert kept() == before


def test_bytes_are_told_again_and_a_bytearray_can_grow_afterwards() -> None:
    data, grows = b"x" * (4 * LEAST), bytearray(4 * LEAST)
    first = canonical([data, grows])
    assert kept() == [4 * LEAST - 4]
    grows += b"x"
    assert canonical([bytes(bytearray(data)), grows])[0] == first[0]
    assert first[0] == {"!bytes": [len(data), hashlib.sha256(data).hexdigest()]}
    assert canonical([data[1:], grows])[1] != first[1]


def test_short_ones_are_not_kept() -> None:
    key_hashed([said(1, LEAST // 2)])
    key_of_keyer([said(1, LEAST // 2)])
    assert kept() == []
