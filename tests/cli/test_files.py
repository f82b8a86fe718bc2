"""`export` and `import`: entries as lines of a file, and back."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from cachewrap import Cache
from cachewrap.cli.export import Export
from cli.filling import CommandLine, chat, put
from cli.test_copying import content

pytestmark = pytest.mark.shared


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "answers.jsonl")


def fill(url: str, prompts: str) -> None:
    for prompt in prompts:
        put(url, *chat(prompt, f"answer to {prompt}"))


@pytest.fixture
def exported(
    run: CommandLine, file: str, make_url: Callable[[str], str]
) -> Callable[[str], object]:
    """Fills another cache, and exports it into the file."""

    def export(prompts: str) -> object:
        source = make_url("disk")
        fill(source, prompts)
        return run("export", file, "--url", source)

    return export


def test_there_and_back_again(
    run: CommandLine, url: str, file: str, make_url: Callable[[str], str]
) -> None:
    fill(url, "abc")
    assert run("export", file, "--url", url).out == "exported 3 entries\n"
    other = make_url("disk")
    assert run("import", file, "--url", other).out == "imported 3 entries\n"
    assert content(other) == content(url)


def test_a_file_is_a_cache(run: CommandLine, url: str, file: str) -> None:
    fill(url, "abc")
    run("export", file, "--url", url)
    assert content(f"jsonl:{file}") == content(url)
    assert run("verify", "--url", f"jsonl:{file}").out == "3 good\n"


def test_seeds_are_kept_or_replaced(
    run: CommandLine, url: str, file: str, make_url: Callable[[str], str]
) -> None:
    fill(url, "a")
    fill(f"{url}{'&' if '?' in url else '?'}cache_seed=7", "b")
    run("export", file, "--url", url, "--all-seeds")
    kept, joined = make_url("disk"), make_url("disk")
    run("import", file, "--url", kept)
    assert (content(kept), content(kept, "7")) == (content(url), content(url, "7"))
    run("import", file, "--url", joined, "--seed", "9")
    assert content(joined, "9") == content(url) | content(url, "7")


def test_only_what_fits_the_filters(run: CommandLine, url: str, file: str) -> None:
    fill(url, "abc")
    run("export", file, "--url", url, "--text", "answer to b")
    assert len(Path(file).read_text().splitlines()) == 2  # and the first line


@pytest.mark.parametrize("cut", [1, 30, 200, 700, 1500])
def test_an_export_goes_on_where_it_was_interrupted(
    run: CommandLine, url: str, file: str, cut: int
) -> None:
    fill(url, "abcd")
    run("export", file, "--url", url)
    whole = Path(file).read_bytes()
    Path(file).write_bytes(whole[:cut])
    assert run("export", file, "--url", url).status == 0
    assert sorted(Path(file).read_bytes().splitlines()) == sorted(whole.splitlines())


def test_an_export_and_a_program_write_to_one_file(
    run: CommandLine, url: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url, "ab")
    with Cache.jsonl(file) as cache:
        cache.set("first", 1)
        write = Export.write
        setters: list[threading.Thread] = []

        def write_slowly(export: Export, line: bytes) -> None:
            write(export, line)
            setters.append(threading.Thread(target=cache.set, args=(str(len(setters)), 1)))
            setters[-1].start()
            setters[-1].join(0.3)  # it waits for the export, or has written in its midst

        monkeypatch.setattr(Export, "write", write_slowly)
        assert run("export", file, "--url", url).out == "exported 2 entries\n"
        for setter in setters:
            setter.join()
    assert run("verify", "--url", f"jsonl:{file}").out == "5 good\n"


def test_an_export_keeps_a_last_line_that_is_whole(
    run: CommandLine, url: str, file: str, exported: Callable[[str], object]
) -> None:
    exported("ab")
    before = Path(file).read_bytes()
    Path(file).write_bytes(before.removesuffix(b"\n"))  # as some editors leave it
    fill(url, "c")
    assert run("export", file, "--url", url).out == "exported 1 entry\n"
    assert Path(file).read_bytes().startswith(before)
    assert len(run("ls", "--url", f"jsonl:{file}", "--json").lines) == 3


def test_an_import_goes_on_where_it_was(
    run: CommandLine, url: str, file: str, exported: Callable[[str], object]
) -> None:
    exported("abcd")
    fill(url, "ab")
    assert run("import", file, "--url", url).out == "imported 2 entries; 2 there already\n"


def test_what_is_stored_stays_unless_told_otherwise(
    run: CommandLine, url: str, file: str, make_url: Callable[[str], str]
) -> None:
    source = make_url("disk")
    put(source, *chat("a", "new"))
    put(url, *chat("a", "old"))
    run("export", file, "--url", source)
    before = content(url)
    run("import", file, "--url", url)
    assert content(url) == before
    run("import", file, "--url", url, "--overwrite")
    assert content(url) == content(source) != before


def test_the_last_of_two_lines_of_one_name_is_imported(
    run: CommandLine, url: str, file: str, make_url: Callable[[str], str]
) -> None:
    older, newer = make_url("disk"), make_url("disk")
    put(older, *chat("a", "old"))
    put(newer, *chat("a", "new"))
    run("export", file, "--url", older)
    with open(file, "a") as more:  # as a merge of two branches leaves it
        more.write(run("export", "-", "--url", newer).out)
    assert run("import", file, "--url", url).out == "imported 1 entry\n"
    assert content(url) == content(newer) == content(f"jsonl:{file}")


def test_lines_that_are_no_entries_are_left_out_and_told(
    run: CommandLine, url: str, file: str, exported: Callable[[str], object]
) -> None:
    exported("a")
    with open(file, "a") as more:
        more.write('nonsense\n\n{"key": "../../etc", "seed": "41", "kind": "text", "answer": ""}\n')
    done = run("import", file, "--url", url)
    assert (done.status, done.out) == (1, "imported 1 entry; 2 unreadable\n")
    assert "left out 1: line 3: JSON is malformed" in done.err
    assert "left out 1: line 5: '../../etc' is no key" in done.err


@pytest.mark.parametrize(
    "text", ["hello", "hello\n", '{"a": 1}\n', '{"cachewrap":"casset', "\n\nx"]
)
def test_another_file_is_not_touched(run: CommandLine, url: str, file: str, text: str) -> None:
    fill(url, "a")
    Path(file).write_text(text)
    done = run("export", file, "--url", url)
    if text.startswith('{"cachewrap"'):  # what an interrupted export leaves behind
        assert done.status == 0
    else:
        assert (done.status, Path(file).read_text()) == (2, text)
        assert "is not a file of entries" in done.err


def test_a_file_of_a_later_version(run: CommandLine, url: str, file: str) -> None:
    fill(url, "a")
    Path(file).write_text('{"cachewrap":"cassette","version":9}\n')
    for command in ("import", "export"):
        done = run(command, file, "--url", url)
        assert (done.status, "a file of version 9" in done.err) == (2, True)


def test_a_file_is_readable_by_its_owner_alone(run: CommandLine, url: str, file: str) -> None:
    fill(url, "a")
    run("export", file, "--url", url)
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_through_a_pipe(
    run: CommandLine, url: str, make_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url, "abc")
    piped = run("export", "-", "--url", url).out
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(piped.encode())))
    other = make_url("disk")
    assert run("import", "-", "--url", other).out == "imported 3 entries\n"
    assert content(other) == content(url)


def test_a_folder_that_is_not_there(run: CommandLine, url: str) -> None:
    fill(url, "a")
    done = run("export", "/no/such/folder/file", "--url", url)
    assert (done.status, "cannot write /no/such/folder/file" in done.err) == (3, True)


class TestEncrypted:
    @pytest.fixture(autouse=True)
    def key(self, run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)

    def test_an_encrypted_entry_stays_encrypted(
        self, run: CommandLine, url: str, file: str, make_url: Callable[[str], str]
    ) -> None:
        fill(url, "secret"[:1])
        run("export", file, "--url", url)
        assert "answer to" not in Path(file).read_text()
        other = make_url("disk")
        run("import", file, "--url", other)
        assert content(other) == content(url)

    def test_it_is_decrypted_when_told_so(
        self, run: CommandLine, url: str, file: str, make_url: Callable[[str], str]
    ) -> None:
        fill(url, "s")
        run("export", file, "--url", url, "--decrypt")
        assert "answer to s" in Path(file).read_text()
        other = make_url("disk")
        run("import", file, "--url", other, "--encrypt")
        assert run("verify", "--url", other).out == "1 good\n"


@pytest.mark.stores("disk")
def test_what_takes_no_time_is_told_by_its_end_alone(
    make_url: Callable[[str], str], file: str
) -> None:
    url = make_url("disk")
    fill(url, "abc")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "cachewrap", "export", file, "--url", url],
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
    )
    os.close(theirs)
    told = b""
    with suppress(OSError):  # of which there is nothing to read
        told = os.read(ours, 10_000)
    os.close(ours)
    assert (done.returncode, done.stdout, told) == (0, b"exported 3 entries\n", b"")


def test_explain_names_the_nearest_request(run: CommandLine, url: str, tmp_path: Path) -> None:
    fill(url, "a")
    body = tmp_path / "body.json"
    body.write_text(json.dumps({**chat("a", "")[0]["body"], "temperature": 0.5}))
    done = run("explain", str(body), "--url", url)
    assert done.status == 1
    assert "temperature added (0.5)" in done.out
    asked = tmp_path / "request.json"
    asked.write_text(json.dumps(chat("a", "")[0]))
    assert run("explain", str(asked), "--url", url).status == 0


def test_explain_takes_the_rules_of_a_cache(run: CommandLine, url: str, tmp_path: Path) -> None:
    rules, body = tmp_path / "rules.toml", tmp_path / "body.json"
    rules.write_text('[[rule]]\nignore = ["metadata"]\n')
    request = chat("a", "")[0]
    request["body"]["metadata"] = {"run": "1"}
    put(url, request, chat("a", "b")[1])
    body.write_text(json.dumps({**request["body"], "metadata": {"run": "2"}}))
    told = ['equal by ignore("metadata"):', "  metadata.run: '1' → '2'"]
    assert "\n  metadata.run: '1' → '2'" in run("explain", str(body), "--url", url).out
    ruled = f"{url}{'&' if '?' in url else '?'}same={rules}"
    for place, more in ((url, ("--same", str(rules))), (ruled, ())):
        done = run("explain", str(body), "--url", place, *more)
        assert done.status == 1
        assert "an equal request is stored without rules (key" in done.out
        assert done.out.splitlines()[-2:] == told
    none = run("explain", str(body), "--url", url, "--same", "none.toml")
    assert (none.status, "there is no such file" in none.err) == (2, True)


def test_explain_refuses_what_is_nested_too_deeply(
    run: CommandLine, url: str, tmp_path: Path
) -> None:
    fill(url, "a")
    (tmp_path / "body.json").write_text("[" * 200_000)
    done = run("explain", str(tmp_path / "body.json"), "--url", url)
    assert (done.status, "is not JSON" in done.err) == (2, True)


def test_what_was_recorded_in_a_cassette_can_be_looked_at(run: CommandLine, file: str) -> None:
    with Cache.jsonl(file) as cache:
        cache.set("greeting", "hello")
    assert "hello" in run("show", "greeting", "--url", f"jsonl:{file}").out


def test_a_line_that_was_spoilt_by_hand_is_damaged(run: CommandLine, file: str) -> None:
    url = f"jsonl:{file}"
    fill(url, "ab")
    text = Path(file).read_text()
    Path(file).write_text(text.replace('"kind": "http"', '"kind": "htpp"', 1))
    assert (run("verify", "--url", url).status, len(run("ls", "--url", url, "--json").lines)) == (
        1,
        1,
    )
    run("prune", "--url", url, "--damaged")
    assert run("verify", "--url", url).out == "1 good\n"


@pytest.mark.parametrize("words", [["export", "--overwrite"], ["import", "--overwrite"]])
def test_a_file_that_is_the_cache_itself_is_not_touched(
    run: CommandLine, file: str, tmp_path: Path, words: list[str]
) -> None:
    fill(f"jsonl:{file}", "ab")
    before = Path(file).read_bytes()
    other = tmp_path / "link.jsonl"
    other.symlink_to(file)
    done = run(*words, str(other), "--url", f"jsonl:{file}")
    assert (done.status, Path(file).read_bytes()) == (2, before)
    assert "is the cache itself" in done.err
