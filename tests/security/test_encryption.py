"""Encryption at rest: what a store holds, and what becomes of what it should not hold."""

from __future__ import annotations

import base64
import os
import pickle
import subprocess
import sys
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sdk.openai.asking import Colour
from sdk.openai.shapes import chat
from standin import Upstream

from cachewrap import Cache, CacheWarning, ConfigurationError, llm_cached
from cachewrap.encryption import VARIABLE, generate_key, read_keys
from cachewrap.entry import Facts, Kind
from cachewrap.errors import CorruptEntryError
from cachewrap.format.envelope import seal
from cachewrap.format.sealing import AesGuard, Guard
from cachewrap.stores.base import Store
from cachewrap.stores.memory import MemoryStore
from security.conftest import Dump

NEW, OLD, OTHER = (bytes([n]) * 32 for n in (1, 2, 3))
KEY, ELSEWHERE = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


# -- keys -----------------------------------------------------------------------------------------


SIXTEEN = bytes(range(250, 256)) * 2 + b"\x00\x01\x02\x03"

TEXTS = {
    "hexadecimal": (SIXTEEN.hex(), SIXTEEN),
    "capital hexadecimal": ((b"\xab" * 24).hex().upper(), b"\xab" * 24),
    "urlsafe Base64": (base64.urlsafe_b64encode(SIXTEEN).decode(), SIXTEEN),
    "standard Base64": (base64.b64encode(SIXTEEN).decode(), SIXTEEN),
    "Base64 without padding": (base64.urlsafe_b64encode(OLD).decode().rstrip("="), OLD),
    "Base64 as long as hexadecimal": (
        base64.urlsafe_b64encode(b"\xff" * 24).decode(),
        b"\xff" * 24,
    ),
}


@pytest.mark.parametrize(("text", "key"), TEXTS.values(), ids=TEXTS)
def test_a_key_as_text(text: str, key: bytes) -> None:
    assert read_keys(text) == (key,)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_a_key_as_bytes(size: int) -> None:
    assert read_keys(b"k" * size) == (b"k" * size,)


def test_several_keys_keep_their_order() -> None:
    assert read_keys([NEW, OLD.hex()]) == (NEW, OLD)
    assert read_keys(f"{NEW.hex()}, {OLD.hex()}") == (NEW, OLD)


def test_generated_keys_differ_and_are_of_256_bits() -> None:
    keys = read_keys([generate_key() for _ in range(10)])
    assert {len(key) for key in keys} == {32}
    assert len(set(keys)) == 10


BAD: dict[str, Any] = {
    "of no size": b"s3cr3t" * 3,
    "a passphrase": "s3cr3t passphrase",
    "text of no size": base64.b64encode(b"s3cr3t" * 3).decode(),
    "not ASCII": "s3cr3t-é" * 4,
    "hexadecimal of no size": (b"s3cr3t" * 3).hex(),
    "empty text": "",
    "an empty part": f"{NEW.hex()},",
    "an empty list": [],
    "a number": 5,
    "a list of numbers": [1] * 16,
}


@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
def test_a_key_that_is_none_is_refused_without_being_repeated(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="encryption") as caught:
        Cache.memory(encryption_key=key)
    shown = f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "s3cr3t" not in shown and (b"s3cr3t" * 3).hex() not in shown


class TestTheEnvironment:
    def test_gives_the_key_of_caches_that_are_given_none(self, monkeypatch: Any) -> None:
        monkeypatch.setenv(VARIABLE, f"{NEW.hex()},{OLD.hex()}")
        assert Cache.memory().policy.encryption_keys == (NEW, OLD)
        assert Cache.from_url("memory://").policy.encryption_keys == (NEW, OLD)

    def test_is_overridden_by_the_option(self, monkeypatch: Any) -> None:
        monkeypatch.setenv(VARIABLE, NEW.hex())
        assert Cache.memory(encryption_key=OLD).policy.encryption_keys == (OLD,)
        assert Cache.memory(encryption_key=None).policy.encryption_keys == ()

    def test_counts_as_not_set_where_it_is_empty(self, monkeypatch: Any) -> None:
        monkeypatch.setenv(VARIABLE, "")
        assert Cache.memory().policy.encryption_keys == ()

    def test_is_named_where_it_holds_no_key(self, monkeypatch: Any) -> None:
        monkeypatch.setenv(VARIABLE, "s3cr3t")
        with pytest.raises(ConfigurationError, match=VARIABLE) as caught:
            Cache.memory()
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://?", "disk:?", "redis://localhost/0?cache_seed=1&"])
def test_a_url_takes_no_key(url: str) -> None:
    with pytest.raises(ConfigurationError, match=VARIABLE) as caught:
        Cache.from_url(f"{url}encryption_key={NEW.hex()}")
    assert NEW.hex() not in str(caught.value)


