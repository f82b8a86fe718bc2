"""Which one name made nearly all calls of a run miss, by what was stored before."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.call.stats import Stats
from cachewrap.call.terms import Reply
from cachewrap.entry import Entry, Facts, HttpAnswer, Kind, Outcome
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request.key import hashed, salted, stored
from cachewrap.run import misses
from cachewrap.run.misses import place_apart
from cachewrap.run.program import lines_of, nearly_all_missed
from cachewrap.stores.base import Store

BEGAN = time.time()
SOURCE = "POST /chat/completions"
RANDOM = "2b5e7c9d1f3a4b6c8d0e2f4a6b8c0d1e"


def request(text: str = "hi", **more: Any) -> dict[str, Any]:
    """A canonical request; what is given goes into its headers, query and body."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more.get("body", {})}
    parts = {name: more[name] for name in ("headers", "query", "stream") if name in more}
    return {
        "method": "POST",
        "url": "https://api.openai.com/v1/chat/completions",
        **parts,
        "body": body,
    }


def put(cache: Cache, asked: dict[str, Any], created: float, prefix: bytes = salted()) -> str:
    """Store an answer to a request; its key."""
    key, whole = hashed(prefix, asked)
    encoded = stored(bytes(whole[len(prefix) :]))
    answer = HttpAnswer(200, [("content-type", "application/json")], [b"{}"], [])
    facts = Facts(created=created, seconds=1.0, source=SOURCE)
    cache.store.set(key, cache._guard.close(key, seal(*codec.encode(answer), encoded, facts)))
    return key


def counted(calls: int, hits: int, source: str) -> Stats:
    stats = Stats()
    group = {"source": source, "model": "m", "reported": "m"}
    counts = {"hits": hits, "misses": calls - hits, "stored": calls - hits}
    stats.add({**Stats().as_dict(), "groups": [{**group, **counts}]})
    return stats


def looked(cache: Cache, keys: list[str]) -> str:
    """The place that was found, as it is told."""
    return " ".join(place_apart(cache, keys, BEGAN) or ())


def told(cache: Cache, old: list[Any], new: list[Any]) -> str:
    """What is told of a run that asked ``new``, where ``old`` was stored before."""
    for asked in old:
        put(cache, asked, BEGAN - 60)
    return looked(cache, [put(cache, asked, BEGAN + 1) for asked in new])


