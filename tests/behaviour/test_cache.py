"""`Cache`: blocks, seeds, the plain key-value side, and what crosses threads and processes."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import elsewhere
import pytest

from cachewrap import (
    Cache,
    CacheWarning,
    ConfigurationError,
    StoreError,
    UnkeyableError,
    active_cache,
    llm_cached,
    no_cache,
)
from cachewrap.call.terms import ValueExchange
from cachewrap.format.envelope import unseal
from cachewrap.policy import make_policy
from cachewrap.request.key import encode
from cachewrap.stores.memory import MemoryStore


class TestBlocks:
    def test_outside_any_block_nothing_is_active(self) -> None:
        assert active_cache() is None

    def test_a_block_makes_its_cache_active_until_it_ends(self) -> None:
        with Cache.memory() as cache:
            assert active_cache() is cache
        assert active_cache() is None

    def test_the_innermost_block_wins(self) -> None:
        with Cache.memory() as outer:
            with Cache.memory() as inner:
                assert active_cache() is inner
            assert active_cache() is outer

    def test_a_block_can_be_entered_inside_itself(self) -> None:
        with Cache.memory() as cache:
            with cache, no_cache(), cache:
                assert active_cache() is cache
            assert active_cache() is cache

    def test_an_error_leaves_the_block(self) -> None:
        with contextlib.suppress(ZeroDivisionError), Cache.memory():
            1 / 0  # noqa: B018
        assert active_cache() is None

    def test_no_cache_hides_the_block_around_it(self) -> None:
        with Cache.memory(), no_cache():
            assert active_cache() is None

    def test_async_with_does_the_same(self) -> None:
        async def inside() -> bool:
            async with Cache.memory() as cache:
                return active_cache() is cache

        assert asyncio.run(inside())

    def test_tasks_inherit_the_block_and_do_not_share_their_own(self) -> None:
        async def own() -> bool:
            with Cache.memory() as mine:
                await asyncio.sleep(0)
                return active_cache() is mine

        async def inside() -> list[bool]:
            with Cache.memory() as block:

                async def inherited() -> bool:
                    return active_cache() is block

                return await asyncio.gather(own(), own(), inherited())

        assert asyncio.run(inside()) == [True, True, True]

    def test_a_block_left_in_another_context_than_it_was_entered_in(self) -> None:
        cache = Cache.memory()
        ran = []

        def leave() -> None:
            cache.__exit__(None, None, None)
            ran.append(active_cache())

        cache.__enter__()
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        cache.__exit__(None, None, None)
        assert (ran, active_cache()) == ([None], None)


@pytest.mark.store
class TestStoresBehindABlock:
    def test_used_after_the_block_the_store_opens_again(self, cache: Cache) -> None:
        with cache:
            cache.set("key", "value")
        assert cache.get("key") == "value"
        with cache:
            assert cache.get("key") == "value"

    def test_use_after_close(self, cache: Cache) -> None:
        cache.set("key", "value")
        cache.close()
        assert cache.get("key") == "value"

    def test_sixteen_threads_enter_and_use_one_cache_at_once(self, cache: Cache) -> None:
        barrier = threading.Barrier(16)

        def work(number: int) -> list[object]:
            barrier.wait()
            seen: list[object] = []
            for turn in range(5):
                with cache as entered:
                    entered.set(f"key {number} {turn}", number)
                    seen.append(entered.get(f"key {number} {turn}"))
            return seen

        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(work, range(16)))
        assert results == [[number] * 5 for number in range(16)]
        assert cache.stats.errors == 0

    def test_sixteen_threads_call_one_decorated_function(self, cache: Cache) -> None:
        @llm_cached
        def complete(prompt: str) -> str:
            return f"{prompt} {os.urandom(4).hex()}"

        def work(_: int) -> str:
            with cache:
                return complete("hi")

        with ThreadPoolExecutor(16) as pool:
            answers = set(pool.map(work, range(64)))
        assert (len(answers), cache.stats.errors) == (1, 0)

    def test_several_event_loops_in_a_row(self, cache: Cache) -> None:
        @llm_cached
        async def complete(prompt: str) -> str:
            return f"{prompt} {os.urandom(4).hex()}"

        async def ask() -> str:
            async with cache:
                return await complete("hi")

        assert len({asyncio.run(ask()) for _ in range(3)}) == 1

    def test_another_seed_is_another_partition_of_the_same_store(self, cache: Cache) -> None:
        other = cache.reseed("another")
        cache.set("key", "mine")
        other.set("key", "its")
        assert (cache.get("key"), other.get("key")) == ("mine", "its")
        assert cache.reseed("another").get("key") == "its"

    def test_clear_removes_this_partition_only(self, cache: Cache) -> None:
        other = cache.reseed("another")
        cache.set("one", 1)
        cache.set("two", 2)
        other.set("one", 1)
        assert cache.clear() == 2
        assert (list(cache.keys()), list(other.keys())) == ([], ["one"])


@pytest.mark.store
class TestAcrossProcesses:
    @pytest.mark.shared
    @pytest.mark.parametrize(
        "method", ["spawn", pytest.param("fork", marks=pytest.mark.posix("forks"))]
    )
    def test_a_cache_travels_to_another_process(self, cache: Cache, method: str) -> None:
        cache.set("key", {"from": "parent"})
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(elsewhere.swap, cache).result(60) == {"from": "parent"}
        assert cache.get("key") == {"from": "child"}

    def test_a_pickled_cache_keeps_its_seed_and_policy(self, cache: Cache) -> None:
        copy = pickle.loads(pickle.dumps(cache))
        assert (copy.seed, copy.policy) == (cache.seed, cache.policy)

    @pytest.mark.posix("forks")
    def test_a_fork_inside_a_block(self, cache: Cache) -> None:
        with cache:
            cache.set("key", "value")
            child = os.fork()
            if not child:
                os._exit(0 if cache.get("key") == "value" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert cache.get("key") == "value"


@pytest.mark.store
class TestPlainKeyValues:
    @pytest.mark.parametrize(
        "value", ["text", b"bytes", None, 1, 1.5, ("tuple", 2), {"a": [1]}, SimpleNamespace(cost=1)]
    )
    def test_what_is_set_is_got(self, cache: Cache, value: object) -> None:
        cache.set("key", value)
        got = cache.get("key", "default")
        assert (got, type(got)) == (value, type(value))

    def test_a_missing_key_gives_the_default(self, cache: Cache) -> None:
        assert (cache.get("key"), cache.get("key", 7)) == (None, 7)

    def test_set_replaces(self, cache: Cache) -> None:
        cache.set("key", "old")
        cache.set("key", "new")
        assert cache.get("key") == "new"

    def test_delete_tells_whether_it_was_there(self, cache: Cache) -> None:
        cache.set("key", "value")
        assert (cache.delete("key"), cache.delete("key"), cache.get("key")) == (True, False, None)

    def test_keys_are_those_that_were_given(self, cache: Cache) -> None:
        long = "x" * 100_000
        given = {"", "key", "ключ", "a/b:{c}*", long}
        for key in given:
            cache.set(key, 1)
        assert set(cache.keys()) == given

    def test_what_a_caller_does_to_a_value_stays_with_that_caller(self, cache: Cache) -> None:
        value = {"list": [1]}
        cache.set("key", value)
        value["list"].append(2)
        cache.get("key")["list"].append(3)
        assert cache.get("key") == {"list": [1]}

    def test_an_empty_cache_is_true(self, cache: Cache) -> None:
        assert cache

    def test_a_value_that_no_codec_takes_costs_a_warning(self, cache: Cache) -> None:
        with pytest.warns(CacheWarning, match="object"):
            cache.set("key", object())
        assert cache.get("key") is None

    def test_a_key_is_anything_with_a_canonical_form(self, cache: Cache) -> None:
        cache.set({"model": "m", "messages": [1]}, "value")
        assert cache.get({"messages": [1], "model": "m"}) == "value"
        assert cache.get({"messages": [1.0], "model": "m"}) is None
        (key,) = cache.keys()
        assert cache.get(key) == "value"

    def test_a_key_without_a_canonical_form_is_an_error(self, cache: Cache) -> None:
        with pytest.raises(UnkeyableError, match="the key is a object"):
            cache.set(object(), "value")


def test_a_value_goes_stale_after_its_ttl() -> None:
    cache = Cache.memory()
    cache.set("soon", 1, ttl=1e-9)
    cache.set("later", 2, ttl=60)
    assert (cache.get("soon"), cache.get("later")) == (None, 2)


def test_the_caches_ttl_is_the_default() -> None:
    cache = Cache.memory(ttl=1e-9)
    cache.set("soon", 1)
    cache.set("never", 2, ttl=None)
    assert (cache.get("soon"), cache.get("never")) == (None, 2)


def test_a_cache_without_a_seed_keeps_nothing() -> None:
    cache = Cache.memory(cache_seed=None)
    cache.set("key", "value")
    assert (cache.get("key", "default"), list(cache.keys()), cache.clear()) == ("default", [], 0)


def test_a_cache_without_a_seed_writes_nothing(tmp_path: Path) -> None:
    with Cache.disk(cache_seed=None, cache_path_root=tmp_path / "root") as cache:
        cache.set("key", "value")
    assert list(tmp_path.iterdir()) == []


def test_requests_can_be_left_out_of_the_store() -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return "answer"

    kept, bare = MemoryStore(), MemoryStore()
    with Cache(kept):
        complete("the secret prompt")
    with Cache(bare, store_requests=False):
        complete("the secret prompt")
    (kept_key,), (bare_key,) = kept.keys(), bare.keys()
    assert kept_key == bare_key
    assert b"the secret prompt" in _request(kept.get(kept_key))
    assert _request(bare.get(bare_key)) == b""


def test_keys_given_to_set_can_be_left_out_of_the_store() -> None:
    bare = MemoryStore()
    cache = Cache(bare, store_requests=False)
    cache.set("the secret prompt", "answer")
    (stored,) = bare.keys()
    assert _request(bare.get(stored)) == b""
    assert list(cache.keys()) == [stored]
    assert cache.get("the secret prompt") == cache.get(stored) == "answer"


def _request(raw: bytes | None) -> bytes:
    assert raw is not None
    request: bytes = unseal(raw).read_record()["request"]
    return request


class BrokenStore(MemoryStore):
    """A store whose every operation fails."""

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise StoreError("the disk is on fire")

    get = add = set = _fail  # type: ignore[assignment]


class TestAStoreThatFails:
    def test_a_call_goes_on_with_one_warning(self) -> None:
        calls = iter("ab")

        @llm_cached
        def complete(prompt: str) -> str:
            return next(calls)

        with Cache(BrokenStore()) as cache, pytest.warns(CacheWarning, match="on fire") as warned:
            assert [complete("hi"), complete("hi")] == ["a", "b"]
        assert len(warned) == 1
        assert (cache.stats.misses, cache.stats.stored, cache.stats.errors) == (2, 0, 6)

    def test_get_gives_the_default_and_set_goes_on(self) -> None:
        cache = Cache(BrokenStore())
        with pytest.warns(CacheWarning, match="on fire"):
            cache.set("key", "value")
        assert cache.get("key", "default") == "default"


def test_stats_count_tokens_and_seconds_saved() -> None:
    @llm_cached
    def complete(prompt: str) -> dict[str, Any]:
        return {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}

    with Cache.memory() as cache:
        for _ in range(3):
            complete("hi")
    assert (cache.stats.tokens_saved, cache.stats.hits) == (14, 2)
    assert cache.stats.seconds_saved > 0


class TestFromUrl:
    def test_disk_with_an_absolute_folder(self, tmp_path: Path) -> None:
        cache = Cache.from_url(f"disk://{tmp_path}?cache_seed=7")
        cache.set("key", "value")
        assert (tmp_path / "7").is_dir()

    def test_disk_with_a_relative_folder(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)
        Cache.from_url("disk:here").set("key", "value")
        assert (tmp_path / "here" / "41").is_dir()

    def test_memory_with_options(self) -> None:
        cache = Cache.from_url("memory://?cache_seed=7&ttl=60&store_requests=false")
        assert (cache.seed, cache.policy.ttl, cache.policy.store_requests) == ("7", 60.0, False)

    def test_redis_keeps_the_options_of_its_client(self) -> None:
        cache = Cache.from_url("redis://user:secret@localhost:7000/2?cache_seed=7&socket_timeout=2")
        assert cache.seed == "7"
        assert "secret" not in repr(cache)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://user:secret@localhost:7000/2",
            "redis://",
            "redis:///2",
            "redis://?db=2",
            "rediss://host",
            "unix:///run/redis.sock",
            "unix:///run/redis.sock?db=2",
            "unix://user:secret@/run/redis.sock",
            "redis+cluster://one:7000,two:7000",
            "redis+sentinel://one:7000,two:7000/service/2",
        ],
    )
    def test_a_server_is_the_one_that_the_redis_url_names(self, url: str) -> None:
        cache = Cache.from_url(url)
        assert cache.url == Cache.redis(redis_url=url).url
        assert Cache.from_url(cache.url).url == cache.url

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("ftp://host", "ftp"),
            ("plain text", "scheme"),
            ("disk://", "folder"),
            ("disk:///x?colour=red", "colour"),
            ("memory://?ttl=soon", "ttl"),
            ("redis:6379", "Redis URL"),
            ("jsonl:a.jsonl?max_bytes=1", "max_bytes"),
            ("memory://?store_requests=maybe", "true or false"),
            ("memory://?wait_seconds=long", "wait_seconds"),
            ("memory://?wait_seconds=0", "positive"),
        ],
    )
    def test_what_cannot_be_is_a_clear_error(self, url: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            Cache.from_url(url)


@pytest.mark.parametrize("make", [Cache.from_url, lambda url: Cache.redis(redis_url=url)])
@pytest.mark.parametrize("url", [5, None, b"redis://localhost", Path("folder")], ids=repr)
def test_a_url_that_is_no_text_is_an_error(make: Any, url: Any) -> None:
    with pytest.raises(ConfigurationError, match="is text, got"):
        make(url)


@pytest.mark.parametrize("name", ["samples", "store_requests", "single_flight", "stream_leases"])
@pytest.mark.parametrize("value", ["maybe", "false", 1, None], ids=repr)
def test_what_is_on_or_off_is_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be true or false, got {value!r}"):
        Cache.memory(**{name: value})


@pytest.mark.parametrize(
    "name", ["lease_seconds", "wait_seconds", "store_seconds", "breaker_seconds"]
)
class TestWaits:
    @pytest.mark.parametrize("value", [5, 5.0, timedelta(seconds=5)], ids=repr)
    def test_they_are_seconds(self, name: str, value: Any) -> None:
        assert getattr(Cache.memory(**{name: value}).policy, name) == 5.0
        assert getattr(Cache.from_url(f"memory://?{name}=5").policy, name) == 5.0

    @pytest.mark.parametrize(
        "value", [0, -1, inf, nan, "5", True, pytest.param(10**400, id="no float")], ids=repr
    )
    def test_they_are_positive_and_finite(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=name):
            Cache.memory(**{name: value})

    def test_none_is_the_default(self, name: str, tmp_path: Path) -> None:
        """Also for a store that waits itself, which would otherwise count with it."""
        usual = getattr(Cache.memory().policy, name)
        for cache in (
            Cache.memory(**{name: None}),
            Cache.disk(cache_path_root=tmp_path, **{name: None}),
            Cache.jsonl(tmp_path / "answers.jsonl", **{name: None}),
            Cache.redis(redis_url="redis://127.0.0.1:1/0", **{name: None}),
        ):
            assert getattr(cache.policy, name) == usual

    @pytest.mark.parametrize("value", [1e10, 1e308], ids=repr)
    def test_no_system_is_told_more_than_it_counts(
        self, name: str, value: float, tmp_path: Path
    ) -> None:
        @llm_cached
        def ask(number: int) -> int:
            return number

        for cache in (
            Cache.memory(**{name: value}),
            Cache.disk(cache_path_root=tmp_path, **{name: value}),
            Cache.jsonl(tmp_path / "answers.jsonl", **{name: value}),
        ):
            with cache:
                assert [ask(1), ask(1)] == [1, 1]
            assert cache.stats.hits == 1
            cache.close()

    def test_hits_depend_on_their_requests_alone(self, name: str) -> None:
        assert Cache.memory(**{name: 5}).policy.hits_by_key

    def test_they_travel_with_the_cache(self, name: str) -> None:
        cache = pickle.loads(pickle.dumps(Cache.memory(**{name: 5})))
        assert getattr(cache.policy, name) == 5.0


@pytest.mark.parametrize("seed", [1.5, "", True, b"x"])
def test_a_seed_that_cannot_be_is_an_error(seed: Any) -> None:
    with pytest.raises(ConfigurationError, match="seed"):
        Cache.memory(cache_seed=seed)


def test_an_int_seed_and_its_text_are_one_seed(tmp_path: Path) -> None:
    Cache.disk(7, tmp_path).set("key", "value")
    assert Cache.disk("7", tmp_path).get("key") == "value"


def test_a_block_on_a_folder_that_cannot_be_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="file"), Cache.disk(cache_path_root=tmp_path / "file"):
        pytest.fail("the block ran")


def test_counting_in_many_threads_loses_nothing() -> None:
    @llm_cached
    def complete(prompt: str) -> str:
        return prompt

    with Cache.memory() as cache:
        complete("hi")

        def work(_: int) -> None:
            for _ in range(200):
                complete("hi", cache=cache)

        with ThreadPoolExecutor(8) as pool:
            collections.deque(pool.map(work, range(8)), maxlen=0)
    assert cache.stats.hits == 1600


def test_names_that_are_keyed_may_come_from_a_url() -> None:
    cache = Cache.from_url("memory://?keyed=OpenAI-Organization,x-tenant-key")
    assert cache.policy.keyed == {"openai-organization", "x-tenant-key"}


@pytest.mark.parametrize("names", [[""], [7], ["x-tenant", None]])
def test_a_name_that_cannot_be_keyed_is_an_error(names: Any) -> None:
    with pytest.raises(ConfigurationError, match="keyed"):
        Cache.memory(keyed=names)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        pytest.param(lambda: Cache.memory(), set(), id="none"),
        pytest.param(lambda: Cache.memory(unkeyed=["X-A", "runId"]), {"x-a", "runid"}, id="list"),
        pytest.param(lambda: Cache.memory(unkeyed="X-Trace"), {"x-trace"}, id="text"),
        pytest.param(
            lambda: Cache.from_url("memory://?unkeyed=X-Trace,run"), {"x-trace", "run"}, id="url"
        ),
        pytest.param(lambda: Cache.from_url("memory://?unkeyed="), set(), id="url without any"),
        pytest.param(lambda: Cache.memory(unkeyed=["a"]).mode("replay"), {"a"}, id="another mode"),
        pytest.param(lambda: Cache.memory(unkeyed=["a"]).reseed(7), {"a"}, id="another seed"),
        pytest.param(
            lambda: pickle.loads(pickle.dumps(Cache.memory(unkeyed=["a"]))), {"a"}, id="pickled"
        ),
    ],
)
def test_names_may_be_left_out_of_keys(make: Any, names: set[str]) -> None:
    assert make().policy.unkeyed == names


@pytest.mark.parametrize(
    ("make", "names"),
    [
        pytest.param(lambda: Cache.memory(), {"x-trace", "run"}, id="not told"),
        pytest.param(lambda: Cache.from_url("memory://"), {"x-trace", "run"}, id="by url"),
        pytest.param(lambda: Cache.memory(unkeyed=["a"]), {"a"}, id="told"),
        pytest.param(lambda: Cache.memory(unkeyed=[]), set(), id="told none"),
    ],
)
def test_a_cache_that_is_not_told_leaves_out_what_the_environment_names(
    make: Any, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_UNKEYED", " X-Trace, run,")
    assert make().policy.unkeyed == names


@pytest.mark.parametrize("names", ["x-a,x-b", ["x-a, x-b"], [" x-a"], ["x-*"]], ids=str)
@pytest.mark.parametrize("option", ["keyed", "unkeyed"])
def test_what_is_no_name_by_itself_is_an_error(option: str, names: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf'{option} takes whole names.*\["x-a", "x-b"\]'):
        Cache.memory(**{option: names})


@pytest.mark.parametrize("names", [[""], [7], ["x-tenant", None], 7, b"x"])
def test_a_name_that_cannot_be_left_out_is_an_error(names: Any) -> None:
    with pytest.raises(ConfigurationError, match="unkeyed takes the names"):
        Cache.memory(unkeyed=names)


@pytest.mark.parametrize(
    "name", "model messages Input prompt system systemInstruction tools stream".split()
)
def test_what_is_asked_cannot_be_left_out(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unkeyed= cannot leave out '{name.lower()}'"):
        Cache.memory(unkeyed=["x-trace", name])


def test_what_is_asked_cannot_be_left_out_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CACHEWRAP_UNKEYED", "messages")
    with pytest.raises(ConfigurationError, match="CACHEWRAP_UNKEYED cannot leave out 'messages'"):
        Cache.memory()


def test_a_name_either_counts_or_does_not() -> None:
    with pytest.raises(ConfigurationError, match="keyed= and unkeyed= both name 'x-tenant'"):
        Cache.memory(keyed=["X-Tenant", "a"], unkeyed=["x-tenant", "b"])


def test_a_body_is_explained_without_what_the_cache_leaves_out() -> None:
    store = MemoryStore("41")
    body = {"model": "m", "messages": [], "run": "1"}
    request = {"url": "u", "headers": {"x-trace": "1"}, "query": {"run": "1"}, "body": body}
    plain = {"url": "u", "body": {"model": "m", "messages": []}}
    exchange = ValueExchange(make_policy({}), "s", encode(plain))
    cache = Cache(store, unkeyed=["run", "X-Trace"])
    cache.serve(exchange, lambda: "answer")
    assert [near.diff for asked in (request, body) for near in cache.explain(asked).nearest] == [
        (),
        (),
    ]
    assert Cache(store).explain(request).nearest[0].diff != ()


class Raced(dict[Any, Any]):
    """A dictionary of which another thread always removes first what one is about to."""

    def pop(self, key: Any, *default: Any) -> Any:
        super().pop(key, None)
        return super().pop(key, *default)


def test_a_sibling_that_another_thread_let_go_is_no_error() -> None:
    cache = Cache.memory()
    cache._siblings = Raced()
    assert [cache.sibling(seed).seed for seed in range(100, 140)] == [
        str(seed) for seed in range(100, 140)
    ]
