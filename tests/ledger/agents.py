"""Forty agents that ask real HTTP, each question of the answers before: what is killed and resumed.

They run in processes of their own, where test modules cannot be imported.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI

from cachewrap import Cache, patch_openai

AGENTS = 40


@dataclass
class Job:
    """One start of the program.

    Attributes:
        cache: the cache that all its starts have.
        base_url: whom it asks.
        start: the number of this start, which upstream is told.
        turns: how many questions each agent asks, one after the other.
        samples: how often he asks each; 1 is without samples.
        tasks: whether agents are tasks of an event loop, and not threads.
        told: the file in which each answer that an agent was given is noted at once.
    """

    cache: Cache
    base_url: str
    start: int
    turns: int
    samples: int
    tasks: bool
    told: Path

    def order(self) -> list[int]:
        """The agents, in another order at each start."""
        agents = list(range(AGENTS))
        random.Random(self.start).shuffle(agents)
        return agents

    @contextmanager
    def around(self) -> Iterator[None]:
        """The blocks that the agents run in."""
        with ExitStack() as stack:
            stack.enter_context(patch_openai())
            stack.enter_context(self.cache)
            if self.samples > 1:
                stack.enter_context(self.cache.samples())
            yield

    def asked(self, agent: int, turn: int, number: int, before: list[list[str]]) -> dict[str, Any]:
        """What a client is asked with."""
        messages = []
        for earlier, answers in enumerate(before):
            asked = question(agent, earlier, before[:earlier], self.samples)
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": " / ".join(answers)})
        asked = question(agent, turn, before, self.samples)
        messages.append({"role": "user", "content": asked})
        headers = {"x-request-id": f"{self.start} {number}"}
        return {"model": "m", "messages": messages, "extra_headers": headers}

    def note(self, file: int, agent: int, turn: int, number: int, asked: str, answer: str) -> None:
        """Note an answer, so that whoever kills this process knows of it."""
        noted = [self.start, agent, turn, number, asked, answer]
        os.write(file, f"{json.dumps(noted)}\n".encode())


def question(agent: int, turn: int, before: list[list[str]], samples: int) -> str:
    """What an agent asks, given his answers before. The first questions four agents have in common,
    where each is asked once."""
    who = agent // 4 if turn == 0 and samples == 1 else agent
    known = hashlib.sha256(json.dumps(before).encode()).hexdigest()[:12]
    return f"agent {who} turn {turn} knows {known}"


def reply(asked: str) -> str:
    """What is answered to a question."""
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def oracle(turns: int) -> list[list[list[str]]]:
    """What each agent is told at the end where each question has one answer."""
    found = []
    for agent in range(AGENTS):
        answers: list[list[str]] = []
        for turn in range(turns):
            answers.append([reply(question(agent, turn, answers, 1))])
        found.append(answers)
    return found


def run(job: Job) -> None:
    """Start the program, and note the answers of all agents when it has come to its end."""
    file = os.open(job.told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    answers = asyncio.run(_tasks(job, file)) if job.tasks else _threads(job, file)
    os.write(file, f"{json.dumps(answers)}\n".encode())
    os.close(file)


def _threads(job: Job, file: int) -> list[list[list[str]]]:
    client = OpenAI(base_url=job.base_url, api_key="sk", max_retries=0, timeout=120)

    def work(agent: int) -> list[list[str]]:
        before: list[list[str]] = []
        for turn in range(job.turns):
            answers = []
            for number in range(job.samples):
                given = client.chat.completions.create(**job.asked(agent, turn, number, before))
                answers.append(_text(given))
                asked = question(agent, turn, before, job.samples)
                job.note(file, agent, turn, number, asked, answers[-1])
            before.append(answers)
        return before

    with job.around(), client, ThreadPoolExecutor(AGENTS) as pool:
        running = {agent: pool.submit(work, agent) for agent in job.order()}
        return [running[agent].result() for agent in range(AGENTS)]


async def _tasks(job: Job, file: int) -> list[list[list[str]]]:
    client = AsyncOpenAI(base_url=job.base_url, api_key="sk", max_retries=0, timeout=120)

    async def work(agent: int) -> list[list[str]]:
        before: list[list[str]] = []
        for turn in range(job.turns):

            async def ask(number: int, turn: int = turn) -> str:
                given = await client.chat.completions.create(
                    **job.asked(agent, turn, number, before)
                )
                asked = question(agent, turn, before, job.samples)
                job.note(file, agent, turn, number, asked, _text(given))
                return _text(given)

            before.append(list(await asyncio.gather(*map(ask, range(job.samples)))))
        return before

    with job.around():
        async with client:
            tasks = {agent: asyncio.create_task(work(agent)) for agent in job.order()}
            return [await tasks[agent] for agent in range(AGENTS)]


def _text(given: Any) -> str:
    return str(given.choices[0].message.content)