def test_no_face_of_a_cache_shows_its_key() -> None:
    cache = Cache.memory(encryption_key=NEW)
    shown = f"{cache!r} {cache.policy!r} {cache.url} {cache.stats!r} {cache._terms!r}"
    assert NEW.hex() not in shown and repr(NEW)[2:-1] not in shown


def test_without_cryptography_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import cachewrap\n"
        "cachewrap.Cache.memory().set('k', 'v')\n"
        "try: cachewrap.Cache.memory(encryption_key=b'k' * 16)\n"
        "except cachewrap.ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'cachewrap[encryption]'" in done.stdout


def test_cryptography_is_imported_only_where_it_is_used() -> None:
    code = (
        "import sys, cachewrap\n"
        "cachewrap.Cache.memory().set('k', 'v')\n"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- the guard ------------------------------------------------------------------------------------


def envelope(answer: bytes = b"answer") -> bytes:
    return seal(Kind.TEXT, answer, b"request", Facts(created=1.0, seconds=2.0))


def aes(*keys: bytes, seed: str = "41") -> AesGuard:
    return AesGuard(keys, seed)


def test_what_was_closed_is_opened() -> None:
    guard = aes(NEW)
    entry = guard.unseal(KEY, guard.close(KEY, envelope()))
    assert (entry.answer, entry.read_record()["request"]) == (b"answer", b"request")


@pytest.mark.parametrize("size", [16, 24, 32])
def test_every_size_of_key_works(size: int) -> None:
    guard = aes(b"k" * size)
    assert guard.unseal(KEY, guard.close(KEY, envelope())).answer == b"answer"


def test_equal_envelopes_are_never_stored_as_equal_bytes() -> None:
    guard = aes(NEW)
    assert len({guard.close(KEY, envelope()) for _ in range(100)}) == 100


def test_the_first_key_writes_and_all_read() -> None:
    old, rotated, new = aes(OLD), aes(NEW, OLD), aes(NEW)
    assert rotated.unseal(KEY, old.close(KEY, envelope())).answer == b"answer"
    assert new.unseal(KEY, rotated.close(KEY, envelope())).answer == b"answer"
    with pytest.raises(CorruptEntryError, match="key that this cache does not have"):
        old.unseal(KEY, rotated.close(KEY, envelope()))


def test_every_changed_byte_is_told() -> None:
    guard = aes(NEW, OLD)
    raw = guard.close(KEY, envelope())
    for place in range(len(raw)):
        for change in (0x01, 0x80):
            damaged = bytearray(raw)
            damaged[place] ^= change
            with pytest.raises(CorruptEntryError):
                guard.unseal(KEY, bytes(damaged))


def test_every_truncation_and_extension_is_told() -> None:
    guard = aes(NEW)
    raw = guard.close(KEY, envelope())
    for end in range(len(raw)):
        with pytest.raises(CorruptEntryError):
            guard.unseal(KEY, raw[:end])
    with pytest.raises(CorruptEntryError):
        guard.unseal(KEY, raw + b"\0")


PUT_ELSEWHERE: dict[str, tuple[Guard, str]] = {
    "under another key": (aes(NEW), ELSEWHERE),
    "in the partition of another seed": (aes(NEW, seed="42"), KEY),
    "where seed and key join alike": (aes(NEW, seed="4"), f"1{KEY}"),
}


@pytest.mark.parametrize(("guard", "key"), PUT_ELSEWHERE.values(), ids=PUT_ELSEWHERE)
def test_an_entry_cannot_be_read(guard: Guard, key: str) -> None:
    raw = aes(NEW).close(KEY, envelope())
    with pytest.raises(CorruptEntryError, match="put in the place of another"):
        guard.unseal(key, raw)


def test_plain_and_encrypted_entries_are_told_apart() -> None:
    with pytest.raises(CorruptEntryError, match="is encrypted, and this cache has no key"):
        Guard().unseal(KEY, aes(NEW).close(KEY, envelope()))
    with pytest.raises(CorruptEntryError, match="is not encrypted, and this cache has a key"):
        aes(NEW).unseal(KEY, Guard().close(KEY, envelope()))


def test_a_later_format_is_told() -> None:
    raw = bytearray(aes(NEW).close(KEY, envelope()))
    raw[3] += 1
    with pytest.raises(CorruptEntryError, match="in a way that this cachewrap does not know"):
        aes(NEW).unseal(KEY, bytes(raw))


# -- caches: every store, every way in, both colours ----------------------------------------------


class Way:
    """One way to have an answer cached: it asks for a prompt, and counts upstream's calls."""

    def __init__(self, ask: Callable[[str], str], calls: Callable[[], int]) -> None:
        self.ask = ask
        self.calls = calls


def decorated(colour: Colour, up: Upstream) -> Way:
    prompts: list[str] = []

    @llm_cached
    def complete(prompt: str) -> str:
        prompts.append(prompt)
        return f"{len(prompts)}: {prompt[::-1]}"

    @llm_cached
    async def acomplete(prompt: str) -> str:
        prompts.append(prompt)
        return f"{len(prompts)}: {prompt[::-1]}"

    function: Callable[[str], Any] = complete if colour.name == "sync" else acomplete
    return Way(lambda prompt: str(colour.wait(function(prompt))), lambda: len(prompts))


def generator(colour: Colour, up: Upstream) -> Way:
    prompts: list[str] = []

    @llm_cached
    def complete(prompt: str) -> Iterator[str]:
        prompts.append(prompt)
        yield f"{len(prompts)}: "
        yield prompt[::-1]

    @llm_cached
    async def acomplete(prompt: str) -> Any:
        prompts.append(prompt)
        yield f"{len(prompts)}: "
        yield prompt[::-1]

    async def read(prompt: str) -> str:
        return "".join([item async for item in acomplete(prompt)])

    def ask(prompt: str) -> str:
        return "".join(complete(prompt)) if colour.name == "sync" else colour.wait(read(prompt))

    return Way(ask, lambda: len(prompts))


def sdk(colour: Colour, up: Upstream) -> Way:
    client = colour.client(up)

    def ask(prompt: str) -> str:
        request = chat(1) | {"messages": [{"role": "user", "content": prompt}]}
        completion = colour.wait(client.chat.completions.create(**request))
        return str(completion.choices[0].message.content)

    return Way(ask, lambda: up.calls)


def sdk_stream(colour: Colour, up: Upstream) -> Way:
    client = colour.client(up)

    async def aread(opened: Awaitable[Any]) -> list[Any]:
        return [chunk async for chunk in await opened]

    def ask(prompt: str) -> str:
        request = chat(1, stream=True) | {"messages": [{"role": "user", "content": prompt}]}
        opened = client.chat.completions.create(**request)
        chunks = list(opened) if colour.name == "sync" else colour.wait(aread(opened))
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    return Way(ask, lambda: up.calls)


WAYS = {way.__name__: way for way in (decorated, generator, sdk, sdk_stream)}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, colour: Colour, up: Upstream) -> Way:
    return WAYS[request.param](colour, up)


