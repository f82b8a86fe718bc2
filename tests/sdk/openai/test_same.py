"""Rules of equality of a patch: for its calls, behind the rules of whatever cache serves them."""

from __future__ import annotations

import gc
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache, ConfigurationError, patch_all, patch_httpx, patch_openai
from cachewrap.same import AGENTS, STEERING, ignore, replace
from cachewrap.sdk.openai import OPENAI

DAY = replace(r"\d{4}-\d\d-\d\d", "…", where="messages[role=system].content")
NUMBERS = replace(r"0x[0-9a-f]+", "0x…")


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def create(up: Upstream, day: int = 1, **more: Any) -> Any:
    client = openai.OpenAI(base_url=up.base_url, api_key="none", max_retries=0)
    system = {"role": "system", "content": f"Today is 2026-11-{day:02}."}
    messages: Any = [system, {"role": "user", "content": "Who?"}]
    done = client.chat.completions.create(model="m", messages=messages, **more)
    return list(done) if more.get("stream") else done


def test_a_patch_has_rules_of_its_own(up: Upstream) -> None:
    cache = Cache.memory()
    with patch_openai(cache, same=[DAY]):
        answers = [create(up, day).id for day in (1, 2, 3, 3)]
    assert (len({*answers}), up.calls) == (1, 1)
    assert (cache.stats.hits, cache.stats.hits_by_rule) == (3, 3)
    with patch_openai(cache):
        create(up, 1)
    assert up.calls == 2  # an exact cache never sees the entry


def test_they_hold_in_every_block_behind_the_rules_of_its_cache(up: Upstream) -> None:
    with Cache.memory(same=[ignore("user")]) as cache, patch_openai(same=[DAY]):
        for day in range(1, 4):
            create(up, day, user=str(day))
        with cache.mode("replay"):
            assert create(up, 9, user="nine")
    assert up.calls == 1
    # Together they are the rules of one cache that has them all.
    store = cache._store
    with Cache(store, same=[ignore("user"), DAY]), patch_openai():
        create(up, 4, user="u")
    with Cache(store, same=[ignore("user"), DAY]), patch_openai(same=[DAY]):
        create(up, 5, user="u")
    assert up.calls == 1


def test_the_newest_handle_that_has_some_decides(up: Upstream) -> None:
    with Cache.memory():
        first, second = patch_openai(same=[DAY]), patch_openai(same=[ignore("user")])
        third = patch_openai()
        assert [first.same, second.same, third.same] == [DAY_ALONE, USER_ALONE, None]
        create(up, 1, user="a")
        create(up, 1, user="b")
        assert up.calls == 1
        second.undo()
        create(up, 2)
        create(up, 3)
        assert up.calls == 2
        first.undo()
        third.undo()


DAY_ALONE = Cache.memory(same=[DAY]).policy.same
USER_ALONE = Cache.memory(same=[ignore("user")]).policy.same


def test_a_hit_of_the_door_has_the_key_of_the_long_way(up: Upstream) -> None:
    """A request of every kind of rule, of streams and answers, with all that is encoded early."""
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}
        for name, properties in (("z", {"b": {"type": "string"}, "a": {}}), ("a", {}))
    ]
    many: Any = {"metadata": {"n": "1"}, "tools": tools, "extra_headers": {"x-run": "1"}}
    same = [*AGENTS, *STEERING, DAY, NUMBERS, ignore("headers.x-run")]
    for stream in (False, True):
        with Cache.memory(same=same) as cache, patch_openai():
            before = up.calls
            for day in (1, 2, 3):  # the door learns, foresees a miss of no entry, and serves
                shuffled = tools if day % 2 else tools[::-1]
                create(up, day, stream=stream, **{**many, "tools": shuffled})
            shapes = OPENAI._doors["create"]._shapes
            assert any(known is not None for known in shapes.values())
            assert up.calls == before + 1
            assert (cache.stats.hits, cache.stats.misses) == (2, 1)


