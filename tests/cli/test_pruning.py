"""`prune` and `clear`: what goes, what stays, and what is asked first."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from cachewrap import Cache
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cli.filling import DAY, CommandLine, chat, put

pytestmark = pytest.mark.shared


def fill(url: str, *ages: float) -> list[str]:
    """Entries of these ages in days, 1 KB each, the answers incompressible."""
    return [
        put(url, {"function": f"f{age}"}, os.urandom(1000), source="f", age=age * DAY)
        for age in ages
    ]


def left(url: str) -> set[str]:
    return set(Cache.from_url(url).store.keys())


def test_prune_by_age(run: CommandLine, url: str) -> None:
    _, new = fill(url, 40, 1)
    done = run("prune", "--url", url, "--older-than", "30d")
    assert done.out.startswith("removed 1 entry, 1.1 KB; ")
    assert left(url) == {new}


def test_a_dry_run_removes_nothing(run: CommandLine, url: str) -> None:
    keys = fill(url, 40, 1)
    done = run("prune", "--url", url, "--older-than", "30d", "--dry-run")
    assert done.out.startswith("would remove 1 entry")
    assert left(url) == set(keys)


def test_prune_by_size_removes_the_oldest(run: CommandLine, make_url: Callable[[str], str]) -> None:
    url = make_url("disk")
    *_, second, newest = fill(url, 4, 3, 2, 1)
    (told,) = run("prune", "--url", url, "--max-bytes", "2.5k", "--json").lines
    assert (told["removed"], left(url)) == (2, {second, newest})
    assert told["kept_bytes"] <= 2560


@pytest.mark.stores("redis")
def test_prune_by_size_on_redis_removes_the_least_recently_used(
    run: CommandLine, make_url: Callable[[str], str]
) -> None:
    url = make_url("redis")
    fill(url, 4, 3, 2, 1)
    (told,) = run("prune", "--url", url, "--max-bytes", "2.5k", "--json").lines
    assert (told["removed"], len(left(url))) == (2, 2)


def test_prune_by_size_leaves_what_fits(run: CommandLine, url: str) -> None:
    keys = fill(url, 2, 1)
    run("prune", "--url", url, "--max-bytes", "1M")
    assert left(url) == set(keys)


@pytest.mark.stores("redis")
def test_redis_knows_when_entries_were_used(
    run: CommandLine, make_url: Callable[[str], str]
) -> None:
    url = make_url("redis")
    keys = fill(url, 40)
    run("prune", "--url", url, "--unused-since", "7d")
    assert left(url) == set(keys)  # stored a moment ago, whatever its date says


@pytest.mark.stores("disk")
def test_a_disk_cache_with_max_bytes_knows_when_entries_were_used(
    run: CommandLine, make_url: Callable[[str], str]
) -> None:
    url = make_url("disk")
    used, unused = fill(url, 40, 40.5)
    bounded = Cache.from_url(f"{url}?max_bytes=1000000")
    bounded.store.get(used)
    bounded.close()
    run("prune", "--url", url, "--unused-since", "7d")
    assert left(url) == {used}
    assert unused not in left(url)


@pytest.mark.stores("disk")
def test_a_disk_cache_without_max_bytes_does_not_know(
    run: CommandLine, make_url: Callable[[str], str]
) -> None:
    url = make_url("disk")
    keys = fill(url, 40)
    done = run("prune", "--url", url, "--unused-since", "7d")
    assert (done.status, left(url)) == (2, set(keys))
    assert "does not know when its entries were used" in done.err


def test_prune_removes_what_is_damaged(run: CommandLine, url: str) -> None:
    (good,) = fill(url, 1)
    Cache.from_url(url).store.set("0" * 64, b"no entry")
    told = run("prune", "--url", url, "--older-than", "30d")
    assert "1 cannot be read" in told.err
    assert "removed 1 entry" in run("prune", "--url", url, "--damaged").out
    assert left(url) == {good}


@pytest.mark.parametrize("given", ["", "11" * 32], ids=["no key", "another key"])
def test_prune_leaves_what_it_has_no_key_for(
    run: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    keys = fill(url, 1, 2)
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", given)
    done = run("prune", "--url", url, "--damaged")
    assert (left(url), "2 cannot be read" in done.err) == (set(keys), True)


def test_prune_removes_an_encrypted_entry_that_was_changed(
    run: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    good, changed = fill(url, 1, 2)
    store = Cache.from_url(url).store
    store.set(changed, (store.get(changed) or b"")[:-1])
    run("prune", "--url", url, "--damaged")
    assert left(url) == {good}


def test_prune_removes_an_answer_that_cannot_be_read_behind_good_checksums(
    run: CommandLine, url: str
) -> None:
    kind, _ = codec.encode(chat("q", "a")[1])
    Cache.from_url(url).store.set("0" * 64, seal(kind, b"\xc1", b"", Facts(1.0, 1.0)))
    assert run("verify", "--url", url).status == 1
    run("prune", "--url", url, "--damaged")
    assert left(url) == set()


def test_prune_without_a_condition_is_a_mistake(run: CommandLine, url: str) -> None:
    keys = fill(url, 40)
    assert (run("prune", "--url", url).status, left(url)) == (2, set(keys))


def test_clear_removes_one_seed(run: CommandLine, url: str) -> None:
    fill(url, 1, 2)
    other = f"{url}{'&' if '?' in url else '?'}cache_seed=7"
    kept = fill(other, 3)
    done = run("clear", "--url", url, "--yes")
    assert (done.out, left(url), left(other)) == ("removed 2 entries\n", set(), set(kept))


def test_clear_removes_every_seed(run: CommandLine, url: str) -> None:
    other = f"{url}{'&' if '?' in url else '?'}cache_seed=7"
    fill(url, 1)
    fill(other, 2)
    run("clear", "--url", url, "--all-seeds", "--yes")
    assert (left(url), left(other)) == (set(), set())


@pytest.mark.parametrize(("answer", "kept"), [(b"n\n", True), (b"\n", True), (b"y\n", False)])
@pytest.mark.stores("disk")
def test_clear_asks_on_a_terminal(
    make_url: Callable[[str], str], answer: bytes, kept: bool
) -> None:
    url = make_url("disk")
    fill(url, 1)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "cachewrap", "clear", "--url", url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as clearing:
        os.close(theirs)
        told = b""
        while b"?" not in told:
            told += os.read(ours, 1024)
        os.write(ours, answer)
        assert clearing.wait(60) == 0
    os.close(ours)
    assert b"Remove 1 entry of seed 41?" in told
    assert bool(left(url)) is kept


def test_clear_does_nothing_unasked(
    run: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = fill(url, 1)
    done = run("clear", "--url", url)
    assert (done.status, left(url)) == (2, set(keys))
    assert "give --yes" in done.err
