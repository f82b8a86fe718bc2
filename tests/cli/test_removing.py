"""`rm`, and the filters of `prune`, `clear` and `export`: what goes, and what stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachewrap import Cache
from cachewrap.cli import prune
from cachewrap.cli.text import is_terminal
from cachewrap.entries import stored
from cli.filling import DAY, CommandLine, chat, put

pytestmark = pytest.mark.shared


def left(url: str) -> set[str]:
    return set(Cache.from_url(url).store.keys())


def other_seed(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}cache_seed=7"


@pytest.fixture
def keys(url: str) -> dict[str, str]:
    """Three entries, whose keys begin with ``a1``, ``a2`` and ``b``."""
    named = {"old": ("a1", "gpt-3.5", 40.0), "new": ("a2", "gpt-4o", 1.0), "third": ("b", "m", 2.0)}
    for name, (beginning, model, days) in named.items():
        request, answer = chat(f"the {name} one", f"{name} answer", model=model)
        under = beginning.ljust(64, "0")
        put(url, request, answer, model=model, age=days * DAY, under=under)
    return {name: beginning.ljust(64, "0") for name, (beginning, *_) in named.items()}


# -- rm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "gone"),
    [
        pytest.param(["b"], {"third"}, id="one character"),
        pytest.param(["a1"], {"old"}, id="as many as it takes"),
        pytest.param(["a1", "a2"], {"old", "new"}, id="several"),
        pytest.param(["b", "b0"], {"third"}, id="one twice"),
        pytest.param(["b".ljust(64, "0")], {"third"}, id="a whole key"),
    ],
)
def test_rm(
    run: CommandLine, url: str, keys: dict[str, str], given: list[str], gone: set[str]
) -> None:
    done = run("rm", *given, "--url", url)
    assert (done.status, done.err) == (0, "")
    assert left(url) == {key for name, key in keys.items() if name not in gone}
    assert len(done.out.splitlines()) == len(gone)
    assert all(f"the {name} one" in done.out for name in gone)


def test_rm_of_what_was_set_by_hand(run: CommandLine, url: str) -> None:
    Cache.from_url(url).set("greeting", "hello")
    assert run("rm", "greeting", "--url", url).status == 0
    assert left(url) == set()


def test_rm_of_what_is_damaged(run: CommandLine, url: str) -> None:
    Cache.from_url(url).store.set("0" * 64, b"no entry")
    assert "(it cannot be read)" in run("rm", "00", "--url", url).out
    assert left(url) == set()


def test_rm_tells_what_it_would_do(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    done = run("rm", "a1", "b", "--url", url, "--dry-run")
    assert done.out.startswith("would remove a10000000000  the old one\n")
    assert left(url) == set(keys.values())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param("a", "'a' is the beginning of 2 keys:\n", id="several fit"),
        pytest.param("ff", "no entry under 'ff' in seed 41: cachewrap ls lists", id="none fits"),
        pytest.param("a1001", "the nearest keys are a1000000", id="one is near"),
        pytest.param("hello", "no entry under 'hello'", id="no name"),
    ],
)
def test_rm_of_what_is_not_clear_removes_nothing(
    run: CommandLine, url: str, keys: dict[str, str], given: str, told: str
) -> None:
    done = run("rm", "b", given, "--url", url)
    assert (done.status, left(url)) == (1, set(keys.values()))
    assert told in done.err
    assert done.err.endswith("nothing was removed\n")


def test_candidates_are_told_apart(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    told = run("show", "a", "--url", url).err
    assert "  a1000000  gpt-3.5 the old one\n" in told
    assert "  a2000000  gpt-4o the new one\n" in told


def test_another_seed_that_has_it_is_named(
    run: CommandLine, url: str, keys: dict[str, str]
) -> None:
    put(other_seed(url), *chat("there", "yes"), under="c" * 64)
    for command in ("show", "rm"):
        done = run(command, "cc", "--url", url)
        assert done.status == 1
        assert "no entry under 'cc' in seed 41, but there is one in seed 7: --seed 7" in done.err


@pytest.mark.stores("disk")
@pytest.mark.parametrize(("meant", "kept"), [(True, 1), (False, 3)])
def test_rm_of_several_asks_on_a_terminal(
    run: CommandLine,
    make_url: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    meant: bool,
    kept: int,
) -> None:
    url = make_url("disk")
    for one in "abc":
        put(url, *chat(one, one), under=one * 64)
    monkeypatch.setattr(prune, "is_terminal", lambda stream: True)
    asked: list[str] = []
    monkeypatch.setattr("click.confirm", lambda text: asked.append(text) or meant)
    run("rm", "a", "b", "--url", url)
    assert (asked, len(left(url))) == (["Remove 2 entries?"], kept)
    assert not is_terminal(None)


# -- prune ------------------------------------------------------------------------------------


PRUNED = [
    pytest.param(["--older-than", "1.5d"], {"old", "third"}, id="an age"),
    pytest.param(["--older-than", "1.5d", "--model", "gpt-*"], {"old"}, id="of a model"),
    pytest.param(["--older-than", "0.5d", "--newer-than", "30d"], {"new", "third"}, id="between"),
    pytest.param(["--older-than", "0.5d", "--text", "THIRD ANSWER"], {"third"}, id="with a text"),
    pytest.param(["--older-than", "0.5d", "--source", "no/*"], set(), id="that none fits"),
    pytest.param(["--older-than", "0.5d", "--max-size", "1"], set(), id="that none is small for"),
    pytest.param(["--max-bytes", "0", "--model", "gpt-*"], {"old", "new"}, id="down to a size"),
    pytest.param(["--older-than", "2020-01-01"], set(), id="before a date"),
]


@pytest.mark.parametrize(("options", "gone"), PRUNED)
def test_prune(
    run: CommandLine, url: str, keys: dict[str, str], options: list[str], gone: set[str]
) -> None:
    told = run("prune", "--url", url, *options, "--dry-run").out
    assert told.startswith(f"would remove {len(gone)} ")
    assert left(url) == set(keys.values())
    assert run("prune", "--url", url, *options).status == 0
    assert left(url) == {key for name, key in keys.items() if name not in gone}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param([], "say what to remove: --older-than", id="nothing"),
        pytest.param(["--model", "gpt-*"], "cachewrap clear", id="a filter alone"),
        pytest.param(["--max-size", "2G"], "--max-bytes bounds the cache", id="the wrong size"),
        pytest.param(["--damaged", "--model", "m"], "give --damaged without", id="what is damaged"),
    ],
)
def test_a_prune_that_could_be_misread_is_refused(
    run: CommandLine, url: str, keys: dict[str, str], options: list[str], told: str
) -> None:
    done = run("prune", "--url", url, *options)
    assert (done.status, left(url)) == (2, set(keys.values()))
    assert told in done.err


def test_prune_with_a_filter_leaves_what_cannot_be_read(run: CommandLine, url: str) -> None:
    Cache.from_url(url).store.set("0" * 64, b"no entry")
    done = run("prune", "--url", url, "--older-than", "2099-01-01", "--model", "*")
    assert (left(url), "1 cannot be read" in done.err) == ({"0" * 64}, True)


# -- clear ------------------------------------------------------------------------------------


def test_clear_with_filters(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    done = run("clear", "--url", url, "--model", "gpt-*", "--dry-run")
    assert (done.out, left(url)) == ("would remove 2 entries of seed 41\n", set(keys.values()))
    done = run("clear", "--url", url, "--model", "gpt-*", "--yes")
    assert (done.out, left(url)) == ("removed 2 entries\n", {keys["third"]})


def test_clear_without_filters_tells_what_it_would_do(
    run: CommandLine, url: str, keys: dict[str, str]
) -> None:
    assert run("clear", "--url", url, "--dry-run").out == "would remove 3 entries of seed 41\n"
    assert left(url) == set(keys.values())


def test_clear_with_filters_asks(run: CommandLine, url: str, keys: dict[str, str]) -> None:
    done = run("clear", "--url", url, "--text", "answer")
    assert (done.status, left(url)) == (2, set(keys.values()))
    assert "Remove 3 entries of seed 41 that fit? There is no terminal to ask on" in done.err


# -- numbers of samples -----------------------------------------------------------------------


def test_fewer_numbers_are_tried_where_none_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(stored, "_sampled", lambda key, number: str(tried.append(number)))
    samples = stored.Samples()
    for _ in range(20):
        samples.number_of("k", ["base"], "m:f")
    assert len(tried) < 2 * stored.MOST + 20 * 4
