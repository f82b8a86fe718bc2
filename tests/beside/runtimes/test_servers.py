"""Web servers whose workers serve a cache as a whole: threads, greenlets, loops, forks."""

from __future__ import annotations

import json

import pytest

from beside.runtimes.running import Programs

GUNICORN = {
    "sync": ("-k", "sync"),
    "two workers": ("-k", "sync", "-w", "2"),
    "gthread": ("-k", "gthread", "--threads", "4"),
    "gevent": ("-k", "gevent"),
    "preload": ("-k", "sync", "-w", "2", "--preload"),
    "gthread, preload": ("-k", "gthread", "--threads", "4", "--preload"),
    "gevent, preload": ("-k", "gevent", "--preload"),
}


@pytest.mark.parametrize("worker", GUNICORN)
def test_gunicorn(programs: Programs, worker: str) -> None:
    pytest.importorskip("gunicorn")
    if "gevent" in worker:
        pytest.importorskip("gevent")
    command = ["-m", "gunicorn", *GUNICORN[worker], "-b", "fd://{fd}", "web:activated_wsgi()"]
    answers = []
    for _ in range(2):
        with programs.served(*command) as server:
            answers.append([server.get("/a"), server.get("/b"), server.get("/a")])
    assert programs.up.calls == 2
    assert answers[0] == answers[1]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_fastapi_whose_lifespan_activates(programs: Programs, loop: str) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    command = ["-m", "uvicorn", "--fd", "{fd}", "--loop", loop, "--factory", "web:fastapi"]
    answers = []
    for _ in range(2):
        with programs.served(*command) as server:
            answers.append(
                [json.loads(server.get(path)) for path in ("/sync", "/async", "/inside")]
            )
    assert programs.up.calls == 5
    assert answers[0] == answers[1]


def test_where_a_block_reaches_in_fastapi(programs: Programs) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with programs.served("-m", "uvicorn", "--fd", "{fd}", "--factory", "web:reached") as server:
        seen = {
            path: server.get(f"/{path}").strip('"')
            for path in ("lifespan", "sync-dependency", "async-dependency", "stream")
        }
    assert seen == {
        "lifespan": "outside",
        "sync-dependency": "outside",
        "async-dependency": "inside",
        "stream": "outside",
    }


def test_flask_whose_stream_is_read_after_its_view(programs: Programs) -> None:
    pytest.importorskip("flask")
    assert programs.asked("flask_stream.py") == (2, "['inside', 'outside', 'inside']")
    assert programs.asked("flask_stream.py") == (1, "['inside', 'outside', 'inside']")
