"""`patch_openai` and `unpatch_openai`: what they change, when, and how they are undone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai._base_client import AsyncAPIClient, SyncAPIClient
from standin import Upstream

from cachewrap import Cache, patch_openai, unpatch_openai
from sdk.openai.asking import Colour
from sdk.openai.shapes import BY_NAME, chat

CHAT = BY_NAME["chat"]
STREAM = BY_NAME["chat-stream"]


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    """These tests patch for themselves."""
    unpatch_openai()
    yield
    unpatch_openai()
    openai._reset_client()


OWNERS = [
    SyncAPIClient,
    AsyncAPIClient,
    openai.OpenAI,
    openai.AsyncOpenAI,
    openai.resources.chat.Completions,
    openai.resources.chat.AsyncCompletions,
    openai.resources.Embeddings,
    openai.resources.Images,
    openai.resources.Moderations,
]


class Places:
    """What a patch of the SDK may replace, as it was when this was made."""

    def __init__(self) -> None:
        self._then = self._look()

    def _look(self) -> dict[tuple[type, str], Any]:
        found = {(owner, name): value for owner in OWNERS for name, value in vars(owner).items()}
        codes = {
            (owner, f"code of {name}"): value.__code__
            for (owner, name), value in found.items()
            if hasattr(value, "__code__")
        }
        return {**found, **codes}

    def changed(self) -> set[tuple[type, str]]:
        """What is no longer the same object: a wrapper equals what it wraps."""
        now = self._look()
        gone = object()
        names = self._then.keys() | now.keys()
        return {place for place in names if now.get(place, gone) is not self._then.get(place, gone)}


def calls_of_two(up: Upstream, colour: Colour, client: Any, cache: Cache) -> int:
    before = up.calls
    with cache:
        colour.ask(client, CHAT)
        colour.ask(client, CHAT)
    return up.calls - before


def test_without_the_patch_nothing_is_cached(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    assert calls_of_two(up, colour, client, cache) == 2


def test_unpatching_leaves_the_sdk_as_it_was() -> None:
    places = Places()
    patch_openai()
    assert places.changed()
    unpatch_openai()
    assert not places.changed()


def test_patching_twice_is_patching_once() -> None:
    places = Places()
    patch_openai()
    once = Places()
    patch_openai()
    assert not once.changed()
    unpatch_openai()
    assert not places.changed()


def test_unpatching_what_is_not_patched_does_nothing() -> None:
    places = Places()
    unpatch_openai()
    assert not places.changed()


def test_the_handle_undoes_the_patch_at_the_end_of_its_block(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    places = Places()
    with patch_openai():
        assert calls_of_two(up, colour, client, cache) == 1
    assert not places.changed()


def test_the_handle_undoes_the_patch_when_its_block_fails() -> None:
    places = Places()
    with pytest.raises(ZeroDivisionError), patch_openai():
        raise ZeroDivisionError
    assert not places.changed()


def test_clients_made_before_the_patch_are_cached(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    colour.ask(client, CHAT)
    patch_openai()
    assert calls_of_two(up, colour, client, cache) == 1


def test_resources_looked_up_before_the_patch_are_cached(
    up: Upstream, client: Any, colour: Colour, cache: Cache
) -> None:
    raw = client.chat.completions.with_raw_response.create
    plain = client.chat.completions.create
    patch_openai()
    with cache:
        for method in (plain, plain, raw, raw):
            colour.wait(method(**chat(1)))
    assert up.calls == 1


def test_the_module_level_client_made_before_the_patch_is_cached(up: Upstream) -> None:
    colour = Colour("sync")
    module = colour.client(up, "module")
    colour.ask(module, CHAT)
    patch_openai()
    assert calls_of_two(up, colour, module, Cache.memory()) == 1
    openai.api_key = openai.base_url = None
    colour.close()


def test_clients_made_under_the_patch_work_without_it(
    up: Upstream, colour: Colour, cache: Cache
) -> None:
    patch_openai()
    client = colour.client(up)
    calls_of_two(up, colour, client, cache)
    unpatch_openai()
    assert calls_of_two(up, colour, client, cache) == 2


def test_an_open_stream_survives_the_end_of_the_patch(up: Upstream, cache: Cache) -> None:
    patch_openai()
    with openai.OpenAI(base_url=up.base_url, api_key="k") as client, cache:
        stream = client.chat.completions.create(**STREAM.ask(1))
        first = next(iter(stream))
        unpatch_openai()
        assert len([first, *stream]) > 2


def test_without_the_patch_the_keywords_are_unknown(client: Any, cache: Cache) -> None:
    patch_openai()
    unpatch_openai()
    with pytest.raises(TypeError, match="cache_seed"):
        client.chat.completions.create(**chat(1), cache_seed=7).close()


def test_patched_methods_keep_name_and_documentation() -> None:
    create = openai.resources.chat.Completions.create
    before = create.__name__, create.__qualname__, create.__doc__
    patch_openai()
    create = openai.resources.chat.Completions.create
    assert (create.__name__, create.__qualname__, create.__doc__) == before


EARLY = """
import sys
import cachewrap

cachewrap.patch_openai()
from openai import OpenAI

with cachewrap.Cache.memory():
    client = OpenAI(base_url=sys.argv[1], api_key="k")
    for _ in range(2):
        client.chat.completions.create(model="m", messages=[], cache_seed=7)
"""


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_patch_may_come_before_the_import_of_the_sdk(up: Upstream) -> None:
    run(EARLY, up.base_url)
    assert up.calls == 1


ANEW = """
import sys
import openai
from cachewrap import Cache, patch_openai

patch_openai()
for name in [name for name in sys.modules if name.partition(".")[0] == "openai"]:
    del sys.modules[name]
import openai

patch_openai()
with Cache.memory():
    client = openai.OpenAI(base_url=sys.argv[1], api_key="k")
    for _ in range(2):
        client.chat.completions.create(model="m", messages=[], cache_seed=7)
"""


def test_patching_again_reaches_an_sdk_that_was_imported_anew(up: Upstream) -> None:
    run(ANEW, up.base_url)
    assert up.calls == 1


@pytest.mark.parametrize("name", ["openai", "redis", "diskcache", "pydantic"])
def test_importing_cachewrap_imports_no_client_library(name: str) -> None:
    program = f"import sys, cachewrap; print({name!r} in sys.modules)"
    assert run(program).strip() == "False"