@pytest.fixture
def prompt() -> str:
    """A prompt that no other test asks."""
    return f"prompt-{uuid.uuid4().hex}"


pytestmark = pytest.mark.store


def test_an_encrypted_answer_is_served(store: Store, way: Way, prompt: str) -> None:
    with Cache(store, encryption_key=NEW) as cache:
        answers = {way.ask(prompt) for _ in range(3)}
    assert (len(answers), way.calls(), cache.stats.hits) == (1, 1, 2)


def test_the_store_holds_neither_request_nor_answer(
    store: Store, way: Way, prompt: str, dump: Dump
) -> None:
    with Cache(store, encryption_key=NEW) as cache:
        answer = way.ask(prompt)
        held = list(dump().items())
    held += dump().items()
    everything = b"\0".join(part for name, value in held for part in (name.encode(), value))
    (key,) = cache._store.keys()
    raw = cache._store.get(key) or b""
    assert raw.startswith(b"cwe\x01")
    for secret in (prompt, prompt[::-1], answer, "gpt-x", "chat/completions", "complete"):
        assert secret.encode() not in raw
    for secret in (prompt, prompt[::-1], answer):
        assert secret.encode() not in everything
    assert b"cw\0\x01" not in raw


def test_without_a_key_the_store_holds_plain_text(store: Store, prompt: str, dump: Dump) -> None:
    Cache(store).set(prompt, "short enough to be left uncompressed")
    assert any(prompt.encode() in value for value in dump().values())


def test_an_entry_under_an_older_key_is_served(store: Store, way: Way, prompt: str) -> None:
    with Cache(store, encryption_key=OLD):
        answer = way.ask(prompt)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        with Cache(store, encryption_key=[NEW, OLD]):
            assert way.ask(prompt) == answer


# Which key wrote, which one reads, and what the warning says.
UNREADABLE: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "another key": (NEW, OTHER, "a key that this cache does not have"),
    "no key": (NEW, None, "is encrypted, and this cache has no key"),
    "plain text": (None, NEW, "is not encrypted, and this cache has a key"),
}


