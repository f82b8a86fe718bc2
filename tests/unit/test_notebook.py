"""What a prompt or a notebook shows of objects, and what it offers at TAB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC
from collections.abc import Callable, Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol

import pytest

import cachewrap
from cachewrap import Cache, activate, blocks, llm_cached, notebook, patch_threads
from cachewrap.call.stats import Counts, Stats
from cachewrap.explain import Explanation, Near
from cachewrap.http.httpx import HTTPX
from cachewrap.http.patcher import Handle
from cachewrap.run import program
from cachewrap.telemetry.usage import Money

HOSTILE = '<img src=x onerror="alert(1)">&\'\u202e\x1b[1m\0</pre></table><script>alert(2)</script>'


class Read(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def shown(thing: Any) -> str:
    """The text of what a notebook shows of something, after a look at its elements."""
    html = thing._repr_html_()
    read = Read(html)
    assert read.open == []
    assert read.elements <= {"b", "br", "code", "div", "pre", "table", "td", "th", "tr"}
    assert read.attributes <= {"style"}
    assert "url(" not in html
    assert "http" not in html.replace(read.text, "")
    assert len(html) < 100_000
    return read.text


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is activated or patched, and the working folder is empty."""
    monkeypatch.setattr(program, "_patch_all", lambda: None)
    monkeypatch.chdir(tmp_path)
    yield
    while _held:
        _held.pop().undo()
    cachewrap.deactivate()
    blocks.serve_program(None)


@llm_cached
def ask(prompt: str, temperature: float = 0.0) -> str:
    return prompt.upper()


_held: list[Any] = []


def in_threads() -> Any:
    _held.append(patch_threads())
    return _held[-1]


def used() -> Cache:
    cache = Cache.memory(7)
    with cache:
        for prompt in ("a", "b", "a"):
            ask(prompt)
    return cache


def explained(prompt: str = "c") -> Explanation:
    with used():
        return ask.explain(prompt)


class Patched(Handle):
    """The handle of a patch that patches nothing."""

    def __init__(self, *libraries: str, active: bool = True, cache: Cache | None = None) -> None:
        self._libraries = libraries
        self._active = active
        self.cache = cache

    @property
    def active(self) -> bool:
        return self._active

    @property
    def libraries(self) -> tuple[str, ...]:
        return self._libraries

    def undo(self) -> None:
        self._active = False


REPRS = [
    pytest.param(lambda: Stats(), "Stats(no calls yet)", id="stats of nothing"),
    pytest.param(lambda: used().stats, "Stats(hits=1, misses=2, stored=2", id="stats"),
    pytest.param(lambda: Cache.disk(), "/.cache?cache_seed=41>", id="a cache on disk"),
    pytest.param(
        lambda: Cache.disk(None), "caches nothing, as its seed is None>", id="a cache of no seed"
    ),
    pytest.param(lambda: Cache.memory(7, ttl=60), "/7, ttl=60.0>", id="a cache with a ttl"),
    pytest.param(lambda: Cache.memory().mode("replay"), ", mode='replay'>", id="a cache in a mode"),
    pytest.param(lambda: ask, "<llm_cached ", id="a decorated function"),
    pytest.param(explained, "is not stored in memory://", id="an explanation of a miss"),
    pytest.param(explained, "; print it for 2 lines more>", id="that there is more"),
    pytest.param(lambda: explained("a"), "is stored in memory://", id="an explanation of a hit"),
    pytest.param(
        lambda: Explanation("", "", False, (), "memory://"),
        "<Explanation: the request is not stored in memory://",
        id="an explanation of nothing",
    ),
    pytest.param(
        lambda: Patched("json"), "<patch of json: cached in blocks>", id="what is patched"
    ),
    pytest.param(
        lambda: Patched("json", "not.there"),
        "<patch of json: cached in blocks; not.there: not imported yet>",
        id="what will be",
    ),
    pytest.param(
        lambda: Patched("json", cache=Cache.memory()),
        "<patch of json: cached in blocks, outside of them in memory://",
        id="what is cached outside of blocks",
    ),
    pytest.param(
        lambda: Patched("json", active=False), "<patch of json: undone>", id="what is undone"
    ),
    pytest.param(
        lambda: activate(Cache.memory()),
        "it serves this process until cachewrap.deactivate()>",
        id="what is activated",
    ),
    pytest.param(lambda: undone(activate(Cache.memory())), ": over>", id="what was activated"),
    pytest.param(lambda: undone(patch_threads()), "<patch of threads: undone>", id="threads"),
]


