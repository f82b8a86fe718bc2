"""Keys: equal for equal requests, different for different ones, the same everywhere."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import os
import pathlib
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import kinds
import pytest
from kinds import VALUES

from cachewrap.errors import UnkeyableError
from cachewrap.request.canonical import canonical, canonical_json
from cachewrap.request.key import decode_request, encode, key_of, salted


def key(value: object) -> str:
    return key_of(salted("41"), encode(canonical(value)))


def json_key(value: object) -> str:
    return key_of(salted(), encode(canonical_json(value)))


def test_no_two_values_of_the_table_share_a_key() -> None:
    keys = {name: key(value) for name, value in VALUES.items()}
    shared = [name for name, count in Counter(keys.values()).items() if count > 1]
    assert [name for name in keys if keys[name] in shared] == []


@pytest.mark.parametrize("name", VALUES)
def test_a_canonical_request_is_json_and_comes_back_from_its_bytes(name: str) -> None:
    plain = canonical(VALUES[name])
    assert decode_request(encode(plain)) == json.loads(json.dumps(decode_request(encode(plain))))


DIFFERENT: list[tuple[Any, Any]] = [
    (1, 1.0),
    (1, True),
    (1, "1"),
    (0, False),
    (0, None),
    ("", None),
    ("a", b"a"),
    (b"a", bytearray(b"a")),
    ([1], (1,)),
    ({1}, frozenset({1})),
    ({1}, [1]),
    ({}, []),
    ({"a": 1}, [["a", 1]]),
    ({1: 2}, {"1": 2}),
    ({"a": None}, {}),
    ({"!tuple": [1]}, (1,)),
    ({"!dict": [["a", 1]]}, {"a": 1}),
    (math.nan, "nan"),
    (math.inf, -math.inf),
    (2**64, -(2**64)),
    (dt.date(2024, 1, 1), "2024-01-01"),
    (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)),
    (dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    (pathlib.PurePosixPath("a"), "a"),
    (kinds.Colour.RED, 1),
    (kinds.Colour.RED, kinds.Shade.RED),
    (kinds.Colour, kinds.Shade),
    (kinds.Word.HI, "hi"),
    (kinds.Point(1), kinds.Spot(1)),
    (kinds.Point(1), {"x": 1, "y": None}),
    (kinds.Model(a=2), kinds.Twin(a=2)),
    (kinds.City("a", 1), ("a", 1)),
    (kinds.eager(), kinds.Eager(2)),
    (defaultdict(int, a=1), {"a": 1}),
    (defaultdict(int, a=1), defaultdict(list, a=1)),
    (type("Text", (str,), {})("a"), "a"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_requests_have_different_keys(one: Any, other: Any) -> None:
    assert key(one) != key(other)
    assert key([one]) != key([other])
    assert key({"x": one}) != key({"x": other})


class Keyed:
    def __init__(self, endpoint: object, noise: object) -> None:
        self.endpoint = endpoint
        self.noise = noise

    def __cache_key__(self) -> object:
        return self.endpoint


EQUAL: list[tuple[Any, Any]] = [
    ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
    ({1: "a", "x": (2,)}, {"x": (2,), 1: "a"}),
    ({"b", "a", "c"}, {"c", "b", "a"}),
    ({(1, 2), (3,)}, {(3,), (1, 2)}),
    (float("nan"), math.nan),
    (Keyed("here", 1), Keyed("here", object())),
    (kinds.Model(), kinds.Model(a=1)),
    (kinds.extended(), kinds.extended()),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_requests_have_equal_keys(one: Any, other: Any) -> None:
    assert key(one) == key(other)


def test_a_plain_value_is_taken_as_it_is() -> None:
    plain = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "n": None}
    assert canonical(plain) is plain
    assert canonical_json(plain) is plain


def test_the_salt_separates() -> None:
    request = encode("hi")
    prefixes = [salted(), salted("1"), salted("2"), salted("1", "2"), salted("12"), salted("")]
    assert len({key_of(prefix, request) for prefix in prefixes}) == len(prefixes)


def _cycle() -> Any:
    ring: dict[str, Any] = {}
    ring["self"] = ring
    return ring


def _deep() -> Any:
    tower: list[Any] = []
    for _ in range(100_000):
        tower = [tower]
    return tower


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"messages": [{"content": object()}]}, r"arguments\.messages\[0\]\.content is a object"),
        ((1, {2: len}), r"arguments\[1\]\[2\] is a builtin_function_or_method"),
        ({object(): 1}, "a key of arguments is a object"),
        ([kinds.Point(open)], r"arguments\[0\]\.x is a "),
        (kinds.numpy.array([object()]), "numpy array of object"),
        (_cycle(), "refers to itself"),
        (_deep(), "nested too deeply"),
    ],
)
def test_what_has_no_canonical_form_is_refused_by_its_place(value: Any, where: str) -> None:
    with pytest.raises(UnkeyableError, match=where):
        canonical(value, where="arguments")


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(UnkeyableError, match=r"ignore=.*key=.*__cache_key__"):
        canonical(object())


class NotGiven:
    """Stands for the SDK's sentinels, which are told by their name."""


