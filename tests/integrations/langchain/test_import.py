"""`cachewrap import` of the databases that LangChain's own SQLite caches leave behind."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai", reason="runs in `libraries` and `holding`")
pytest.importorskip("langchain_community", reason="runs in `libraries` and `holding`")

from langchain_community.cache import SQLAlchemyMd5Cache, SQLiteCache
from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from sqlalchemy import create_engine
from standin import Upstream

from cachewrap import Cache
from cachewrap.integrations.langchain import LangChainCache

MESSAGES: list[BaseMessage] = [SystemMessage("Be brief."), HumanMessage("hi")]


class City(BaseModel):
    name: str
    population: int


def ask(upstream: Upstream) -> list[Any]:
    """What a program asks its models: a chat, tools, several answers, and a model of texts."""
    model = ChatOpenAI(model="gpt-4o-mini", base_url=upstream.base_url, api_key="sk-test")  # type: ignore[arg-type]
    return [
        model.invoke(MESSAGES),
        model.bind_tools([City], tool_choice="City").invoke("a city"),
        model.generate([[HumanMessage("two of them")]], n=2).generations,
        FakeListLLM(responses=["one"]).invoke("a text"),
    ]


def texts(answers: list[Any]) -> list[Any]:
    """What was answered, without what LangChain adds to a hit."""
    chat, tools, several, text = answers
    return [
        (type(chat), chat.content, chat.response_metadata, chat.id),
        tools.tool_calls,
        [generation.text for generation in several[0]],
        text,
    ]


@pytest.fixture(autouse=True)
def own_cache() -> Iterator[None]:
    before = get_llm_cache()
    yield
    set_llm_cache(before)


def import_into(tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "cachewrap", "import", "langchain.db"),
            *("--url", "disk:answers", *more),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def answers(tmp_path: Path) -> Cache:
    return Cache.disk(cache_path_root=tmp_path / "answers")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "langchain.db"


def sqlite_cache(database: Path) -> BaseCache:
    return SQLiteCache(str(database))


def md5_cache(database: Path) -> BaseCache:
    return SQLAlchemyMd5Cache(create_engine(f"sqlite:///{database}"))


@pytest.mark.parametrize("theirs", [sqlite_cache, md5_cache])
def test_the_program_asks_nothing_again(
    tmp_path: Path, database: Path, upstream: Upstream, theirs: Callable[[Path], BaseCache]
) -> None:
    set_llm_cache(theirs(database))
    asked = ask(upstream)
    assert upstream.calls == 3
    done = import_into(tmp_path)
    assert (done.stdout, done.stderr) == ("imported 4 entries\n", "")
    with answers(tmp_path) as cache:
        set_llm_cache(LangChainCache(cache))
        again = ask(upstream)
    assert upstream.calls == 3
    assert texts(again) == texts(asked)
    assert (cache.stats.hits, cache.stats.misses) == (4, 0)


def test_what_is_there_stays(tmp_path: Path, database: Path) -> None:
    sqlite_cache(database).update("hi", "settings", [Generation(text="theirs")])
    import_into(tmp_path)
    sqlite_cache(database).update("hi", "settings", [Generation(text="another")])
    assert import_into(tmp_path).stdout == "imported 0 entries; 1 there already\n"
    with answers(tmp_path) as cache:
        assert LangChainCache(cache).lookup("hi", "settings") == [Generation(text="theirs")]


def test_a_seed_of_its_own(tmp_path: Path, database: Path) -> None:
    sqlite_cache(database).update("hi", "settings", [Generation(text="theirs")])
    import_into(tmp_path, "--seed", "7")
    with answers(tmp_path).reseed(7) as cache:
        assert LangChainCache(cache).lookup("hi", "settings") == [Generation(text="theirs")]


SECRET = {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}
CLIENT = {"lc": 1, "type": "constructor", "id": ["langchain", "chat_models", "ChatOpenAI"]}


def answer(**kwargs: Any) -> str:
    generation = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "Generation"]}
    return json.dumps({**generation, "kwargs": {"text": "hi", **kwargs}})


@pytest.mark.parametrize(
    ("llm", "response", "why"),
    [
        ("settings", "a bare text", "not JSON: LangChain of 2023"),
        ("settings", '{"text": "hi"}', "not what LangChain writes"),
        ("settings", None, "not JSON"),
        ("settings", answer(generation_info={"key": SECRET}), "OPENAI_API_KEY, which is not taken"),
        (
            "settings",
            answer(generation_info={"x": [{"y": {**CLIENT, "kwargs": {}}}]}),
            "ChatOpenAI",
        ),
        ("settings", json.dumps({**CLIENT, "kwargs": {}}), "ChatOpenAI, which is not taken"),
        ("settings", answer(text=[]), "its answer cannot be read"),
        ("settings", "[" * 100_000, "not JSON"),
        ("<a.Model object at 0x7f00>", answer(), "an object in memory"),
    ],
    ids=[
        *("text", "other JSON", "nothing", "secret", "client inside", "client", "wrong field"),
        *("deep", "object"),
    ],
)
def test_what_is_not_taken_is_said(
    tmp_path: Path, database: Path, llm: str, response: str | None, why: str
) -> None:
    theirs = sqlite_cache(database)
    theirs.update("hi", "settings, of another", [Generation(text="good")])
    with sqlite3.connect(database) as rows:
        rows.execute("INSERT INTO full_llm_cache VALUES ('p', ?, 0, ?)", (llm, response))
    done = import_into(tmp_path)
    assert (done.returncode, done.stdout) == (1, "imported 1 entry; 1 unreadable\n")
    assert done.stderr.startswith("left out 1: ")
    assert why in done.stderr


def test_another_database_is_refused(tmp_path: Path, database: Path) -> None:
    with sqlite3.connect(database) as rows:
        rows.execute("CREATE TABLE other (x)")
    done = import_into(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "langchain.db is no cache of LangChain's" in done.stderr
    assert "Traceback" not in done.stderr


def test_answers_that_langchain_wrote_by_hand(tmp_path: Path, database: Path) -> None:
    given = [ChatGeneration(message=message) for message in MESSAGES]
    theirs = sqlite_cache(database)
    theirs.update("hi", "settings", given)
    assert dumps(theirs.lookup("hi", "settings")) == dumps(given)
    import_into(tmp_path)
    with answers(tmp_path) as cache:
        assert LangChainCache(cache).lookup("hi", "settings") == given