def twice(one: dict[str, Any], other: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    texts = ("a", "b", "c")
    return [request(text, **one) for text in texts], [request(text, **other) for text in texts]


def in_headers(one: dict[str, Any], other: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return twice({"headers": one}, {"headers": other})


def in_query(one: dict[str, Any], other: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return twice({"query": one}, {"query": other})


def in_body(one: dict[str, Any], other: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return twice({"body": one}, {"body": other})


ONE_PLACE = [
    pytest.param(*in_headers({"x-t": "1"}, {"x-t": "2"}), "header x-t", id="header"),
    pytest.param(*twice({}, {"headers": {"x-t": "2"}}), "header x-t", id="a new header"),
    pytest.param(*twice({"headers": {"x-t": "1"}}, {}), "header x-t", id="no header any more"),
    pytest.param(
        *in_headers({"x-t": RANDOM}, {"x-t": RANDOM[::-1]}),
        "header x-t",
        id="what is stored as hidden",
    ),
    pytest.param(
        *in_body({"trace": RANDOM}, {"trace": RANDOM[::-1]}),
        "field trace",
        id="what is stored as hidden of a field",
    ),
    pytest.param(*in_query({"run": "1"}, {"run": "2"}), "query parameter run", id="query"),
    pytest.param(
        *in_query({"run": ["1"]}, {"run": ["2"]}),
        "query parameter run",
        id="query of plain HTTP",
    ),
    pytest.param(*in_body({"user": "1"}, {"user": "2"}), "field user", id="field"),
    pytest.param(
        *in_body({"metadata": {"run": "1"}}, {"metadata": {"run": "2"}}),
        "field metadata",
        id="inside a field",
    ),
    pytest.param(
        [request("a", headers={"x-t": "1"}), request("z"), request("y", headers={"x-t": "8"})],
        [request("a", headers={"x-t": "2"})],
        "header x-t",
        id="one of many",
    ),
]


@pytest.mark.parametrize(("old", "new", "place"), ONE_PLACE)
def test_one_place_is_found(old: list[Any], new: list[Any], place: str) -> None:
    assert told(Cache.memory(), old, new) == place


def with_tools(names: str, **more: Any) -> list[Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return [request(text, body={"tools": tools, **more}) for text in ("a", "b", "c")]


def with_calls(ids: str, order: int = 1) -> list[Any]:
    """Requests with the calls of tools and their results, in one order or the other."""
    calls = [{"id": one, "function": {"name": "look"}} for one in ids]
    results = [
        {"role": "tool", "tool_call_id": one, "content": str(n)} for n, one in enumerate(ids)
    ]
    said = {"role": "assistant", "tool_calls": calls}
    return [
        request(body={"messages": [{"role": "user", "content": text}, said, *results[::order]]})
        for text in ("a", "b", "c")
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        pytest.param(with_tools("abc"), with_tools("bca"), "set AGENTS", id="tools"),
        pytest.param(with_calls("ab"), with_calls("xy", -1), "set AGENTS", id="calls"),
        pytest.param(
            with_tools("abc", user="ann"),
            with_tools("cba", user="bob"),
            "set AGENTS and STEERING",
            id="tools and who asks",
        ),
        pytest.param(with_tools("abc"), with_tools("abd"), "", id="another tool"),
        pytest.param(
            with_tools("abc"), [*with_tools("bca")[:2], request("z")], "", id="not all of them"
        ),
        pytest.param(
            with_tools("abc", service_tier="flex"),
            with_tools("abc", service_tier="auto"),
            "",
            id="what steers alone",
        ),
    ],
)
def test_a_ready_set_that_makes_all_equal_is_found(
    old: list[Any], new: list[Any], place: str
) -> None:
    assert told(Cache.memory(), old, new) == place


def test_a_set_is_told_with_its_option() -> None:
    lines = lines_of(counted(6, 0, SOURCE), "disk:.cache", {}, ("set", "AGENTS"))
    assert lines[-1] == (
        "6 of 6 calls missed: each is equal to a stored one by the rules of AGENTS (--same FILE)"
    )


OTHERWISE = [
    pytest.param([], [request("a")], id="nothing stored"),
    pytest.param([request("a")], [request("b")], id="another question"),
    pytest.param([request("a")], [request("a", stream=True)], id="as a stream"),
    pytest.param(
        [{**request("a"), "url": "http://127.0.0.1:1/v1/chat/completions"}],
        [{**request("a"), "url": "http://127.0.0.1:2/v1/chat/completions"}],
        id="another address",
    ),
    pytest.param(
        *in_headers({"x-a": "1", "x-b": "1"}, {"x-a": "2", "x-b": "2"}),
        id="two headers",
    ),
    pytest.param(
        *twice({"headers": {"x-a": "1"}}, {"headers": {"x-a": "2"}, "body": {"user": "u"}}),
        id="a header and a field",
    ),
    pytest.param(
        *in_headers({"x-a": "1", "x-t": RANDOM}, {"x-a": "2", "x-t": RANDOM[::-1]}),
        id="a header and what is hidden",
    ),
    *(
        pytest.param(*in_body({name: one}, {name: other}), id=name)
        for name, one, other in (
            ("temperature", 0.1, 0.2),
            ("seed", 1, 2),
            ("logprobs", True, False),
            ("reasoning_effort", "low", "high"),
            ("response_format", {"type": "text"}, {"type": "json_object"}),
            ("tools", [], [{"type": "function"}]),
            ("previous_response_id", "resp_1", "resp_2"),
            ("model", "m", "n"),
            ("user\n", "a1", "b2"),
            ("search_mode", "academic", "web"),
            ("preamble", "You are agent 7", "You are agent 8"),
            ("context", [1, 2], [1, 3]),
            ("stop_token_ids", [1], [2]),
            ("context_management", {"edits": []}, {"edits": [{"type": "clear_1"}]}),
            ("cachedContent", "cachedContents/a1", "cachedContents/b2"),
            ("lora_path", "v1", "v2"),
            ("safety_model", "guard-1", "guard-2"),
        )
    ),
    pytest.param(*twice({}, {"headers": {"openai-beta": "v2"}}), id="a beta"),
    pytest.param(*in_headers({"x-model-id": "1"}, {"x-model-id": "2"}), id="a model by a header"),
    pytest.param(*in_query({"api-version": "1"}, {"api-version": "2"}), id="version"),
    pytest.param(
        *in_headers({"x-t": "(keyed 1)"}, {"x-t": "(keyed 2)"}),
        id="what is keyed",
    ),
    pytest.param(
        [request("a", headers={"x-t": "1"}), request("b", body={"user": "1"})],
        [request("a", headers={"x-t": "2"}), request("b", body={"user": "2"})],
        id="one place each",
    ),
    pytest.param(
        [request("a", headers={"x-t": "1"})],
        [request("a", headers={"x-t": "2"}), request("b", headers={"x-t": "2"})],
        id="not each",
    ),
]


@pytest.mark.parametrize(("old", "new"), OTHERWISE)
def test_otherwise_nothing_is_told(old: list[Any], new: list[Any]) -> None:
    assert told(Cache.memory(), old, new) == ""


@pytest.mark.parametrize(
    ("calls", "hits", "source", "asked"),
    [
        pytest.param(46, 0, SOURCE, "46 of 46 calls missed", id="all missed"),
        pytest.param(5, 0, SOURCE, "5 of 5 calls missed", id="five"),
        pytest.param(4, 0, SOURCE, "", id="four"),
        pytest.param(1000, 99, SOURCE, "901 of 1,000 calls missed", id="nearly all"),
        pytest.param(100, 10, SOURCE, "", id="a tenth were hits"),
        pytest.param(46, 0, "shop:ask", "", id="a function's"),
    ],
)
def test_it_is_looked_for_where_nearly_all_calls_missed(
    calls: int, hits: int, source: str, asked: str
) -> None:
    assert nearly_all_missed(counted(calls, hits, source)) == asked


@pytest.mark.store
def test_every_store_is_looked_through(store: Store) -> None:
    old, new = in_headers({"x-t": "1"}, {"x-t": "2"})
    assert told(Cache(store), old, new) == "header x-t"


def test_what_is_encrypted_is_looked_through() -> None:
    old, new = in_headers({"x-t": "1"}, {"x-t": "2"})
    assert told(Cache.memory(encryption_key="ab" * 32), old, new) == "header x-t"


def test_without_requests_nothing_is_told() -> None:
    cache = Cache.memory()
    keys = []
    for value, created in (("1", BEGAN - 1), ("2", BEGAN + 1)):
        key = hashed(salted(), request(headers={"x-t": value}))[0]
        envelope = seal(
            *codec.encode(HttpAnswer(200, [], [b"{}"], [])),
            b"",
            Facts(created=created, seconds=1.0),
        )
        cache.store.set(key, envelope)
        keys.append(key)
    assert looked(cache, keys[1:]) == ""


def test_damaged_entries_are_passed_over() -> None:
    cache = Cache.memory()
    for key in ("ab" * 32, "cd" * 32):
        cache.store.set(key, b"cw damaged")
    old, new = in_headers({"x-t": "1"}, {"x-t": "2"})
    assert told(cache, old, new) == "header x-t"
    assert looked(cache, ["ab" * 32, "ef" * 32]) == ""


def test_what_the_run_itself_stored_does_not_count() -> None:
    cache = Cache.memory()
    keys = [put(cache, request(headers={"x-t": str(n)}), BEGAN + 1) for n in range(3)]
    assert looked(cache, keys[:1]) == ""


def test_what_is_left_out_already_is_not_named_again() -> None:
    cache = Cache.memory(unkeyed=["X-T"])
    put(cache, request(headers={"X-T": "1"}), BEGAN - 1)
    put(cache, request(body={"user": "1"}), BEGAN - 1)
    keys = [put(cache, request(), BEGAN + 1)]
    assert looked(cache, keys) == "field user"


@pytest.mark.parametrize("mode", ["refresh", "replay", "read_only"])
def test_only_a_run_that_looks_and_stores_is_told(mode: Any) -> None:
    old, new = in_headers({"x-t": "1"}, {"x-t": "2"})
    assert told(Cache.memory(mode=mode), old, new) == ""


def test_the_look_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misses, "_SECONDS", -1.0)
    old, new = in_headers({"x-t": "1"}, {"x-t": "2"})
    assert told(Cache.memory(), old, new) == ""


@pytest.mark.parametrize(
    ("count", "kept"),
    [(0, ""), (1, "0"), (2, "01"), (3, "012"), (4, "023"), (9, "078")],
)
def test_the_keys_of_the_first_and_the_last_misses_over_http_are_kept(
    count: int, kept: str
) -> None:
    stats = Stats()
    for n in range(count):
        for kind, key in ((Kind.HTTP, str(n)), (Kind.VALUE, "function's")):
            entry = Entry(kind, b"", 0.0, 0.0, 0.0, 0, 0, lambda raw: {"model": "m"}, b"")
            exchange: Any = SimpleNamespace(source=SOURCE, model="m", key=key)
            stats.count(Reply(Outcome.MISS, None, entry, own=True), exchange)
            stats.count(Reply(Outcome.HIT, None, entry), exchange)
    assert stats.missed == list(kept)
