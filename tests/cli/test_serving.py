"""`cachewrap serve` that does not serve: what is wrong is said, and with which status.

What it does where nothing is wrong is in tests/proxy/service.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import click
import pytest

from cachewrap.cli import serve
from cachewrap.proxy import workers
from cachewrap.proxy.settings import Limits, Settings
from cli.filling import CommandLine


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """The settings that a proxy was told, in place of starting one."""
    told: list[Settings] = []

    def start(settings: Settings, started: object) -> int:
        told.append(settings)
        return 0

    monkeypatch.setattr(workers, "serve", start)
    monkeypatch.delenv("CACHEWRAP_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    return told


# -- what is told ----------------------------------------------------------------------------------


def test_without_a_word(run: CommandLine, given: list[Settings], tmp_path: Path) -> None:
    assert run("serve").status == 0
    assert given == [Settings(url=f"disk://{tmp_path}/.cache")]


PLACES = [
    pytest.param("answers", "disk://{}/answers", id="folder"),
    pytest.param("a b", "disk://{}/a%20b", id="spaces"),
    pytest.param("answers.jsonl", "jsonl://{}/answers.jsonl", id="file"),
    pytest.param("memory:", "memory:", id="memory"),
    pytest.param("redis://127.0.0.1:1/3", "redis://127.0.0.1:1/3", id="redis"),
    pytest.param("127.0.0.1:1", "redis://127.0.0.1:1", id="server"),
    pytest.param("./8142", "disk://{}/8142", id="folder-of-digits"),
    pytest.param("--disk answers", "disk://{}/answers", id="--disk"),
    pytest.param("--url disk:answers", "disk://{}/answers", id="--url"),
]


@pytest.mark.parametrize(("words", "url"), PLACES)
def test_a_place_is_a_word(
    run: CommandLine, given: list[Settings], tmp_path: Path, words: str, url: str
) -> None:
    split = words.split() if words.startswith("-") else [words]
    assert run("serve", *split).status == 0
    assert given[0].url == url.format(tmp_path)


def test_a_place_of_the_environment(
    run: CommandLine, given: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_URL", "memory:?cache_seed=7")
    assert run("serve").status == 0
    assert run("serve", "jsonl:a.jsonl").status == 0
    assert [one.url.partition(":")[0] for one in given] == ["memory", "jsonl"]


OPTIONS = [
    pytest.param("--seed 7", "cache_seed=7", id="seed"),
    pytest.param("--mode replay", "mode=replay", id="mode"),
    pytest.param("--ttl 90", "ttl=90", id="ttl"),
    pytest.param("--ttl 1.5h", "ttl=5400", id="ttl-as-a-span"),
    pytest.param("--ttl 30d", "ttl=2592000", id="ttl-of-days"),
    pytest.param("--keyed authorization --keyed x-user", "keyed=authorization%2Cx-user", id="key"),
    pytest.param("--unkeyed x-trace", "unkeyed=x-trace", id="unkeyed"),
]


@pytest.mark.parametrize(("words", "option"), OPTIONS)
def test_options_of_the_cache(
    run: CommandLine, given: list[Settings], words: str, option: str
) -> None:
    assert run("serve", "memory:", *words.split()).status == 0
    assert given[0].url == f"memory:?{option}"


def test_names_are_added_to_those_of_the_url(run: CommandLine, given: list[Settings]) -> None:
    run("serve", "memory:?keyed=x-a&unkeyed=x-b", "--keyed", "x-c", "--unkeyed", "x-d")
    assert given[0].url == "memory:?keyed=x-a%2Cx-c&unkeyed=x-b%2Cx-d"


def test_options_of_the_proxy(run: CommandLine, given: list[Settings]) -> None:
    words = (
        "memory: --host localhost --port 0 --upstream a=http://127.0.0.1:1 --upstream b=http://b"
        " --pace --log text --max-body 10M --timeout 2m --max-time 15m --grace 5s"
        " --token open-sesame"
    )
    assert run("serve", *words.split()).status == 0
    assert given[0] == Settings(
        url="memory:",
        host="localhost",
        port=0,
        upstreams=("a=http://127.0.0.1:1", "b=http://b"),
        token="open-sesame",
        pace=True,
        log="text",
        limits=Limits(
            body_bytes=10 * 2**20, upstream_seconds=120.0, total_seconds=900.0, end_seconds=5.0
        ),
    )
    assert "sesame" not in repr(given[0])


def test_a_token_of_a_file_and_of_the_environment(
    run: CommandLine, given: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of-a-file\n")
    run("serve", "memory:", "--token-file", "token")
    monkeypatch.setenv("CACHEWRAP_TOKEN", "of-the-environment")
    run("serve", "memory:")
    run("serve", "memory:", "--token-file", "token")
    assert [one.token for one in given] == ["of-a-file", "of-the-environment", "of-a-file"]


# -- what is wrong ---------------------------------------------------------------------------------

WRONG = [
    pytest.param("--host 0.0.0.0", 2, "give a token that clients must know", id="open-to-all"),
    pytest.param("--host nowhere.invalid", 1, "an address of this machine", id="no-such-host"),
    pytest.param("--host 192.0.2.1 --token t", 1, "an address of this machine", id="no-own-host"),
    pytest.param("--port 70000", 2, "not in the range 0<=x<=65535", id="no-port"),
    pytest.param("--workers 0", 2, "not in the range", id="no-workers"),
    pytest.param("--workers 2", 2, "each worker would have its own cache", id="memory-apart"),
    pytest.param("--log xml", 2, "'json', 'text', 'off'", id="no-log"),
    pytest.param("--mode record", 2, "'normal', 'replay'", id="no-mode"),
    pytest.param("--ttl soon", 2, "give seconds, or 90s, 15m, 12h, 30d; got 'soon'", id="no-ttl"),
    pytest.param("--timeout 0", 2, "give seconds, or 90s", id="no-timeout"),
    pytest.param("--max-body huge", 2, "--max-body", id="no-size"),
    pytest.param("--seed a/b", 2, "a seed names a draw", id="no-seed"),
    pytest.param("--token t --token-file f", 2, "not both", id="two-tokens"),
    pytest.param("--token-file missing", 2, "cannot be read from missing: No such", id="no-file"),
    pytest.param("--token-file empty", 2, "empty holds no token", id="empty-file"),
    pytest.param("--token-file binary", 2, "it is no text", id="no-text"),
    pytest.param("--token a/b", 2, "the token in --token cannot be sent", id="no-token"),
    pytest.param("--url memory:", 2, "give memory: or --url, --disk, --redis", id="two-places"),
    pytest.param("--upstream nothing", 2, "nothing", id="no-upstream"),
    pytest.param("--bind ::", 2, "did you mean --host?", id="another-option"),
    pytest.param("--replay", 2, "did you mean --mode?", id="a-mode-as-option"),
    pytest.param("--quiet", 2, "did you mean --log?", id="less-to-read"),
]


@pytest.mark.parametrize(("words", "status", "told"), WRONG)
def test_what_is_wrong_is_told(
    run: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    status: int,
    told: str,
) -> None:
    monkeypatch.delenv("CACHEWRAP_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    done = run("serve", "memory:", *words.split())
    assert (done.status, done.out) == (status, "")
    assert told in " ".join(done.err.split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("place", "told"),
    [
        pytest.param("8142", "--port 8142, or ./8142 for a folder", id="a-port"),
        pytest.param("openai", "is asked as /openai without being named", id="a-provider"),
        pytest.param("http://127.0.0.1:1/v1", "--upstream NAME=URL", id="a-server"),
        pytest.param("HTTPS://u:secret@h", "--upstream NAME=URL", id="with-a-password"),
    ],
)
def test_what_is_meant_otherwise_is_no_place(
    run: CommandLine,
    given: list[Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("serve", place)
    assert (done.status, done.out, given) == (2, "", [])
    assert told in " ".join(done.err.split())
    assert "secret" not in done.err
    if "/" not in place:
        (tmp_path / place).mkdir()
        assert run("serve", place).status == 0


def test_an_empty_token_of_the_command_line_is_none(run: CommandLine) -> None:
    done = run("serve", "memory:", "--token", "")
    assert (done.status, "--token holds no token" in done.err) == (2, True)


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_port_that_is_taken(run: CommandLine, tmp_path: Path, count: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", str(tmp_path / "c"), "--port", port, "--workers", count)
    assert (done.status, done.out) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}: " in done.err
    assert "give another --port, or 0 for one that is free" in done.err


def test_an_upstream_that_is_the_proxy_itself(run: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://localhost:{port}/openai"
    done = run("serve", "memory:", "--port", str(port), "--upstream", f"me={url}")
    assert (done.status, done.err) == (
        2,
        f"cachewrap: the upstream me is this proxy itself: {url}\n",
    )


@pytest.mark.parametrize(
    ("place", "told"),
    [
        pytest.param("notes.txt", "is not a cache: it is not a file of entries", id="another-file"),
        pytest.param("notes.txt/below", "is not a folder", id="no-folder"),
        pytest.param("x.jsonl.gz", "is compressed", id="packed"),
    ],
)
def test_a_place_that_is_no_cache_is_told_before_it_listens(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("milk, bread")
    done = run("serve", place)
    assert (done.status, done.out, told in done.err) == (3, "", True)


def test_a_server_that_is_down_is_told_and_in_nobodys_way(
    run: CommandLine, given: list[Settings]
) -> None:
    done = run("serve", "redis://default:sesame@127.0.0.1:1/0")
    assert (done.status, len(given)) == (0, 1)
    assert done.err.startswith("cachewrap: calls go on without the cache until it is there: ")
    assert "sesame" not in done.err


@pytest.mark.parametrize("name", ["h11", "prometheus_client"])
def test_an_extra_that_is_missing(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    done = run("serve", "memory:")
    assert (done.status, done.out) == (2, "")
    assert f"needs {name}, which is not installed: pip install 'cachewrap[serve]'" in done.err


# -- what is said at a terminal --------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [True, False])
def test_at_a_terminal_it_says_how_to_point_an_sdk_at_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(serve, "is_terminal", lambda stream: terminal)
    with click.Context(serve.command):
        serve._started("http://127.0.0.1:8141")
    told = capsys.readouterr()
    assert told.out == "http://127.0.0.1:8141\n"
    assert ("OPENAI_BASE_URL=http://127.0.0.1:8141/openai/v1" in told.err) is terminal
    assert bool(told.err) is terminal
