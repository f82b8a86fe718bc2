"""`copy`: entries from one cache into another, as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachewrap import Cache
from cachewrap.cli.places import is_encrypted
from cli.filling import DAY, CommandLine, chat, put

pytestmark = pytest.mark.shared

KEY = "00" * 32


@pytest.fixture
def target(make_url: Callable[[str], str]) -> str:
    return make_url("disk")


def content(url: str, seed: str = "41") -> dict[str, bytes]:
    store = Cache.from_url(url).store.reseed(seed)
    return {key: store.get(key) or b"" for key in store.keys()}


def test_entries_arrive_as_they_were(run: CommandLine, url: str, target: str) -> None:
    for prompt in "abc":
        put(url, *chat(prompt, prompt))
    assert run("copy", target, "--url", url).out == "copied 3 entries\n"
    assert content(target) == content(url)


def test_from_disk_and_back_again(run: CommandLine, url: str, target: str) -> None:
    put(target, *chat("a", "b"))
    run("copy", url, "--url", target)
    assert content(url) == content(target)


def test_a_second_time_goes_on_where_the_first_was(run: CommandLine, url: str, target: str) -> None:
    put(url, *chat("a", "a"))
    run("copy", target, "--url", url)
    put(url, *chat("b", "b"))
    assert run("copy", target, "--url", url).out == "copied 1 entry; 1 there already\n"


def test_what_is_there_stays(run: CommandLine, url: str, target: str) -> None:
    put(target, *chat("a", "first"))
    before = content(target)
    put(url, *chat("a", "second"))
    run("copy", target, "--url", url)
    assert content(target) == before
    run("copy", target, "--url", url, "--overwrite")
    assert content(target) == content(url) != before


def test_only_what_fits_the_filters(run: CommandLine, url: str, target: str) -> None:
    put(url, *chat("a", "a"), model="x", age=2 * DAY)
    wanted = put(url, *chat("b", "b"), model="y")
    put(url, *chat("c", "c"), model="y", age=2 * DAY)
    run("copy", target, "--url", url, "--model", "y", "--newer-than", "1d")
    assert list(content(target)) == [wanted]


def test_every_seed_keeps_its_name(run: CommandLine, url: str, target: str) -> None:
    other = f"{url}{'&' if '?' in url else '?'}cache_seed=7"
    put(url, *chat("a", "41"))
    put(other, *chat("a", "7"))
    run("copy", target, "--url", url, "--all-seeds")
    assert (content(target), content(target, "7")) == (content(url), content(url, "7"))


def test_into_another_seed_of_the_same_cache(run: CommandLine, url: str) -> None:
    put(url, *chat("a", "a"))
    run("copy", url, "--url", url, "--to-seed", "8")
    assert content(url, "8") == content(url)


def test_a_cache_is_not_copied_into_itself(run: CommandLine, url: str) -> None:
    put(url, *chat("a", "a"))
    assert run("copy", url, "--url", url).status == 2


def test_what_is_damaged_is_left_out_and_told(run: CommandLine, url: str, target: str) -> None:
    good = put(url, *chat("a", "a"))
    Cache.from_url(url).store.set("0" * 64, b"no entry")
    done = run("copy", target, "--url", url)
    assert (done.status, list(content(target))) == (1, [good])
    assert done.out == "copied 1 entry; 1 unreadable\n"


@pytest.fixture
def encrypted(url: str, monkeypatch: pytest.MonkeyPatch, run: CommandLine) -> str:
    """A cache with one encrypted entry; the key stays in the environment."""
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", KEY)
    put(url, *chat("a", "secret"))
    return url


def test_an_encrypted_entry_is_copied_as_it_is(
    run: CommandLine, encrypted: str, target: str
) -> None:
    run("copy", target, "--url", encrypted)
    assert content(target) == content(encrypted)


def test_an_encrypted_entry_is_bound_anew_to_another_seed(
    run: CommandLine, encrypted: str, target: str
) -> None:
    run("copy", target, "--url", encrypted, "--to-seed", "9")
    assert run("verify", "--url", target, "--seed", "9").out == "1 good\n"
    assert all(map(is_encrypted, content(target, "9").values()))


def test_decrypting_and_encrypting(
    run: CommandLine, encrypted: str, target: str, make_url: Callable[[str], str]
) -> None:
    run("copy", target, "--url", encrypted, "--decrypt")
    assert not any(map(is_encrypted, content(target).values()))
    again = make_url("disk")
    run("copy", again, "--url", target, "--encrypt")
    assert all(map(is_encrypted, content(again).values()))
    assert run("verify", "--url", again).out == "1 good\n"
