"""`report` and `view`: the page that is written, what it holds, and what it never replaces."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.cli import report as report_command, survey
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cli.filling import DAY, CommandLine, chat, put, stream_of

CALL = {"function": "agents.plan:summarise", "arguments": {"text": "a long story"}}
_BLOCK = re.compile(rb'<script type="application/json" data-of="(\w+)">(.*?)</script>', re.S)


class Page:
    """The data of a page."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_bytes()
        found: dict[bytes, list[Any]] = {
            name: [] for name in (b"lines", b"talks", b"facts", b"image", b"run", b"diff")
        }
        for name, data in _BLOCK.findall(self.source):
            found[name].append(json.loads(data))
        self._found = found
        self.lines = [line for block in found[b"lines"] for line in block]
        self.talks = [talk for block in found[b"talks"] for talk in block["talks"]]
        self.turns = [block["turns"] for block in found[b"talks"]]
        for block in found[b"talks"]:
            for talk in filter(None, block["talks"]):
                asked = talk.get("asked", [])
                turns = [block["turns"][t] if isinstance(t, int) else t for t in asked]
                talk |= {"asked": turns} if asked else {}
        (self.facts,) = found[b"facts"]
        self.images = found[b"image"]
        assert len(self.lines) == len(self.talks)

    @property
    def keys(self) -> list[str]:
        return [line[0] for line in self.lines]

    def of(self, name: str) -> list[Any]:
        """The data of a kind, in the order in which it stands."""
        return self._found[name.encode()]


@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.stores(kind)) for kind in ("disk", "redis", "jsonl")
    ]
)
def url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    """The URL of an empty cache on each kind of store that outlives its process."""
    return make_url(request.param)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "report.html"


@pytest.fixture
def report(run: CommandLine, url: str, out: Path) -> Any:
    """Writes the page of a cache and reads it."""
    out.parent.mkdir()

    def write(*options: str) -> Page:
        done = run("report", "--url", url, "-o", str(out), *options)
        assert done.status == 0, done.err
        return Page(out)

    return write


@pytest.fixture
def keys(url: str) -> dict[str, str]:
    """Four entries: two chats, a stream, a function's call."""
    request, answer = chat("Where is my refund?", "On its way — grüß dich.")
    old, old_answer = chat("hello", "hi", model="gpt-3.5")
    events = [
        (at, {"choices": [{"delta": {"content": s}}]}) for at, s in ((0.25, "It "), (1, "is"))
    ]
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "time?"}], "user": "u"}
    asked = {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}
    return {
        "refund": put(
            url, request, answer, model="gpt-4o", age=DAY, tokens=(1000, 500), seconds=1.5
        ),
        "old": put(url, old, old_answer, model="gpt-3.5", age=40 * DAY, seconds=9.0),
        "stream": put(url, asked, stream_of(events), model="gpt-4o", seconds=1.0),
        "function": put(url, CALL, "SHORT", source=CALL["function"], age=2 * DAY),  # type: ignore[arg-type]
    }


def test_the_page_counts_what_stats_count(
    run: CommandLine, url: str, keys: dict[str, str], report: Any
) -> None:
    (told,) = run("stats", "--url", url, "--json").lines
    total, facts = told["total"], report().facts
    names = ("entries", "tokens_in", "tokens_out", "seconds", "money", "bytes")
    assert facts["total"] == [pytest.approx(total[name]) for name in names]
    models = {group[0]: group[1] for group in facts["models"]["groups"]}
    assert models == {"gpt-4o": 2, "gpt-3.5": 1, "": 1}
    assert {group[0]: group[1] for group in facts["sources"]["groups"]} == {
        "POST /chat/completions": 3,
        "agents.plan:summarise": 1,
    }
    assert sum(count for _, count in facts["timeline"]["steps"]) == 4


def test_conversations_stand_newest_first(keys: dict[str, str], report: Any) -> None:
    assert report().keys == [keys[name] for name in ("stream", "refund", "function", "old")]


def test_a_conversation_holds_who_said_what(keys: dict[str, str], report: Any) -> None:
    talk = report().talks[1]
    assert talk["asked"] == [["user", "Where is my refund?", 0]]
    assert talk["answered"] == [["assistant", "On its way — grüß dich.", 0]]
    assert talk["settings"] == [["model", "gpt-4o"]]