def undone(handle: Any) -> Any:
    handle.undo()
    return handle


@pytest.mark.parametrize(("make", "said"), REPRS)
def test_a_prompt_says_what_it_is(make: Callable[[], Any], said: str) -> None:
    assert said in repr(make())
    assert "\n" not in repr(make())


def test_the_patches_name_their_libraries() -> None:
    handle = HTTPX.patch(None, None, None, None, carry=False)
    try:
        assert handle.libraries == ("httpx", "httpx2")
    finally:
        handle.undo()
    assert repr(handle) == "<patch of httpx, httpx2: undone>"


def test_a_look_at_a_cache_writes_nothing(tmp_path: Path) -> None:
    for cache in (Cache.disk(), Cache.jsonl("answers.jsonl")):
        repr(cache), cache._repr_html_(), dir(cache)
    assert list(tmp_path.iterdir()) == []


HTML = [
    pytest.param(lambda: Stats(), "Stats no calls yet", id="stats of nothing"),
    pytest.param(
        lambda: used().stats, "3 calls: 1 from the cache; 2 asked upstream", id="what was counted"
    ),
    pytest.param(lambda: used().stats, "test_notebook:ask12", id="a row of a function"),
    pytest.param(lambda: used().stats.total, "Counts 3 calls: 1 from the cache", id="counts"),
    pytest.param(lambda: Counts(hits=1, tokens_in_saved=7), "saved 7 tokens", id="tokens"),
    pytest.param(lambda: Counts(hits=1, seconds_saved=7), "saved 7.0 s", id="seconds"),
    pytest.param(
        lambda: Money(Decimal("1234.5678"), Decimal("0.01234")),
        "$1,234.5678 saved, $0.0123 spent",
        id="money",
    ),
    pytest.param(
        lambda: Money(Decimal(1), Decimal(2), Decimal("0.3")),
        "spent; the provider's own cache took $0.3000 off what was spent",
        id="money that the provider's cache saved",
    ),
    pytest.param(lambda: used(), "seed 7 · 2 entries", id="a cache"),
    pytest.param(lambda: Cache.disk(), "seed 41 · 0 entries · serves calls inside", id="a new one"),
    pytest.param(lambda: Cache.disk(None), "caches nothing", id="a cache of no seed"),
    pytest.param(lambda: Cache.memory().mode("replay"), "mode replay", id="a cache in a mode"),
    pytest.param(explained, "is not stored", id="an explanation"),
    pytest.param(explained, "prompt: ", id="all of its lines"),
    pytest.param(lambda: Patched("json"), "patch of json: cached in blocks", id="a patch"),
    pytest.param(lambda: activate(Cache.memory()), "serves this process", id="an activation"),
    pytest.param(in_threads, "patch of threads: active blocks", id="threads"),
]


@pytest.mark.parametrize(("make", "said"), HTML)
def test_a_notebook_shows(make: Callable[[], Any], said: str) -> None:
    assert said in shown(make())


def test_it_shows_which_cache_serves_the_calls_here() -> None:
    cache = Cache.memory()
    with cache:
        assert "serves the calls that are made here" in shown(cache)
        assert "serves the calls" not in shown(Cache.memory())
    assert "serves the calls" not in shown(cache)
    activate(cache)
    assert "serves the calls that are made here" in shown(cache)


def test_many_entries_and_functions_are_not_all_counted() -> None:
    cache = Cache.memory()
    for number in range(notebook._COUNTED + 1):
        cache.store.set(f"{number:064x}", b"")
    counted = {"hits": 1, "reported": "", "model": ""}
    groups = [{**counted, "source": f"f{number}"} for number in range(100)]
    cache.stats.add({**Stats().as_dict(), "groups": groups})
    assert "more than 1,000 entries" in shown(cache)
    assert "… and 88 more" in shown(cache)


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be read" in shown(Cache.disk(cache_path_root=tmp_path / "file"))