def test_plain_http_comes_to_the_same_key(up: Upstream) -> None:
    name = "httpx" if importlib.util.find_spec("httpx") else "httpx2"
    http = importlib.import_module(name)

    def post(day: int) -> Any:
        system = {"role": "system", "content": f"Today is 2026-11-{day:02}."}
        messages = [system, {"role": "user", "content": "Who?"}]
        url = f"{up.base_url}/chat/completions"
        return http.post(url, json={"model": "m", "messages": messages}).raise_for_status()

    hosts = ["127.0.0.1:*"]
    with Cache.memory() as cache, patch_openai(same=[DAY]), patch_httpx(hosts=hosts, same=[DAY]):
        create(up, 1)
        post(2)
        create(up, 3)
        post(4)
    assert (up.calls, cache.stats.hits_by_rule) == (1, 3)


def messages_alone(request: dict[str, Any]) -> dict[str, Any]:
    return {"messages": request["body"]["messages"]}


def test_a_stream_stays_one_whatever_a_function_leaves(up: Upstream) -> None:
    with Cache.memory(same=[messages_alone]) as cache, patch_openai():
        for stream in (False, True) * 3:
            create(up, stream=stream, user=str(stream))
    assert (up.calls, cache.stats.hits, cache.stats.errors) == (2, 4, 0)


HI = [{"role": "user", "content": "on 2026-11-29, at 0x7f7f7f7f7f"}]
CALLED = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for one in "ab"
        ],
    },
    *({"role": "tool", "tool_call_id": one, "content": one} for one in "ba"),
]
BODIES: list[dict[str, Any]] = [
    {"messages": HI, "metadata": {"": "1", "$": "2", "a.b": "3", "!x": "4", "n": 2**70}},
    {"messages": HI, "metadata": {"!x": "2026-11-29"}, "user": "u", "temperature": 1.0},
    {"messages": [*HI, *CALLED], "logit_bias": {"1": -100}},
    {"messages": HI, "more": {"l": [{"n": None, "x": 1}, {"n": 1.5, "x": 2}], "t": [[["a"]]]}},
    {"messages": HI, "tools": [{"type": "function", "function": {"name": name, "parameters": {
        "properties": {"!tuple": {"type": "string"}, **more},
    }}} for name, more in (("z", {"x": {}}), ("a", {}))]},
]  # fmt: skip
OF_ALL_KINDS = [
    ignore("metadata.*", "more.l[n=null].x", "more.l[0]", "messages[-1].name"),
    ignore("tools[*].function.parameters.properties.x", "headers.*", "more.l[n!=1.5]"),
    replace(r"\d\d", "N", numbered=True),
    replace("a", "b", where=["messages[*].content", "tools", "$.body.more"]),
    *AGENTS,
]


def test_every_way_comes_to_the_same_key(up: Upstream) -> None:
    name = "httpx" if importlib.util.find_spec("httpx") else "httpx2"
    http = importlib.import_module(name)
    client = openai.OpenAI(base_url=up.base_url, api_key="none", max_retries=0)
    for body in BODIES:
        before = up.calls
        own = {name: value for name, value in body.items() if name != "more"}
        extra = {"more": body["more"]} if "more" in body else None
        hosts = ["127.0.0.1:*"]
        with Cache.memory(same=OF_ALL_KINDS) as cache, patch_openai(), patch_httpx(hosts=hosts):
            for _ in range(3):
                client.chat.completions.create(model="m", extra_body=extra, **own)
            client.chat.completions.with_raw_response.create(model="m", extra_body=extra, **own)
            http.post(f"{up.base_url}/chat/completions", json={"model": "m", **body})
        assert (up.calls - before, cache.stats.hits) == (1, 4), body
        assert not cache.stats.hits_by_rule  # the very same was asked


def test_rules_may_stand_in_a_file(up: Upstream, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[rule]]\nignore = 'user'\n")
    with Cache.memory(), patch_all(same=tmp_path / "rules.toml"):
        for user in "abc":
            create(up, user=user)
    assert up.calls == 1
    before = len(OPENAI.patches)
    for wrong in ("none.toml", 3, [3]):
        with pytest.raises(ConfigurationError):
            patch_openai(same=wrong)  # type: ignore[arg-type]
        assert len(OPENAI.patches) == before


def test_a_cache_that_is_gone_is_not_kept(up: Upstream) -> None:
    with patch_openai(same=[DAY]):
        for _ in range(3):
            with Cache.memory():
                create(up)
        gc.collect()
        assert len(OPENAI._default._served[1]) <= 1
