"""`verify`: checksums, and keys that are computed again from the stored requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache, llm_cached, patch_openai
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key
from cli.filling import CommandLine, chat, put

pytestmark = pytest.mark.shared


@llm_cached
def shout(prompt: str) -> str:
    return prompt.upper()


@llm_cached(seed="another")
def words(prompt: str) -> Any:
    yield from prompt.split()


@pytest.fixture
def real(url: str) -> str:
    """What real calls leave behind: of the SDK and its streams, of functions, of samples."""
    with Upstream() as up, patch_openai(), Cache.from_url(url) as cache:
        client = openai.OpenAI(base_url=up.base_url, api_key="none")
        ask: Any = client.chat.completions.create
        said = [{"role": "user", "content": "hi"}]
        ask(model="m", messages=said)
        list(ask(model="m", messages=said, stream=True))
        shout("hi")
        cache.set("greeting", "hello")
        cache.set("0" * 64, "under a key of its own")
        with cache.samples():
            for _ in range(3):
                ask(model="m", messages=said)
                shout("hi")
    return url


def verdicts(run: CommandLine, url: str, *options: str) -> tuple[int, dict[str, int]]:
    done = run("verify", "--url", url, "--json", *options)
    told = done.lines[-1]
    return done.status, {name: count for name, count in told.items() if count}


def test_what_real_calls_stored_is_good(run: CommandLine, real: str) -> None:
    assert verdicts(run, real) == (0, {"good": 9})


def test_a_functions_seed_can_be_given(run: CommandLine, url: str) -> None:
    with Cache.from_url(url):
        list(words("a b"))
    assert verdicts(run, url) == (0, {"key_not_checkable": 1})
    assert verdicts(run, url, "--function-seed", "another") == (0, {"good": 1})


def test_without_a_request_a_key_cannot_be_checked(run: CommandLine, url: str) -> None:
    put(url, *chat("q", "a"), keep_request=False)
    assert verdicts(run, url) == (0, {"key_not_checkable": 1})


def test_an_entry_under_a_wrong_key(run: CommandLine, url: str) -> None:
    put(url, *chat("q", "a"), under="ab" * 32)
    done = run("verify", "--url", url)
    assert done.status == 1
    assert done.out.splitlines()[0].startswith(f"{'ab' * 32}  seed 41  under a wrong key")


def _cut(raw: bytes) -> bytes:
    return raw[:-1]


def _answer_changed(raw: bytes) -> bytes:
    return raw[:50] + bytes([raw[50] ^ 1]) + raw[51:]


def _record_changed(raw: bytes) -> bytes:
    return raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:]


def _emptied(raw: bytes) -> bytes:
    return b""


DAMAGE = [_cut, _answer_changed, _record_changed, _emptied]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry(run: CommandLine, url: str, damage: Callable[[bytes], bytes]) -> None:
    name = put(url, *chat("q", "a"))
    store = Cache.from_url(url).store
    store.set(name, damage(store.get(name) or b""))
    assert verdicts(run, url) == (1, {"damaged": 1})


def test_an_answer_that_cannot_be_read_behind_good_checksums(run: CommandLine, url: str) -> None:
    kind, _ = codec.encode(chat("q", "a")[1])
    name = key.key_of(key.salted(), b"")
    Cache.from_url(url).store.set(name, seal(kind, b"\xc1", b"", Facts(1.0, 1.0)))
    assert verdicts(run, url) == (1, {"damaged": 1})


def test_an_encrypted_entry_of_another_seed(
    run: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    name = put(url, *chat("q", "a"))
    store = Cache.from_url(url).store
    store.reseed("7").set(name, store.get(name) or b"")
    assert verdicts(run, url) == (0, {"good": 1})
    assert verdicts(run, url, "--seed", "7") == (1, {"damaged": 1})


# -- a search for credentials ----------------------------------------------------------------------

GITHUB = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"


def found(run: CommandLine, url: str, *options: str) -> tuple[int, list[tuple[str, str, str]]]:
    done = run("verify", "--secrets", "--url", url, "--json", *options)
    assert GITHUB not in done.out
    assert "hunter-2" not in done.out
    told = [(line["where"], line["rule"], line["value"]) for line in done.lines if "where" in line]
    return done.status, told


def test_nothing_of_what_real_calls_stored_is_a_credential(run: CommandLine, real: str) -> None:
    assert found(run, real) == (0, [])
    assert run("verify", "--secrets", "--url", real).out == "9 good\n"


def test_a_credential_that_was_stored_is_told_and_not_shown(run: CommandLine, url: str) -> None:
    request, answer = chat(f"my {GITHUB}", f"so {GITHUB}")
    request["body"]["tools"] = [{"type": "mcp", "authorization": "hunter-2-hunter-2"}]
    request["headers"] = {"x-pat": "hunter-2"}
    put(url, request, answer)
    assert found(run, url) == (
        1,
        [
            ("request.body.messages[0].content", "GitHub", "ghp_…"),
            ("request.body.tools[0].authorization", "name", "hunt…"),
            ("request.headers.x-pat", "name", "hu…"),
            ("answer.choices[0].message.content", "GitHub", "ghp_…"),
        ],
    )
    done = run("verify", "--secrets", "--url", url)
    assert done.out.splitlines()[-1] == "1 with a credential"
    assert "request.body.messages[0].content  GitHub: ghp_…" in done.out
    assert "hunter-2" not in done.out


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        pytest.param({"a": [1, {"token": "hunter-2"}]}, "answer.a[1].token", id="a value"),
        pytest.param(f"see {GITHUB}", "answer", id="a text"),
        pytest.param([GITHUB], "answer[0]", id="a list"),
    ],
)
def test_what_a_function_gave_is_searched(
    run: CommandLine, url: str, answer: Any, where: str
) -> None:
    with Cache.from_url(url) as cache:
        cache.set("a", answer)
    status, told = found(run, url)
    assert (status, [place for place, _, _ in told]) == (1, [where])


def test_the_items_of_a_generator_are_searched(run: CommandLine, url: str) -> None:
    with Cache.from_url(url) as cache:
        list(words(f"a {GITHUB}", cache=cache))
    assert found(run, url) == (1, [("answer[1]", "GitHub", "ghp_…")])


def test_the_events_of_a_stream_are_searched(run: CommandLine, url: str) -> None:
    request, answer = chat("q", "a")
    event = b'data: {"delta": {"text": "%s"}}\n\n' % GITHUB.encode()
    answer.chunks[:] = [b'data: {"a": 1}\n\n', event[:20], event[20:]]
    put(url, request, answer)
    assert found(run, url) == (1, [("answer.delta.text", "GitHub", "ghp_…")])


def test_a_damaged_entry_cannot_be_searched(run: CommandLine, url: str) -> None:
    put(url, *chat("q", "a"), under="ab" * 32)
    with Cache.from_url(url) as cache:
        cache.store.set("cd" * 32, b"damaged")
    done = run("verify", "--secrets", "--url", url)
    assert (done.status, "damaged" in done.out) == (1, True)


def test_a_request_whose_credential_was_taken_out_has_no_key_to_check(
    run: CommandLine, url: str
) -> None:
    with Upstream() as up, patch_openai(), Cache.from_url(url):
        client = openai.OpenAI(base_url=up.base_url, api_key="none")
        said: Any = [{"role": "user", "content": f"is {GITHUB} a key?"}]
        client.chat.completions.create(model="m", messages=said)
        client.chat.completions.create(model="m", messages=[], extra_body={"api_key": "a"})
    assert verdicts(run, url) == (0, {"good": 1, "key_not_checkable": 1})
    # The answer of the stand-in says again what it was asked.
    assert [where.partition(".")[0] for where, _, _ in found(run, url)[1]] == ["answer"]


def test_a_request_that_was_scrubbed_has_no_key_to_check(run: CommandLine, tmp_path: Path) -> None:
    def scrub(text: str) -> str:
        return text.replace("Anna", "(name)")

    with (
        Upstream() as up,
        patch_openai(),
        Cache.disk(cache_path_root=tmp_path / "c", scrub=scrub) as cache,
    ):
        client = openai.OpenAI(base_url=up.base_url, api_key="none")
        for name in ("Anna", "Ben"):
            said: Any = [{"role": "user", "content": f"who is {name}?"}]
            client.chat.completions.create(model="m", messages=said)
            shout(name)
            cache.set(name, "hello")
    assert verdicts(run, f"disk:{tmp_path / 'c'}") == (0, {"good": 3, "key_not_checkable": 3})


def test_what_an_earlier_version_stored_is_hidden_where_it_is_shown(
    run: CommandLine, url: str
) -> None:
    request, answer = chat(f"my {GITHUB}", "so")
    put(url, request, answer)
    (entry,) = run("ls", "--url", url, "--json").lines
    shown = run("show", entry["key"], "--url", url).out + run("ls", "--url", url).out
    assert (GITHUB in shown, "my (hidden)" in shown) == (False, True)


def test_what_is_nested_too_deeply_to_be_searched_is_told(run: CommandLine, url: str) -> None:
    request, answer = chat("q", "a")
    answer.chunks[:] = [b"[" * 900 + b"]" * 900]
    put(url, request, answer)
    done = run("verify", "--secrets", "--url", url)
    assert (done.status, done.err) in ((0, ""), (1, ""))
