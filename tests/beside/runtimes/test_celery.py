"""Celery's workers: forked, threads, greenlets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beside.runtimes.running import Programs


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_worker(programs: Programs, tmp_path: Path, pool: str) -> None:
    pytest.importorskip("celery")
    if pool == "gevent":
        pytest.importorskip("gevent")
    place = tmp_path / "celery"
    for name in ("queue", "control"):
        (place / name).mkdir(parents=True)
    programs.environment["CELERY_FOLDER"] = str(place)
    worker = ["-m", "celery", "-A", "tasks", "worker", "-P", pool, "-c", "2", "--without-mingle"]
    answers = []
    for _ in range(2):
        with programs.started([*worker, "--without-gossip", "--without-heartbeat"]):
            answers.append(json.loads(programs.run("give_tasks.py")))
    assert programs.up.calls == 2
    assert answers[0] == answers[1]
