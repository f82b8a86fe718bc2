"""`import` of AutoGen 0.2's disk caches: the same answers under the same keys, and nothing run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache
import pytest
from openai.types.chat import ChatCompletion

from cachewrap import Cache
from cli.filling import CommandLine

pytestmark = pytest.mark.shared

KEY = '{"messages": [{"content": "hi", "role": "user"}], "model": "gpt-4"}'


def completion(text: str = "hello") -> Any:
    """What AutoGen stores: the SDK's model, with a cost added to it."""
    answer: Any = ChatCompletion.model_validate(
        {
            "id": "c1",
            "choices": [
                {
                    "finish_reason": "stop",
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "created": 1,
            "model": "gpt-4",
            "object": "chat.completion",
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
    )
    answer.cost = 0.25
    return answer


class Hostile:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def theirs(tmp_path: Path) -> str:
    """A cache as AutoGen leaves it behind, with a short and a long answer in seed 41, one in 42."""
    root = tmp_path / "theirs"
    for seed, entries in {
        "41": [(KEY, "hello"), ("long", "x" * 100_000)],
        "42": [(KEY, "other")],
    }.items():
        with diskcache.Cache(str(root / seed)) as cache:
            for key, text in entries:
                cache.set(key, completion(text))
    return str(root)


def test_autogen_finds_its_answers_again(run: CommandLine, url: str, theirs: str) -> None:
    assert run("import", theirs, "--url", url).out == "imported 3 entries\n"
    with Cache.from_url(url) as cache:
        found = cache.get(KEY)
        assert (type(found), found.cost) == (ChatCompletion, 0.25)
        assert found == completion()
        assert cache.get("long").choices[0].message.content == "x" * 100_000
        assert cache.reseed(42).get(KEY).choices[0].message.content == "other"


def test_one_seed_of_theirs_into_one_of_ours(run: CommandLine, url: str, theirs: str) -> None:
    run("import", os.path.join(theirs, "42"), "--url", url, "--seed", "7")
    assert Cache.from_url(url).reseed(7).get(KEY).choices[0].message.content == "other"


def test_what_was_imported_is_whole(run: CommandLine, url: str, theirs: str) -> None:
    run("import", theirs, "--url", url)
    assert run("verify", "--url", url).out == "2 good\n"
    (row, _) = run("ls", "--url", url, "--json", "--sort", "oldest").lines
    assert (row["model"], row["tokens_in"], row["tokens_out"]) == ("gpt-4", 1, 2)


def test_into_the_very_folder(run: CommandLine, theirs: str) -> None:
    url = f"disk:{theirs}"
    assert run("import", theirs, "--url", url).out == "imported 3 entries\n"
    assert run("import", theirs, "--url", url).out == "imported 0 entries; 3 there already\n"
    assert Cache.from_url(url).get(KEY) == completion()
    with diskcache.Cache(os.path.join(theirs, "41")) as still:
        assert still.get(KEY) == completion()


def hostile(path: Path) -> dict[str, Any]:
    return {"code": Hostile(path), "a function": os.system, "a class": Path("/etc"), "ours": KEY}


def test_nothing_that_they_hold_is_run(
    run: CommandLine, url: str, tmp_path: Path, make_url: Callable[[str], str]
) -> None:
    with diskcache.Cache(str(tmp_path / "bad" / "41")) as cache:
        for key, value in hostile(tmp_path / "made by the pickle").items():
            cache.set(key, value)
    done = run("import", str(tmp_path / "bad"), "--url", url)
    assert (done.status, done.out) == (1, "imported 1 entry; 3 unreadable\n")
    assert "left out 1: it holds posix.mkdir, which is not taken\n" in done.err
    assert not (tmp_path / "made by the pickle").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cos\x1b]0;mine\x07\nsystem\n.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"copenai.types.chat.chat_completion\nchat_completion_message\n.",
        b"copenai\nOpenAI\n.",
        b"copenai.types.chat\n__builtins__\n.",
        b"\x80\x04garbage",
        b"",
    ],
)
def test_a_pickle_that_was_made_by_hand(
    run: CommandLine, url: str, tmp_path: Path, code: bytes
) -> None:
    with diskcache.Cache(str(tmp_path / "bad")) as cache:
        cache.set("key", completion())
        with cache.transact():
            cache._sql("UPDATE Cache SET value = ?", (code,))
    done = run("import", str(tmp_path / "bad"), "--url", url)
    assert (done.status, done.out) == (1, "imported 0 entries; 1 unreadable\n")
    assert "\x1b" not in done.err


def test_other_keys_are_not_taken(run: CommandLine, url: str, tmp_path: Path) -> None:
    with diskcache.Cache(str(tmp_path / "other" / "41")) as cache:
        cache.set(("a", "tuple"), completion())
        cache.set(5, completion())
    done = run("import", str(tmp_path / "other"), "--url", url)
    assert done.err == "left out 2: its key is not text, so it is not of AutoGen 0.2\n"


def test_they_are_encrypted_where_there_is_a_key(
    run: CommandLine, url: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEWRAP_ENCRYPTION_KEY", "00" * 32)
    run("import", theirs, "--url", url)
    assert Cache.from_url(url).get(KEY) == completion()


def test_a_folder_of_something_else(run: CommandLine, url: str, tmp_path: Path) -> None:
    done = run("import", str(tmp_path), "--url", url)
    assert (done.status, "holds no disk cache of AutoGen's" in done.err) == (3, True)


def test_pickle_stays_out_of_everything_else() -> None:
    import cachewrap

    root = Path(cachewrap.__file__).parent
    shipped = [path.relative_to(root) for path in root.rglob("*.py")]
    users = {str(p) for p in shipped if "import pickle" in (root / p).read_text()}
    assert users - {"testing/stores/suite.py"} == {"cli/foreign.py"}