def test_a_server_is_not_asked() -> None:
    cache = Cache.redis(redis_url="redis://user:secret@localhost:1/0")
    assert "secret" not in shown(cache) + repr(cache)
    assert "entries" not in shown(cache)


def hostile_stats() -> Stats:
    stats = Stats()
    counted = {"hits": 1, "source": HOSTILE, "reported": HOSTILE, "model": HOSTILE}
    told = {
        "groups": [counted],
        **{key: {HOSTILE: 1} for key in ("bypass_reasons", "unknown_hosts", "unstored_reasons")},
    }
    stats.add({**stats.as_dict(), **told})
    return stats


def hostile_cache() -> Cache:
    return Cache.jsonl("<b>&.jsonl", "<script>'\"")


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(hostile_stats, id="stats"),
        pytest.param(hostile_cache, id="a cache"),
        pytest.param(lambda: Patched(HOSTILE), id="a patch"),
        pytest.param(
            lambda: Explanation(HOSTILE, HOSTILE, False, (Near(HOSTILE, {}, (HOSTILE,)),), HOSTILE),
            id="an explanation",
        ),
        pytest.param(lambda: explained(HOSTILE), id="a prompt"),
        pytest.param(
            lambda: Explanation("x" * 10**6, "", True, (), "memory://"), id="a text without end"
        ),
    ],
)
def test_what_is_shown_is_harmless(thing: Callable[[], Any]) -> None:
    text = shown(thing())
    assert not set(text) & set("\u202e\x1b\x00")


def test_nothing_is_imported_before_a_notebook_asks() -> None:
    code = """
import json, sys
from cachewrap import Cache, activate, deactivate, llm_cached
cache = Cache.memory()
with cache:
    llm_cached(lambda text: text)("a")
repr(cache), repr(cache.stats), dir(cache), repr(activate(cache)), deactivate()
print(json.dumps([name in sys.modules for name in ("cachewrap.notebook", "html")]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(cachewrap.__file__).parents[1])},
    )
    assert json.loads(done.stdout)[0] is False


# -- TAB -------------------------------------------------------------------------------------------

MAKING = set("disk from_url jsonl memory redis".split())
USING = set(
    """
    aclose alias aliases check clear close delete entries explain get keys mode reseed run runs
    samples seed set store telling unalias url
    """.split()
)


def offered(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_a_cache_offers_what_users_need() -> None:
    assert offered(Cache) == MAKING | USING
    assert offered(Cache.memory()) == MAKING | USING | {"policy", "stats"}


class _Keeper(Protocol):
    def get(self, key: Any, default: Any = None) -> Any: ...


@pytest.mark.parametrize("base", [ABC, _Keeper], ids=["an abstract class", "a protocol"])
def test_a_cache_may_have_another_base(base: Any) -> None:
    class Named(Cache, base):  # type: ignore[misc]
        pass

    assert offered(Named.memory(7)) == offered(Cache.memory())


def test_what_is_not_offered_is_there() -> None:
    assert Cache.memory().sibling(8).seed == "8"
    assert callable(Cache.serve)


def test_stats_offer_what_was_counted() -> None:
    names = offered(Stats())
    assert {"hits", "misses", "by_model", "by_source", "money", "reset", "total"} <= names
    assert not any(name.startswith("count") for name in names)


class Client:
    @llm_cached
    def method(self, prompt: str) -> str:
        return prompt


@pytest.mark.parametrize("function", [ask, Client.method, Client().method])
def test_a_decorated_function_offers_what_it_can_beside_the_call(function: Any) -> None:
    assert {"cache_key", "explain", "invalidate", "uncached"} <= offered(function)
    assert "__call__" in dir(function)


def test_the_package_offers_its_public_names() -> None:
    names = offered(cachewrap)
    assert set(cachewrap.__all__) <= names
    assert names - set(cachewrap.__all__) <= {"integrations", "predicates", "testing"}