@pytest.mark.parametrize(("wrote", "reads", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_a_miss_and_one_warning_and_replaced(
    store: Store,
    way: Way,
    prompt: str,
    wrote: bytes | None,
    reads: bytes | None,
    message: str,
) -> None:
    with Cache(store, encryption_key=wrote):
        stale = way.ask(prompt)
    with Cache(store, encryption_key=reads) as cache:
        with pytest.warns(CacheWarning, match=message) as warned:
            fresh = way.ask(prompt)
        assert way.ask(prompt) == fresh != stale
    assert len(warned) == 1
    assert (way.calls(), cache.stats.misses, cache.stats.hits) == (2, 1, 1)


def test_a_damaged_entry_is_a_miss_and_replaced(store: Store, way: Way, prompt: str) -> None:
    with Cache(store, encryption_key=NEW):
        stale = way.ask(prompt)
        (key,) = store.keys()
        raw = bytearray(store.get(key) or b"")
        raw[len(raw) // 2] ^= 1
        store.set(key, bytes(raw))
        with pytest.warns(CacheWarning, match="was changed"):
            fresh = way.ask(prompt)
        assert way.ask(prompt) == fresh != stale


def test_swapped_entries_are_misses_and_replaced(store: Store, way: Way, prompt: str) -> None:
    with Cache(store, encryption_key=NEW):
        way.ask(prompt), way.ask(f"{prompt} again")
        one, two = store.keys()
        first, second = store.get(one), store.get(two)
        store.set(one, second or b"")
        store.set(two, first or b"")
        with pytest.warns(CacheWarning, match="put in the place of another"):
            way.ask(prompt), way.ask(f"{prompt} again")
        way.ask(prompt), way.ask(f"{prompt} again")
    assert way.calls() == 4


def test_an_entry_of_another_seed_is_a_miss(
    store: Store, colour: Colour, up: Upstream, prompt: str
) -> None:
    way = sdk(colour, up)
    cache = Cache(store, encryption_key=NEW)
    with cache:
        way.ask(prompt)
    (key,) = store.keys()
    with cache.reseed(42) as other:
        other._store.set(key, store.get(key) or b"")
        with pytest.warns(CacheWarning, match="put in the place of another"):
            way.ask(prompt)
        other.clear()
    assert way.calls() == 2


def test_first_stored_still_wins(store: Store, prompt: str) -> None:
    cache = Cache(store, encryption_key=NEW, single_flight=False)
    inside: list[bool] = []

    @llm_cached(key=lambda prompt: prompt)
    def nested(prompt: str) -> str:
        if not inside:
            inside.append(True)
            return f"outer of {nested(prompt)}"
        return "inner"

    with cache:
        assert nested(prompt) == "inner"
        assert nested(prompt) == "inner"


class TestThePlainCache:
    def test_get_set_and_keys(self, store: Store, prompt: str, dump: Dump) -> None:
        cache = Cache(store, encryption_key=NEW)
        cache.set(prompt, {"answer": prompt[::-1]})
        assert cache.get(prompt) == {"answer": prompt[::-1]}
        assert list(cache.keys()) == [prompt]
        held = b"".join(dump().values())
        assert prompt.encode() not in held and prompt[::-1].encode() not in held
        assert cache.delete(prompt) and cache.get(prompt) is None

    def test_another_key_gives_the_default_with_a_warning(self, store: Store, prompt: str) -> None:
        Cache(store, encryption_key=NEW).set(prompt, "old")
        other = Cache(store, encryption_key=OTHER)
        with pytest.warns(CacheWarning, match="a key that this cache does not have"):
            assert other.get(prompt, "default") == "default"
        assert list(other.keys()) == []
        other.set(prompt, "new")
        assert other.get(prompt) == "new"

    def test_faults_can_be_raised(self, store: Store, prompt: str) -> None:
        Cache(store, encryption_key=NEW).set(prompt, "old")
        with pytest.raises(CorruptEntryError):
            Cache(store, encryption_key=OTHER, on_error="raise").get(prompt)


def test_siblings_and_reseeded_caches_keep_the_key(store: Store, prompt: str) -> None:
    cache = Cache(store, encryption_key=NEW)
    for other in (cache.sibling(7), cache.reseed(8)):
        other.set(prompt, "answer")
        assert [raw[:3] for raw in map(other._store.get, other._store.keys()) if raw] == [b"cwe"]
        other.clear()


def test_the_key_travels_with_a_pickled_cache(tmp_path: Path) -> None:
    cache = Cache.disk(1, tmp_path, encryption_key=NEW)
    cache.set("k", "answer")
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.get("k") == "answer"
    assert copy.policy.encryption_keys == (NEW,)


def test_a_cache_without_a_seed_needs_no_store_and_keeps_nothing() -> None:
    store = MemoryStore()
    Cache(store, cache_seed=None, encryption_key=os.urandom(32)).set("k", "v")
    assert list(store.keys()) == []
