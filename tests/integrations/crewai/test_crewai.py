"""CrewAI inside a block: what the second run asks of upstream, in this process and in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TESTING": "true"}

pytest.importorskip("crewai", reason="runs in `crewai`")

from crewai import LLM, Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool
from integrations.ways import Way, check_second_run_is_free, check_uncached_runs_differ, each
from pydantic import BaseModel
from standin import Upstream


class City(BaseModel):
    name: str
    population: int


@tool("look")
def look(city: str) -> str:
    """Look a city up."""
    return f"found {city}"


@pytest.fixture(autouse=True)
def _storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))


def model(up: Upstream, **options: Any) -> Any:
    return LLM(model="openai/gpt-4o-mini", base_url=up.base_url, api_key="sk-test", **options)


def agent(llm: Any, role: str = "clerk", **options: Any) -> Agent:
    return Agent(role=role, goal="help", backstory="none", llm=llm, **options)


def task(text: str, **options: Any) -> Task:
    return Task(description=text, expected_output="an answer", **options)


def crew(up: Upstream, text: str = "hi", tools: Any = (), **options: Any) -> Crew:
    clerk = agent(options.pop("llm", None) or model(up), tools=list(tools))
    asked = task(text, agent=clerk, **options.pop("task", {}))
    return Crew(agents=[clerk], tasks=[asked], **options)


def embedder(up: Upstream) -> dict[str, Any]:
    config = {"api_key": "sk-test", "api_base": up.base_url, "model_name": "text-embedding-3-small"}
    return {"provider": "openai", "config": config}


def kickoff(up: Upstream) -> Any:
    return crew(up).kickoff().raw


def tools(up: Upstream) -> Any:
    return crew(up, "please look", [look]).kickoff().raw


async def kickoff_async(up: Upstream) -> Any:
    return (await crew(up, "please look", [look]).kickoff_async()).raw


async def akickoff(up: Upstream) -> Any:
    return (await crew(up, "please look", [look]).akickoff()).raw


def hierarchical(up: Upstream) -> Any:
    agents = [agent(model(up), role) for role in ("writer", "reader")]
    process: Any = {"process": Process.hierarchical, "manager_llm": model(up)}
    return Crew(agents=agents, tasks=[task("hi")], **process).kickoff().raw


def planning(up: Upstream) -> Any:
    return crew(up, planning=True, planning_llm=model(up)).kickoff().raw


def tasks_at_once(up: Upstream) -> Any:
    agents = [agent(model(up), role) for role in ("one", "two", "three")]
    begun = [task(f"hi {asked.role}", agent=asked, async_execution=True) for asked in agents]
    summed = task("sum up", agent=agents[0], context=begun)
    return Crew(agents=agents, tasks=[*begun, summed]).kickoff().raw


def for_each(up: Upstream) -> Any:
    return [r.raw for r in crew(up, "hi {n}").kickoff_for_each([{"n": n} for n in "ab"])]


def structured(up: Upstream) -> Any:
    return crew(up, task={"output_pydantic": City}).kickoff().pydantic


def streamed(up: Upstream) -> Any:
    return crew(up, llm=model(up, stream=True)).kickoff().raw


def stream_of_a_crew(up: Upstream) -> Any:
    streaming = crew(up, stream=True).kickoff()
    return [chunk.content for chunk in streaming], streaming.result.raw


def responses(up: Upstream) -> Any:
    return crew(up, "please look", [look], llm=model(up, api="responses")).kickoff().raw


def agent_alone(up: Upstream) -> Any:
    return agent(model(up), tools=[look]).kickoff("please look").raw


def flow(up: Upstream) -> Any:
    class Two(Flow):  # type: ignore[type-arg]
        @start()
        def first(self) -> Any:
            return model(up).call("hi")

        @listen(first)
        def second(self, found: Any) -> Any:
            return model(up).call(f"ho {found}")

    return Two(suppress_flow_events=True).kickoff()


WAYS: list[tuple[Way, int]] = [
    (kickoff, 1),
    (tools, 2),
    (kickoff_async, 2),
    (akickoff, 2),
    (hierarchical, 1),
    (planning, 2),
    (tasks_at_once, 4),
    (for_each, 2),
    (structured, 1),
    (streamed, 1),
    (stream_of_a_crew, 1),
    (responses, 2),
    (agent_alone, 2),
    (flow, 2),
]


@each(WAYS)
def test_the_second_run_makes_no_upstream_call(upstream: Upstream, ask: Way, calls: int) -> None:
    check_second_run_is_free(upstream, ask, calls)


def test_outside_a_block_every_run_goes_upstream(upstream: Upstream) -> None:
    check_uncached_runs_differ(upstream, kickoff)


PROGRAM = """
import json, logging, os, sys
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from crewai.tools.base_tool import Tool
from cachewrap import Cache, patch_openai
from cachewrap.same import AGENTS

base_url, folder, number = sys.argv[1:]
llm = LLM(model="openai/gpt-4o-mini", base_url=base_url, api_key="sk-test")
config = {"api_key": "sk-test", "api_base": base_url, "model_name": "text-embedding-3-small"}
memory = {"memory": True, "embedder": {"provider": "openai", "config": config}}
planning = {"planning": True, "planning_llm": llm}


@tool("look")
def look(city: str) -> str:
    "Look a city up."
    return city

told = []
log = logging.getLogger("cachewrap")
log.addFilter(lambda record: told.append(record.getMessage()))
log.setLevel(logging.DEBUG)


def misses(manner, more, storage, same=None):
    os.environ["CREWAI_STORAGE_DIR"] = f"{folder}/{storage}"
    clerk = Agent(role="clerk", goal="help", backstory="none", llm=llm, tools=[look])
    asked = Task(description="hi", expected_output="an answer", agent=clerk)
    with Cache.disk(cache_seed=manner, cache_path_root=folder, same=same) as cache:
        Crew(agents=[clerk], tasks=[asked], **more).kickoff()
    return cache.stats.misses


with patch_openai():
    found = {
        "empty memory": misses("empty", memory, f"new-{number}"),
        "kept memory": misses("kept", memory, "kept"),
        "plan": misses("plan", planning, "plan"),
        "plan, with rules": misses("rules", planning, "rules", AGENTS),
    }
    Tool.__str__ = Tool.__repr__ = lambda self: f"{self.name}: {self.description}"
    found["plan of tools that show their names alone"] = misses("named", planning, "named")
found["a plan that rules would have had"] = sum(
    "same=[*AGENTS]" in text and "replace(" in text and "at 0x" in text for text in told
)
with open(f"{folder}/{number}.json", "w") as file:
    json.dump(found, file)
"""


def test_another_process_asks_again_where_prompts_hold_addresses_or_memories(
    upstream: Upstream, tmp_path: Path
) -> None:
    def run(number: int) -> dict[str, int]:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, upstream.base_url, str(tmp_path), str(number)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=85,
            check=True,
        )
        found: dict[str, int] = json.loads((tmp_path / f"{number}.json").read_text())
        return found

    first = run(1)
    assert [manner for manner, misses in first.items() if not misses] == [
        "a plan that rules would have had"
    ]
    assert {manner: misses > 0 for manner, misses in run(2).items()} == {
        "empty memory": False,
        "kept memory": True,
        "plan": True,
        "plan, with rules": False,
        "plan of tools that show their names alone": False,
        "a plan that rules would have had": True,
    }
