"""Which encoded requests are looked through for credentials: none less than a slow search finds."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st
from shapes import NAMED, SHAPED, UNSHAPED

from cachewrap.request import screening
from cachewrap.request.key import decode_request, encode, may_tell_secrets, stored
from cachewrap.request.screening import has_name, has_shape
from cachewrap.secrets import BEGINNINGS, hidden

# By their definition, slowly: a shape begins somewhere, a name ends in front of a value.
BEGINS = re.compile(BEGINNINGS.encode()).search
BEHIND = "|".join(f"(?<={end}.)|(?<={end}s.)" for end in screening._ENDINGS)
ENDS = re.compile(rf"""[\x80-\xbf\xd9-\xdf"'\\](?is:(?<=[a-z].)(?:{BEHIND}))""".encode())


def told(text: str) -> dict[str, Any]:
    return {"body": {"messages": [{"role": "user", "content": text}]}}


def was_found(value: dict[str, Any]) -> bool:
    """Whether a slow search would find a credential."""
    request = encode(value)
    plain = decode_request(request)
    return bool(BEGINS(request) or ENDS.search(request)) and hidden(plain) != plain


# The length of a text stands in front of it, and may be a letter.
LENGTHS = [0, 1, 10, 15, 30, 64, 65, 90, 97, 255, 256, 300, 16_706, 70_000]


@pytest.mark.parametrize("shape", SHAPED.values(), ids=SHAPED)
def test_every_shape_is_seen_wherever_it_stands(shape: str) -> None:
    for length in LENGTHS:
        for text in (
            "w" * length + f" {shape}",
            f"{shape} " + "w" * length,
            f"{shape}{'.' * length}",
        ):
            assert has_shape(encode(told(text))) or hidden(text) == text, (length, text[:99])


@pytest.mark.parametrize("shape", SHAPED.values(), ids=SHAPED)
@pytest.mark.parametrize("in_front", ["\n", "\t", '"', "/", "ü", "\u2028", "日", "(", "\\", "."])
def test_a_shape_in_json_that_is_a_text_is_seen(shape: str, in_front: str) -> None:
    for ascii_only in (True, False):
        text = json.dumps({"said": [f"{in_front}{shape}"]}, ensure_ascii=ascii_only)
        for written in (text, text.replace("/", r"\/")):
            assert may_tell_secrets(encode(told(written))) or not was_found(told(written))


def test_letters_that_are_written_as_numbers_are_looked_through() -> None:
    for text in (
        r'{"a": "sk-\u0061bcdefghij1234567890ABCDEFGHIJ"}',
        r'["https://a/b?s\u0069g=abcdefghi"]',
    ):
        assert hidden(text) != text
        assert has_shape(encode(told(text)))


@pytest.mark.parametrize(
    "text",
    [
        "A description of a function.",
        "A task-based, risk-free approach; the task-oriented-dialogue-systems of a desk-top",
        "a basic misunderstanding, and a bearer of some-kind-of-news",
        "Is it so? yes: it is, see https://example.com:8080/a/b?c=d&state=sorted&e=f#g",
        "It's said: 'a thing', \"another\" = a third",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
        "some_function_name_that_is_long(self.attribute_of_a_class)",
        "password: at least twelve",
        *(
            text
            for name, text in UNSHAPED.items()
            if name in ("a hash", "a uuid", "base64", "a library")
        ),
    ],
)
def test_prose_and_code_pass_by(text: str) -> None:
    message = {"role": "user", "content": text}
    encoded = encode({"arguments": {"messages": [message]}})
    assert not has_shape(encoded)


def test_a_plain_conversation_passes_by() -> None:
    message = {"role": "user", "content": "A description of a function."}
    assert not may_tell_secrets(encode({"arguments": {"messages": [message]}}))


PIECES = [
    *SHAPED.values(),
    *UNSHAPED.values(),
    *(f'{{"{name}": "abc"}}' for name in NAMED[:9]),
    *"words - _ . ? & = : @ :// sk- task- Bearer basic token= password: ey hvs. xox ü 日".split(),
    "\\", "\\n", "\\/", "\n", "\t", " ", '"', "'", "a" * 20, "1" * 9,
    "://a:b@", "?sig=", "&key=", ":AA", "api_key=",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_what_a_slow_search_finds_is_seen(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(100):
        text = "".join(draw.choices(PIECES, k=draw.randint(1, 6)))
        if draw.random() < 0.3:
            text = json.dumps([text, {"a": text[::-1]}], ensure_ascii=draw.random() < 0.5)
        value = draw.choice([told(text), {"arguments": {"said": [text, {"x": text}]}}, {"a": text}])
        assert may_tell_secrets(encode(value)) or not was_found(value), text


@given(
    st.lists(
        st.sampled_from(
            [*(end.encode() for end in screening._ENDINGS), b"S", b"s", b"KEY", b"x", b" ", b"\xa4",
             b"\xd9", b'"', b"'", b"\\", b"\x80", b"\xd0\xb0", b"ret text", b"Password", b"\xda"]
        )
    ),
    st.integers(0, 30),
)  # fmt: skip
def test_names_are_seen_by_their_ends(parts: list[bytes], start: int) -> None:
    request = b"".join(parts)
    assert has_name(request, start) == (ENDS.search(request, start) is not None)


def test_a_picture_passes_by() -> None:
    data = random.Random(1).randbytes(3000).hex() * 20
    assert stored(encode(told(data))) == encode(told(data))
    assert not has_shape(encode(told(data)))
