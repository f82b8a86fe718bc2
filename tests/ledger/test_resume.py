"""Resuming: a program that is killed and started again asks only for what was not finished."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.stores.base import Store
from ledger import agents
from ledger.agents import Job

KILLS = int(os.environ.get("CACHEWRAP_TEST_KILLS") or 4)
"""How often each program is killed; with more than ten, more of them are."""

DELAY = 0.02

FORK = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
# Processes begin with all this imported, which else would take most of their time.
IMPORTED = "pytest openai.resources.chat httpcore httpcore2 anyio._backends._asyncio redis.asyncio"
OURS = "sdk.openai stores.disk stores.redis stores.jsonl http.capture call.flow"
FORK.set_forkserver_preload([*IMPORTED.split(), *(f"cachewrap.{name}" for name in OURS.split())])


class Trial:
    """A program and its starts on one cache, until it came to its end.

    Attributes:
        kills: how many of its starts were killed.
        asked: how often upstream was asked each question, by the start: (question, number of the
            sample) and start.
        told: the first start in which somebody was told the answer to a question.
        answers: what was told as the answer to each question.
        end: what all agents knew at the end.
    """

    def __init__(self, cache: Cache, up: Upstream, folder: Path, tasks: bool, samples: int) -> None:
        self._up = up
        self._file = folder / "told"
        self._file.write_bytes(b"")
        self.turns = 2 if KILLS <= 10 else 6 // samples
        self._job = Job(cache, up.base_url, 0, self.turns, samples, tasks, self._file)
        self.kills = 0

    def run(self, chance: random.Random, kills: int) -> None:
        """Start the program and kill it at a random moment, at most so many times."""
        while self.kills < kills:
            calls = chance.randrange(agents.AGENTS * self.turns * self._job.samples // 2)
            if self._ended_before(self._up.calls + calls, chance.random()):
                return
            self.kills += 1
        assert self._ended_before(10**9, 0.0)

    def again(self) -> int:
        """Start it once more when it is done: how many calls that costs."""
        before = self._up.calls
        assert self._ended_before(10**9, 0.0)
        return self._up.calls - before

    def _ended_before(self, calls: int, part: float) -> bool:
        """Whether it ended by itself before upstream was asked so often, and then some."""
        self._job.start += 1
        process = FORK.Process(target=agents.run, args=(self._job,))  # type: ignore[attr-defined]
        process.start()
        while process.is_alive() and self._up.calls < calls:
            process.join(0.001)
        process.join(part * 2 * DELAY)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return bool(process.exitcode == 0)

    def judge(self) -> None:
        """Read what upstream was asked and what agents were told."""
        self.asked: Counter[tuple[str, int, int]] = Counter()
        for request in self._up.requests:
            start, number = map(int, request.headers["x-request-id"].split())
            if messages := request.json().get("messages"):  # else it was killed while it sent
                self.asked[messages[-1]["content"], number, start] += 1
        self.told: dict[tuple[str, int], int] = {}
        self.answers: dict[tuple[str, int], set[str]] = {}
        self.end: Any = None
        for line in self._file.read_text("utf-8").splitlines():
            noted = json.loads(line)
            if len(noted) == agents.AGENTS:
                self.end = noted
                continue
            start, _, _, number, question, answer = noted
            self.told.setdefault((question, number), start)
            self.answers.setdefault((question, number), set()).add(answer)

    def expected(self) -> list[list[list[str]]]:
        """What each agent knows at the end by what he was told on the way."""
        found: list[list[list[str]]] = []
        for agent in range(agents.AGENTS):
            answers: list[list[str]] = []
            for turn in range(self.turns):
                asked = agents.question(agent, turn, answers, self._job.samples)
                told = [self.answers[asked, number] for number in range(self._job.samples)]
                assert len(set().union(*told)) == self._job.samples
                answers.append([min(answer) for answer in told])
            found.append(answers)
        return found

    def asked_too_often(self) -> list[tuple[str, int]]:
        """Questions that upstream was asked twice in one start, or when somebody had the answer."""
        return [
            (question, number)
            for (question, number, start), count in self.asked.items()
            if count > 1 or start > self.told[question, number]
        ]


PROGRAMS = {
    "threads": (False, 1),
    "tasks": (True, 1),
    "threads with samples": (False, 2),
    "tasks with samples": (True, 2),
}
"""Whether agents are tasks, and how many samples of each question they take."""

QUICK = (("disk", "threads"), ("redis", "tasks with samples"))
CASES = QUICK if KILLS <= 10 else tuple(itertools.product(("disk", "redis", "jsonl"), PROGRAMS))


@pytest.mark.posix("SIGKILL")
@pytest.mark.parametrize(
    ("kind", "program"), [pytest.param(*case, marks=pytest.mark.stores(case[0])) for case in CASES]
)
@pytest.mark.timeout(60 + 15 * KILLS)
def test_a_killed_program_asks_only_for_what_was_not_finished(
    make_store: Callable[[str], Store], tmp_path: Path, kind: str, program: str
) -> None:
    """Also in another order. A question reaches upstream once, and once more for each kill at which
    it was under way; whoever has had an answer never has another one."""
    tasks, samples = PROGRAMS[program]
    draws = itertools.count()

    def says(asked: str) -> str:
        return agents.reply(asked) if samples == 1 else f"{agents.reply(asked)} {next(draws)}"

    store = make_store(kind)
    chance = random.Random(f"{kind} {program}")
    kills = 0
    for seed in itertools.count():
        with Upstream(delay=DELAY, says=says) as up:
            cache = Cache(store, lease_seconds=0.3, store_seconds=30, on_error="raise").reseed(seed)
            trial = Trial(cache, up, tmp_path, tasks, samples)
            trial.run(chance, KILLS - kills)
            asked_again = trial.again()
            trial.judge()
        assert trial.asked_too_often() == []
        assert asked_again == 0
        assert [told for told in trial.answers.values() if len(told) != 1] == []
        assert trial.end == (trial.expected() if samples > 1 else agents.oracle(trial.turns))
        kills += trial.kills
        if kills >= KILLS:
            break