def test_calls_of_tools_stand_apart_from_what_is_said(url: str, report: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request, answer = chat("", "b")
    said = {"role": "assistant", "content": "I call f({}).", "tool_calls": [call, call]}
    request["body"]["messages"] = [said]
    put(url, request, answer)
    ((_, parts, _),) = report().talks[0]["asked"]
    assert parts == ["I call f({}).", ["call", "f", "{}", "1"], ["call", "f", "{}", "1"]]


def test_a_stream_holds_its_pieces_and_when_they_came(keys: dict[str, str], report: Any) -> None:
    assert report().talks[0]["pieces"] == [[0.25, "It "], [1, "is"]]


def test_the_slowest_are_named(keys: dict[str, str], report: Any) -> None:
    slowest = report().facts["slowest"]
    assert slowest[:2] == [["41", keys["old"]], ["41", keys["refund"]]]


def test_the_limit_keeps_the_newest_and_what_is_listed(
    keys: dict[str, str], report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "TOP", 1)
    page = report("--limit", "1")
    assert set(page.keys) == {keys["stream"], keys["old"]} | (
        {keys["refund"]} if page.facts["priced"] else set()
    )
    assert page.facts["total"][0] == 4


def test_a_page_that_grows_too_large_leaves_conversations_out(
    keys: dict[str, str], report: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_command, "PAGE_BYTES", 0)
    page = report()
    assert (page.talks, page.facts["told"], len(page.lines)) == ([None] * 4, 0, 4)


def test_a_long_text_is_cut_and_that_is_told(url: str, report: Any) -> None:
    put(url, *chat("x" * 60_000, "y" * 60_001))
    (talk,) = report().talks
    assert [talk["asked"][0][2], talk["answered"][0][2]] == [10_000, 10_001]


def test_filters_choose(keys: dict[str, str], report: Any) -> None:
    page = report("--model", "gpt-4o", "--newer-than", "12h")
    assert (page.keys, page.facts["total"][0]) == ([keys["stream"]], 1)
    assert page.facts["filters"] == ["--model gpt-4o", "--newer-than 12h"]


def test_numbers_only(url: str, keys: dict[str, str], report: Any, tmp_path: Path) -> None:
    page = report("--no-content", "--text", "i")
    secret = ["refund", "grüß", "long story", "SHORT", *keys.values(), str(tmp_path), "--text"]
    data = b"".join(data for _, data in _BLOCK.findall(page.source)).decode()
    assert not [text for text in secret if f'"{text}' in data or (len(text) > 9 and text in data)]
    assert (page.lines, page.facts["content"]) == ([], False)
    assert page.facts["slowest"][0][5] == 9.0
    assert all(line[:2] == ["", ""] for line in page.facts["slowest"])


def test_what_cannot_be_read_is_told(run: CommandLine, disk: str, tmp_path: Path) -> None:
    Cache.from_url(disk).store.set("0" * 64, b"no entry")
    done = run("report", "--url", disk, "-o", str(tmp_path / "r.html"))
    facts = Page(tmp_path / "r.html").facts
    assert (facts["unreadable"], facts["total"][0]) == (1, 1)
    assert facts["reasons"] == [["these bytes are not an entry of cachewrap's", 1]]
    assert done.err == "left out 1: these bytes are not an entry of cachewrap's\n"


def test_an_entry_whose_request_is_damaged_is_shown_as_that(
    run: CommandLine, make_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = make_url("disk")
    raw = seal(*codec.encode("x"), b"\xc1", Facts(1e9, 0.1))
    Cache.from_url(url).store.set("a" * 64, raw)
    run("report", "--url", url, "-o", str(tmp_path / "r.html"))
    assert "its request cannot be read" in Page(tmp_path / "r.html").talks[0]["error"]


def test_where_nothing_fits_there_is_a_page(keys: dict[str, str], report: Any) -> None:
    page = report("--model", "another")
    assert (page.facts["total"][0], page.lines, page.facts["timeline"]["steps"]) == (0, [], [])


def test_all_seeds_are_shown_together(url: str, report: Any) -> None:
    for seed in ("41", "7"):
        put(f"{url}{'&' if '?' in url else '?'}cache_seed={seed}", *chat("a", "b"))
    page = report("--all-seeds")
    assert sorted(line[1] for line in page.lines) == ["41", "7"]


def test_a_page_goes_to_the_output(url: str, keys: dict[str, str], out: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cachewrap", "report", "--url", url, "-o", "-"],
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.startswith(b"<!doctype html>")
    assert done.stdout.endswith(b"</html>\n")


@pytest.fixture
def disk(make_url: Callable[[str], str]) -> str:
    """The URL of a cache with one entry."""
    place = make_url("disk")
    put(place, *chat("a prompt", "an answer"))
    return place


def test_the_page_is_its_owners_alone(run: CommandLine, disk: str, tmp_path: Path) -> None:
    run("report", "--url", disk, "-o", str(tmp_path / "r.html"))
    assert stat.S_IMODE((tmp_path / "r.html").stat().st_mode) == 0o600


REPLACED = [
    ("another file", b"dear diary", [], False),
    ("another file, by force", b"dear diary", ["--force"], True),
    ("an empty file", b"", [], True),
]


@pytest.mark.parametrize(
    ("held", "options", "replaced"), [r[1:] for r in REPLACED], ids=[r[0] for r in REPLACED]
)
def test_what_is_replaced(
    run: CommandLine, disk: str, tmp_path: Path, held: bytes, options: list[str], replaced: bool
) -> None:
    path = tmp_path / "r.html"
    path.write_bytes(held)
    done = run("report", "--url", disk, "-o", str(path), *options)
    assert done.status == (0 if replaced else 2)
    assert (path.read_bytes() != held) is replaced


def test_a_report_is_replaced_without_asking(run: CommandLine, disk: str, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    for title in ("first", "second"):
        assert run("report", "--url", disk, "-o", str(path), "--title", title).status == 0
    assert Page(path).facts["title"] == "second"


def test_what_is_no_file_is_not_replaced(run: CommandLine, disk: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # or a reader would wait for one
    os.write(writer, b"text" * 1000)
    done = run("report", "--url", disk, "-o", str(pipe), "--force")
    os.close(writer)
    told = f"cachewrap: cannot write {pipe}: no regular file; - is the output\n"
    assert (done.status, done.err, pipe.is_fifo()) == (3, told, True)


def test_a_report_that_fails_leaves_the_one_before(
    run: CommandLine, disk: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.html"
    run("report", "--url", disk, "-o", str(path))
    before = path.read_bytes()
    assert run("report", "--url", f"disk:{tmp_path}/none", "-o", str(path)).status == 3
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".cachewrap-*"))


@pytest.mark.parametrize("name", ["no/such/folder.html", "."])
def test_a_place_that_cannot_be_written(
    run: CommandLine, disk: str, tmp_path: Path, name: str
) -> None:
    done = run("report", "--url", disk, "-o", str(tmp_path / name))
    assert (done.status, done.err.startswith("cachewrap: cannot write ")) == (3, True)


def test_view_writes_a_page_and_tells_where(
    run: CommandLine, disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = Path(run("view", "--url", disk, "--no-open").out.strip())
    assert (path.parent, Page(path).facts["total"][0]) == (tmp_path, 1)


def test_view_opens_the_browser(disk: str, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-m", "cachewrap", "view", "--url", disk],
        env={**os.environ, "BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    opened = (tmp_path / "opened").read_text().strip()
    assert opened == Path(done.stdout.strip()).as_uri()


def test_memory_does_not_grow_with_the_store(
    run: CommandLine, make_url: Callable[[str], str], tmp_path: Path
) -> None:
    peaks = []
    for entries in (120, 720):
        url = make_url("disk")
        cache = Cache.from_url(url)
        for i in range(entries):
            cache.set(f"{i}", os.urandom(30_000))
        cache.close()
        tracemalloc.start()
        run("report", "--url", url, "-o", str(tmp_path / f"{entries}.html"), "--limit", "20")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4_000_000  # of 18,000,000 bytes more


def test_a_report_has_a_name_by_default(
    run: CommandLine, disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report", disk)
    assert (done.status, done.out.startswith("report.html: ")) == (0, True)
    assert run("report", disk).status == 0
    (tmp_path / "report.html").write_text("<p>Somebody's own</p>")
    done = run("report", disk)
    assert (done.status, "report.html is not a page of cachewrap's. Replace it?" in done.err) == (
        2,
        True,
    )
    assert (tmp_path / "report.html").read_text() == "<p>Somebody's own</p>"


WORDS = [
    pytest.param(["week.html"], "week.html", id="page"),
    pytest.param([".cache", "week.html"], "week.html", id="place-and-page"),
    pytest.param(["week.html", ".cache"], "week.html", id="page-and-place"),
    pytest.param(["week.htm", "--all-seeds"], "week.htm", id="htm"),
]


@pytest.mark.parametrize(("words", "written"), WORDS)
def test_the_page_may_be_a_word_as_the_file_of_an_export_is(
    run: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    written: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put("disk:.cache", *chat("Why?", "So."))
    done = run("report", *words)
    assert (done.status, done.out.partition(":")[0]) == (0, written), done.err
    assert len(Page(tmp_path / written).lines) == 1


@pytest.mark.parametrize("words", [["a.html", "b.html"], ["a.html", "-o", "b.html"]])
def test_a_report_is_one_page(run: CommandLine, words: list[str]) -> None:
    done = run("report", *words)
    assert (done.status, "a.html or" in done.err, "b.html" in done.err) == (2, True, True)
