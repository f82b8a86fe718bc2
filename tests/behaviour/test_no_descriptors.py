"""A process that can open no more files: what worked without the cache still works with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.posix("limits")

PROGRAM = """
import asyncio, gc, json, os, resource, sys, warnings
from contextlib import contextmanager
import msgspec

kind, place, colour, when = sys.argv[1:]
from cachewrap import Cache, llm_cached
warnings.simplefilter("ignore")

class Answer(msgspec.Struct):
    text: str

made = {
    "memory": Cache.memory,
    "disk": lambda: Cache.disk(41, "answers"),
    "jsonl": lambda: Cache.jsonl("answers.jsonl"),
    "redis": lambda: Cache.redis(
        redis_url=place, namespace=f"test-{os.getpid()}", breaker_seconds=0.001
    ),
}[kind]
calls = 0

def ask(question):
    global calls
    calls += 1
    return {"text": "word " * 300, "question": question, "answer": Answer("struct")}

if colour == "sync":
    @llm_cached(retry=1)
    def complete(question):
        return ask(question)
elif colour == "async":
    @llm_cached(retry=1)
    async def complete(question):
        return ask(question)
elif colour == "stream":
    @llm_cached
    def complete(question):
        yield ask(question)
else:
    @llm_cached
    async def complete(question):
        yield ask(question)

loop = asyncio.new_event_loop()

async def awaited(called):
    if hasattr(called, "__aiter__"):
        return [item async for item in called][0]
    return await called

def get(question):
    called = complete(question)
    if colour == "sync":
        return called
    if colour == "stream":
        return list(called)[0]
    return loop.run_until_complete(awaited(called))

@contextmanager
def none_left():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        os.dup(0)
    except OSError:
        pass
    else:
        raise AssertionError("a descriptor is left")
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

def same(answer, question):
    return answer["question"] == question and answer["answer"] == Answer("struct")

report = {}
cache = made()
with cache:
    if when == "first":  # nothing of the cache's was used before
        with none_left():
            assert same(get("new"), "new")
        report["asked"] = calls
    elif when == "hit":
        get("known")
        get("known")
        with none_left():
            assert same(get("known"), "known")
        report["asked"] = calls
    elif when == "another process":  # it finds what this one has stored
        if os.fork() == 0:
            get("known")
            cache.close()
            os._exit(0)
        os.wait()
        with none_left():
            assert same(get("known"), "known")
        report["asked"] = calls
    else:  # an answer that is paid for
        get("known")
        with none_left():
            assert same(get("new"), "new")
        report["asked"] = calls
    before = calls
    assert same(get("later"), "later") and same(get("later"), "later")  # it has recovered
    report["later"] = calls - before
print(json.dumps(report))
"""


def run(tmp_path: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("when", ["first", "hit", "another process", "miss"])
@pytest.mark.parametrize("colour", ["sync", "async", "stream", "async stream"])
def test_every_call_has_its_answer(
    store_kind: str, colour: str, when: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("redis_url") if store_kind == "redis" else ""
    said = run(tmp_path, store_kind, place, colour, when)
    assert said["later"] <= 1
    if when == "hit" and store_kind in ("memory", "disk", "jsonl"):
        assert said["asked"] == 1  # nothing is opened for it