class Omit:
    pass


class Role(enum.Enum):
    USER = "user"


JSON_EQUAL: list[tuple[Any, Any]] = [
    (1, 1.0),
    ({"temperature": 0}, {"temperature": 0.0}),
    ([1.0, {"n": 2.0}], [1, {"n": 2}]),
    ((1, 2), [1, 2]),
    ({"role": Role.USER}, {"role": "user"}),
    ({"when": dt.date(2024, 1, 1)}, {"when": "2024-01-01"}),
    ({"a": 1, "b": NotGiven()}, {"a": 1}),
    ({"a": 1, "b": {"c": Omit()}}, {"a": 1, "b": {}}),
    ({"m": kinds.Model(a=2)}, {"m": {"a": 2}}),
    ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
]


@pytest.mark.parametrize(("one", "other"), JSON_EQUAL)
def test_bodies_that_are_one_json_have_one_key(one: Any, other: Any) -> None:
    assert json_key(one) == json_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (1, 1.5),
        (0, None),
        ({"a": None}, {}),
        (2**53, 2.0**53 + 2),
        (10**30, 10**31),
        ({"!int": "0x1"}, 1),
        ({"!str": "7aCA"}, "\ud800"),
    ],
)
def test_bodies_that_are_different_json_have_different_keys(one: Any, other: Any) -> None:
    assert json_key(one) != json_key(other)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"messages": [{"content": b"raw"}]}, r"body\.messages\[0\]\.content is a bytes"),
        ({"temperature": math.nan}, r"body\.temperature is nan"),
        ({"a": {1: 2}}, r"body\.a has the key 1"),
        ([object()], r"body\[0\] is a object"),
        (_cycle(), "refers to itself"),
    ],
)
def test_what_is_not_json_is_refused_by_its_place(value: Any, where: str) -> None:
    with pytest.raises(UnkeyableError, match=where):
        canonical_json(value, where="body")


PROGRAM = """
import enum, multiprocessing, sys
from cachewrap import Cache, llm_cached

class Colour(enum.Enum):
    RED = 1

@llm_cached
def complete(prompt, colour, tags): ...

def show(_=None):
    return complete.cache_key({"b": 1, "a": [2.5]}, Colour.RED, {"x", "y", "z"})

if __name__ == "__main__":
    print(show())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(show, [0])[0])
"""


def test_one_program_has_one_key_however_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    ways = [
        ["program.py"],
        ["-m", "program"],
        ["-c", "import sys; sys.path.insert(0, '.'); import program; print(program.show())"],
    ]
    keys: set[str] = set()
    for number, way in enumerate(ways):
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": path}
        environment.pop("PYTHONSAFEPATH", None)
        run = subprocess.run(
            [sys.executable, *way],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        keys.update(run.stdout.split())
    assert len(keys) == 1


def test_two_programs_with_a_function_of_one_name_share_no_key(tmp_path: Path) -> None:
    keys = set()
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(PROGRAM)
        run = subprocess.run(
            [sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        keys.update(run.stdout.split())
    assert len(keys) == 2
