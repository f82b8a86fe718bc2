"""A process that asks for lists of embeddings, as it is told on its standard input line by line."""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

import cachewrap

FAILED = "failed"


def main(base_url: str, store_url: str) -> None:
    """Answer each line, which has lists for several callers at once, by the vectors of each."""
    cachewrap.patch_openai(split=True)
    with (
        openai.OpenAI(api_key="k", base_url=base_url, max_retries=0, timeout=60) as client,
        cachewrap.Cache.from_url(store_url),  # before the loop, whose tasks have its context
        ThreadPoolExecutor(4) as pool,
        asyncio.Runner() as runner,
    ):
        aclient = openai.AsyncOpenAI(api_key="k", base_url=base_url, max_retries=0, timeout=60)
        print("ready", flush=True)
        for line in sys.stdin:
            told = json.loads(line)
            if told["tasks"]:
                found = runner.run(_tasks(aclient, told["callers"]))
            else:
                found = list(pool.map(lambda lists: _ask(client, lists), told["callers"]))
            print(json.dumps(found), flush=True)
        runner.run(aclient.close())


def _ask(client: Any, lists: list[dict[str, Any]]) -> list[Any]:
    found: list[Any] = []
    for asked in lists:
        try:
            found.append(_vectors(client.embeddings.create(model="m", **asked)))
        except openai.InternalServerError:
            found.append(FAILED)
    return found


async def _tasks(client: Any, callers: list[list[dict[str, Any]]]) -> list[list[Any]]:
    async def ask(lists: list[dict[str, Any]]) -> list[Any]:
        found: list[Any] = []
        for asked in lists:
            try:
                found.append(_vectors(await client.embeddings.create(model="m", **asked)))
            except openai.InternalServerError:
                found.append(FAILED)
        return found

    return await asyncio.gather(*map(ask, callers))


def _vectors(answer: Any) -> list[Any]:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return [one.embedding for one in answer.data]


if __name__ == "__main__":
    main(*sys.argv[1:])
