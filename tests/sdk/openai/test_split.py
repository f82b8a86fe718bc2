"""Embeddings and moderations of several texts, of which only what is missing is asked upstream."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from standin import Upstream

import cachewrap
from cachewrap import Cache, CacheWarning, ReplayMissError, no_cache
from cachewrap.same import ignore, replace
from cachewrap.stores.memory import MemoryStore
from sdk.openai.asking import Colour

Ask = Callable[..., Any]


@pytest.fixture
def up(up: Upstream) -> Upstream:
    """An upstream that answers each element alike, whatever list it is in."""
    up._usual = up._manner = type(up._usual)(steady=True)
    return up


@pytest.fixture
def cache() -> Cache:
    """An empty cache that serves lists element by element."""
    return Cache.memory(split=True)


@pytest.fixture
def ask(colour: Colour, client: Any) -> Ask:
    """Asks for embeddings, or for moderations."""

    def ask(value: Any, of: str = "embeddings", **more: Any) -> Any:
        return colour.wait(getattr(client, of).create(model="m", input=value, **more))

    return ask


def vectors(answer: Any) -> list[Any]:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


def alone(ask: Ask, values: list[Any], **more: Any) -> list[Any]:
    """The vectors as upstream gives them for each element by itself."""
    with no_cache():
        return [vectors(ask([value], **more))[0] for value in values]


@pytest.mark.parametrize(
    ("lists", "asked"),
    [
        pytest.param([["a", "b"], ["b", "a"]], ["a", "b"], id="another order"),
        pytest.param([["a", "b"], ["a", "c", "b"]], ["a", "b", "c"], id="one more"),
        pytest.param([["a", "a", "b", "a"]], ["a", "b"], id="the same again"),
        pytest.param([["a"], "a", ["a", "b"]], ["a", "b"], id="one, and a text"),
        pytest.param(["a", ["a"]], ["a"], id="a text, and a list of it"),
        pytest.param([["ä", "世界🌍"], ["世界🌍", "ä"]], ["ä", "世界🌍"], id="not ASCII"),
        pytest.param([["a", "A", "a ", ""]], ["a", "A", "a ", ""], id="nearly the same"),
        pytest.param([[1, 2], [[1, 2]], [[2, 1]]], [[1, 2], [2, 1]], id="tokens"),
        pytest.param([[[1], [2, 3]], [[2, 3], [1]]], [[1], [2, 3]], id="lists of tokens"),
        pytest.param([["1"], [1], [[1]]], ["1", [1]], id="a text of digits, and a token"),
    ],
)
def test_each_element_is_asked_once(
    ask: Ask, up: Upstream, cache: Cache, lists: list[Any], asked: list[Any]
) -> None:
    with cache:
        found = [vectors(ask(value)) for value in lists]
    assert up.elements == asked
    for value, got in zip(lists, found, strict=True):
        single = isinstance(value, str) or isinstance(value[0], int)
        assert got == alone(ask, [value] if single else value)


def test_ninety_nine_of_a_hundred_ask_for_one(ask: Ask, up: Upstream, cache: Cache) -> None:
    texts = [f"text {number}" for number in range(100)]
    with cache:
        ask(texts[:40] + texts[41:])
        found = vectors(ask(texts))
    assert up.elements[-1:] == ["text 40"]
    assert (up.calls, len(up.elements)) == (2, 100)
    assert found == alone(ask, texts)


@pytest.mark.parametrize(
    "more",
    [
        {"dimensions": 3},
        {"encoding_format": "float"},
        {"user": "u"},
        {"extra_query": {"a": "b"}},
        {"extra_headers": {"x-title": "t"}},
        {"extra_body": {"input_type": "query"}},
    ],
    ids=str,
)
def test_what_else_is_asked_is_in_the_key_of_each_element(
    ask: Ask, up: Upstream, cache: Cache, more: dict[str, Any]
) -> None:
    with cache:
        ask(["a", "b"])
        found = ask(["b", "a"], **more)
        again = ask(["a", "b"], **more)
    assert up.elements == ["a", "b", "b", "a"]
    assert vectors(again) == vectors(found)[::-1] == alone(ask, ["a", "b"], **more)


def test_both_encodings_come_as_they_were_asked_for(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        decoded, text, again, numbers = (
            vectors(ask(["a", "b"], **more))
            for more in ({}, {"encoding_format": "base64"}, {}, {"encoding_format": "float"})
        )
    assert decoded == again == numbers == alone(ask, ["a", "b"])
    assert text == alone(ask, ["a", "b"], encoding_format="base64")
    assert up.elements[:4] == ["a", "b", "a", "b"]  # by itself the SDK asks for base64


def test_a_list_with_a_field_that_may_bind_its_elements_is_asked_whole(
    ask: Ask, up: Upstream, cache: Cache
) -> None:
    more = {"extra_body": {"late_chunking": True}}
    with cache:
        for value in (["a", "b"], ["a", "b"], ["b"]):
            ask(value, **more)
    assert up.elements == ["a", "b", "b"]


@pytest.mark.parametrize("value", [[], ["a", 1], [[]]], ids=str)
def test_what_is_no_list_of_elements_goes_its_usual_way(
    ask: Ask, up: Upstream, cache: Cache, value: Any
) -> None:
    with cache:
        first, second = (ask(value, encoding_format="float") for _ in range(2))
    assert first == second
    assert up.calls <= 2


def test_usage_is_that_of_all_places(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        first = ask(["aa", "bbbb", "c"])
        assert first.usage.prompt_tokens == first.usage.total_tokens == 4 + 6 + 3
        parts = [ask([text]).usage.prompt_tokens for text in ("aa", "bbbb", "c")]
        assert ask(["c", "aa", "c"]).usage.prompt_tokens == parts[2] * 2 + parts[0]
    assert sum(parts) == 13


def test_vectors_that_come_in_another_order_are_those_of_their_texts(
    ask: Ask, up: Upstream, cache: Cache
) -> None:
    up.behave(shuffled=True)
    with cache:
        found = vectors(ask(["a", "b", "c"]))
    assert found == alone(ask, ["a", "b", "c"])


def test_a_hit_is_what_the_miss_was(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        ask(["b"])
        miss, hit = ask(["a", "b"]), ask(["a", "b"])
    assert type(miss) is type(hit) is openai.types.CreateEmbeddingResponse
    assert miss.model_dump() == hit.model_dump()
    assert miss._request_id == hit._request_id == f"req_{up_token(hit)}"


def up_token(answer: Any) -> str:
    return str(answer.model_extra["id"]).removeprefix("embd-")


def test_raw_answers_have_the_same_bytes(
    colour: Colour, client: Any, up: Upstream, cache: Cache
) -> None:
    raw = client.embeddings.with_raw_response
    with cache:
        colour.wait(raw.create(model="m", input=["b"]))
        miss, hit = (colour.wait(raw.create(model="m", input=["a", "b"])) for _ in range(2))
    assert miss.content == hit.content
    assert miss.parse() == hit.parse()
    assert "x-cachewrap" not in miss.headers
    assert hit.headers["x-cachewrap"] == "hit"
    assert up.elements == ["b", "a"]
    assert miss.http_request.url == hit.http_request.url
    assert json.loads(hit.http_request.content)["input"] == ["a", "b"]


def test_moderations_are_asked_text_by_text(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        first = ask(["a", "b"], "moderations")
        second = ask(["c", "b", "b"], "moderations")
        one = ask("c", "moderations")
    assert up.elements == ["a", "b", "c"]
    assert second.results[1] == second.results[2] == first.results[1]
    assert one.results == second.results[:1]


def test_a_moderation_of_parts_is_asked_whole(ask: Ask, up: Upstream, cache: Cache) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    with cache:
        first, second = (ask(parts, "moderations") for _ in range(2))
    assert (up.elements, first) == ([parts], second)


def test_the_callers_own_objects_stay_as_they_are(ask: Ask, up: Upstream, cache: Cache) -> None:
    texts, body, headers = ["a", "b", "a"], {"dimensions": 2}, {"x-title": "t"}
    with cache:
        ask(["b"], extra_body=body, extra_headers=headers)
        ask(texts, extra_body=body, extra_headers=headers)
    assert (texts, body, headers) == (["a", "b", "a"], {"dimensions": 2}, {"x-title": "t"})
    assert up.elements == ["b", "a"]
    assert json.loads(up.last.body)["dimensions"] == 2


def test_an_input_in_the_extra_body_is_what_is_asked(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        ask(["x"], extra_body={"input": ["a", "b"]})
        found = ask(["x"], extra_body={"input": ["c", "a"]})
    assert up.elements == ["a", "b", "c"]
    assert vectors(found) == alone(ask, ["c", "a"])


def test_a_part_is_never_taken_for_the_request_sent_again(
    ask: Ask, up: Upstream, cache: Cache
) -> None:
    with cache:
        ask(["a"], extra_headers={"Idempotency-Key": "k"})
        ask(["a", "b"], extra_headers={"Idempotency-Key": "k"})
    assert [request.headers.get("idempotency-key") for request in up.requests] == ["k", None]


# -- answers of another form, and errors ----------------------------------------------------------


def body(data: list[Any], **more: Any) -> bytes:
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return json.dumps(
        {"object": "list", "data": data, "model": "m", "usage": usage} | more
    ).encode()


def one(index: Any, *vector: float) -> dict[str, Any]:
    told = {} if index is None else {"index": index}
    return {"object": "embedding", "embedding": list(vector), **told}


BROKEN = {
    "too few": body([one(0, 1.0)]),
    "too many": body([one(0, 1.0), one(1, 2.0), one(2, 3.0)]),
    "an index twice": body([one(1, 1.0), one(1, 2.0)]),
    "an index too high": body([one(1, 1.0), one(2, 2.0)]),
    "no index": body([one(None, 1.0), one(None, 2.0)]),
    "a list beside it": body([one(0, 1.0), one(1, 2.0)], warnings=["a", "b"]),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_an_answer_of_another_form_comes_as_it_is_and_is_not_stored(
    ask: Ask, up: Upstream, cache: Cache, broken: bytes
) -> None:
    with cache:
        up.once(body=broken)
        came = ask(["a", "b"], encoding_format="float")
        assert came.model_dump(exclude_unset=True) == json.loads(broken)
        assert (up.calls, cache.stats.stored) == (1, 0)
        ask(["a", "b"], encoding_format="float")
    assert (up.calls, cache.stats.stored) == (2, 2)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_of_a_part_it_is_no_answer_so_the_whole_list_is_asked(
    ask: Ask, up: Upstream, cache: Cache, broken: bytes
) -> None:
    with cache:
        ask(["c"], encoding_format="float")
        up.once(body=broken)
        found = ask(["a", "c", "b"], encoding_format="float")
    assert vectors(found) == alone(ask, ["a", "c", "b"], encoding_format="float")
    assert up.elements[:6] == ["c", "a", "b", "a", "c", "b"]
    assert cache.stats.stored == 1


def test_an_error_is_the_callers_and_nothing_is_stored(
    ask: Ask, up: Upstream, cache: Cache
) -> None:
    with cache:
        ask(["b"])
        up.fail(500)
        with pytest.raises(openai.InternalServerError):
            ask(["a", "b"])
        assert cache.stats.stored == 1
        ask(["a", "b"])
    assert up.elements == ["b", "a", "a"]


def test_the_sdk_tries_again_by_itself(colour: Colour, up: Upstream, cache: Cache) -> None:
    client = colour.client(up, max_retries=2)
    with cache:
        up.fail(500, 429)
        colour.wait(client.embeddings.create(model="m", input=["a", "b"]))
    assert (up.calls, cache.stats.misses) == (3, 2)


def test_a_list_longer_than_a_request_may_be_is_asked_in_several(
    ask: Ask, up: Upstream, cache: Cache
) -> None:
    texts = [str(number) for number in range(4200)]
    with cache:
        up.once()
        up.once()
        up.fail(400)
        with pytest.raises(openai.BadRequestError):
            ask(texts)
        assert cache.stats.stored == 4096
        found = vectors(ask(texts))
    asked = [len(json.loads(request.body)["input"]) for request in up.requests]
    assert asked == [2048, 2048, 104, 104]
    assert [found[7], found[4150]] == alone(ask, ["7", "4150"])


def test_an_entry_that_is_none_of_one_element_is_asked_anew(
    ask: Ask, up: Upstream, cache: Cache
) -> None:
    whole = Cache(MemoryStore("41"))
    with whole:
        ask(["a", "b"])
    [other] = whole.store.keys()
    with cache:
        ask(["a"])
        [key] = cache.store.keys()
        cache.store.set(key, whole.store.get(other) or b"")
        with pytest.warns(CacheWarning, match="one element"):
            found = vectors(ask(["a"]))
        assert found == vectors(ask(["a"])) == alone(ask, ["a"])
    assert up.elements[:4] == ["a", "b", "a", "a"]


# -- what a cache or a call says ------------------------------------------------------------------


def test_exact_entries_and_those_of_elements_never_serve_each_other(ask: Ask, up: Upstream) -> None:
    store = MemoryStore("41")
    for cache in (Cache(store), Cache(store, split=True), Cache(store)):
        for value in ("a", ["a"], ["a"]):
            with cache:
                ask(value)
    assert up.elements == ["a"] * 3


def test_a_patch_says_it_for_all_caches_that_do_not(ask: Ask, up: Upstream) -> None:
    said, unsaid = Cache.memory(split=False), Cache.memory()
    with cachewrap.patch_openai(split=True):
        cachewrap.patch_openai().undo()
        for cache in (said, unsaid):
            with cache:
                ask(["a", "b"])
                ask(["b"])
    assert up.elements == ["a", "b", "b", "a", "b"]
    with unsaid:
        ask(["b"])
        ask(["b"])
    assert up.elements[5:] == ["b"]


def test_what_is_no_flag_is_no_option() -> None:
    for make in (Cache.memory, cachewrap.patch_openai):
        with pytest.raises(cachewrap.ConfigurationError, match="split"):
            make(split="yes")  # type: ignore[arg-type]


def test_a_url_says_it(ask: Ask, up: Upstream) -> None:
    with Cache.from_url("memory:?split=true"):
        ask(["a", "b"])
        ask(["b"])
    assert up.elements == ["a", "b"]


def test_the_door_leaves_lists_to_the_long_way(ask: Ask, up: Upstream, cache: Cache) -> None:
    plain = Cache.memory()
    with plain:
        for _ in range(3):
            ask(["a"])
    with cache:
        ask(["a", "b"])
        ask(["a"])
    with plain:
        ask(["a"])
    assert up.elements == ["a", "a", "b"]


def test_a_seed_and_a_cache_of_one_call_hold(ask: Ask, up: Upstream, cache: Cache) -> None:
    other = Cache.memory(split=True)
    with cache:
        ask(["a", "b"])
        ask(["a", "b"], cache_seed=7)
        ask(["b"], cache_seed=7)
        ask(["b"], cache=other)
        ask(["b"], cache_seed=None)
        ask(["b"], mode="off")
    assert up.elements == ["a", "b", "a", "b", "b", "b", "b"]


def test_samples_are_numbered_element_by_element(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        ask(["a", "b"], sample=1)
        ask(["b"], sample=1)
        ask(["b"], sample=0)
    assert up.elements == ["a", "b", "b"]
    with cache.samples():
        for value in (["c", "c"], ["c", "d"], ["d"]):
            ask(value)
    assert up.elements[3:] == ["c", "c", "d", "d"]
    with cache.samples():
        ask(["d", "c"])
        up.fail(500)
        with pytest.raises(openai.InternalServerError):
            ask(["d", "e"])
        ask(["d", "e"])  # the second of the one, and the first of the other
    assert up.elements[7:] == ["e", "e"]


def test_modes(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        ask(["a", "b"])
        ask(["a", "c"], mode="read_only")
        ask(["c"], mode="read_only")
        ask(["b", "a"], mode="refresh")
        assert len(vectors(ask(["b", "a"], mode="replay"))) == 2
        with pytest.raises(ReplayMissError, match=r"not stored: 2 of 3 elements, at 0, 2"):
            ask(["c", "a", "d"], mode="replay")
    assert up.elements == ["a", "b", "c", "c", "b", "a"]


def test_what_has_expired_is_asked_anew(
    ask: Ask, up: Upstream, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    with cache:
        ask(["a"], ttl=10)
        ask(["b"])
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 20)
        ask(["a", "b"])
    assert up.elements == ["a", "b", "a"]


def test_when_is_asked_of_each_answer_of_upstream(ask: Ask, up: Upstream, cache: Cache) -> None:
    given: list[Any] = []

    def when(answer: Any) -> bool:
        given.append(answer)
        return len(answer.data) > 1

    with cachewrap.patch_openai(when=when), cache:
        ask(["a", "b"])
        found = ask(["c", "a"])
        ask(["c", "a"])
    assert [len(answer.data) for answer in given] == [2, 1, 1]
    assert up.elements == ["a", "b", "c", "c"]
    assert vectors(found) == alone(ask, ["c", "a"])


def test_what_is_too_large_or_scrubbed_is_still_answered(ask: Ask, up: Upstream) -> None:
    with Cache.memory(split=True, max_entry_bytes=10) as small, pytest.warns(CacheWarning):
        found = vectors(ask(["a", "b"]))
    assert (small.stats.stored, found) == (0, alone(ask, ["a", "b"]))
    with Cache.memory(split=True, scrub=lambda text: text.replace("secret", "…")) as cache:
        miss, hit = (ask(["secret", "b"]) for _ in range(2))
    assert vectors(miss) == vectors(hit) == alone(ask, ["secret", "b"])
    assert not any(b"secret" in (cache.store.get(key) or b"") for key in cache.store.keys())


def test_encrypted_elements_serve(ask: Ask, up: Upstream) -> None:
    pytest.importorskip("cryptography")
    from cachewrap.encryption import generate_key

    with Cache.memory(split=True, encryption_key=generate_key()):
        miss, hit = ask(["a", "b"]), ask(["b", "a"])
    assert vectors(miss) == vectors(hit)[::-1]
    assert up.elements == ["a", "b"]


def test_rules_hold_for_each_element(ask: Ask, up: Upstream) -> None:
    rules = [ignore("user"), replace(r"\d{4}-\d\d-\d\d", "…", where="input")]
    with Cache.memory(split=True, same=rules) as cache:
        first = vectors(ask(["a", "on 2026-01-02"], user="u"))
        found = vectors(ask(["on 2026-01-03", "a", "b", "on 2026-01-04"], user="v"))
    assert up.elements == ["a", "on 2026-01-02", "b"]
    assert (found[0], found[1], found[3]) == (first[1], first[0], first[1])
    assert cache.stats.stored == 3


def test_counts_are_of_elements(ask: Ask, up: Upstream, cache: Cache) -> None:
    with cache:
        ask(["a", "b", "a"])
        ask(["a", "c"])
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.joined, stats.stored) == (1, 3, 1, 3)


def test_entries_show_one_element_each(ask: Ask, cache: Cache) -> None:
    with cache:
        ask(["a", "b"])
        found = sorted(entry.request["body"]["input"] for entry in cache.entries())
    assert found == ["a", "b"]


# -- other ways to ask ----------------------------------------------------------------------------


def test_azures_clients_and_posts_of_ones_own(colour: Colour, up: Upstream, cache: Cache) -> None:
    azure = colour.client(up, "azure")
    client = colour.client(up)
    with cache:
        for value in (["a", "b"], ["b", "c"]):
            colour.wait(azure.embeddings.create(model="m", input=value))
            posted = {"model": "m", "input": value}
            colour.wait(client.post("/embeddings", body=posted, cast_to=dict[str, Any]))
    assert up.elements == ["a", "b", "a", "b", "c", "c"]
    assert up.requests[0].path == up.requests[2].path == "/openai/deployments/m/embeddings"


def test_an_open_response_is_left_whole(colour: Colour, up: Upstream, cache: Cache) -> None:
    client = colour.client(up)
    streaming = client.embeddings.with_streaming_response

    async def aread(value: Any) -> bytes:
        async with streaming.create(model="m", input=value) as response:
            found: bytes = await response.read()
            return found

    def read(value: Any) -> bytes:
        if colour.name == "async":
            return bytes(colour.wait(aread(value)))
        with streaming.create(model="m", input=value) as response:
            found: bytes = response.read()
            return found

    with cache:
        assert read(["a", "b"]) == read(["a", "b"])
        read(["b"])
    assert up.elements == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        pytest.param({"headers": {"x-title": "t"}}, ["a", "b"], id="headers"),
        pytest.param({"json_data": {"user": "u"}}, ["a", "b", "a"], id="the body"),
        pytest.param({"json_data": {"input": ["c"]}}, ["c"], id="the input"),
    ],
)
def test_a_client_whose_hook_changes_the_body_is_asked_whole(
    up: Upstream, cache: Cache, changes: dict[str, Any], asked: list[Any]
) -> None:
    class Client(openai.OpenAI):
        def _prepare_options(self, options: Any) -> Any:
            for name, more in changes.items():
                setattr(options, name, {**(getattr(options, name) or {}), **more})
            return options

    client = Client(api_key="k", base_url=up.base_url)
    with cache:
        for value in (["a"], ["b", "a"], ["b", "a"]):
            client.embeddings.create(model="m", input=value)
    assert up.elements == asked


# -- at the same time -----------------------------------------------------------------------------


def test_lists_that_overlap_ask_for_each_element_once(up: Upstream, cache: Cache) -> None:
    lists = [["a", "b"], ["b", "c"], ["c", "a", "d"], ["d"], ["a"]]
    gate = threading.Event()
    up.behave(gate=gate)
    client = openai.OpenAI(api_key="k", base_url=up.base_url)

    def ask(value: Any) -> Any:
        with cache:
            return vectors(client.embeddings.create(model="m", input=value))

    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, value) for value in lists]
        up.wait_for(1)
        gate.set()
        found = [one.result() for one in asked]
    assert sorted(up.elements) == ["a", "b", "c", "d"]
    with no_cache():
        wanted = vectors(client.embeddings.create(model="m", input=["a", "b", "c", "d"]))
    known = dict(zip("abcd", wanted, strict=True))
    assert found == [[known[text] for text in value] for value in lists]


def test_so_do_those_of_tasks(up: Upstream, cache: Cache) -> None:
    lists = [["a", "b"], ["b", "c"], ["c", "a", "d"], ["d"], ["a"]]

    async def main() -> list[Any]:
        async with openai.AsyncOpenAI(api_key="k", base_url=up.base_url) as client:
            with cache:
                return await asyncio.gather(
                    *(client.embeddings.create(model="m", input=value) for value in lists)
                )

    found = {}
    for value, answer in zip(lists, asyncio.run(main()), strict=True):
        for text, vector in zip(value, vectors(answer), strict=True):
            assert found.setdefault(text, vector) == vector
    assert sorted(up.elements) == ["a", "b", "c", "d"]
