"""What the callers of the stress tests do, in this process and in others."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import urllib.parse
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from cachewrap import Cache, llm_cached
from cachewrap.stores.base import Store

if TYPE_CHECKING:  # most of the processes do without the SDK
    from openai import AsyncOpenAI, OpenAI


def ask_upstream(prompt: str, base_url: str) -> str:
    """One real request; the answer is unique to it."""
    place = urllib.parse.urlsplit(base_url)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    try:
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
        connection.request(
            "POST",
            f"{place.path}/chat/completions",
            json.dumps(body),
            {"content-type": "application/json"},
        )
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    return str(answer["choices"][0]["message"]["content"])


@llm_cached(ignore=["base_url"])
def complete(prompt: str, base_url: str) -> str:
    """A decorated function as users write them."""
    return ask_upstream(prompt, base_url)


@llm_cached(ignore=["base_url"])
async def acomplete(prompt: str, base_url: str) -> str:
    """The same for async callers."""
    return await asyncio.to_thread(ask_upstream, prompt, base_url)


def ask(cache: Cache, prompt: str, base_url: str) -> str:
    """One call of a process."""
    with cache:
        return complete(prompt, base_url)


def ask_and_tell(cache: Cache, prompt: str, base_url: str, told: Connection) -> None:
    """One call of a process that may be stopped meanwhile."""
    told.send(ask(cache, prompt, base_url))


def ask_and_stop_the_loop(cache: Cache, prompt: str, base_url: str, told: Connection) -> None:
    """One call of a process whose event loop is stopped meanwhile, and kept; later it goes on."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(_ask(cache, prompt, base_url))
    loop.run_until_complete(loop.run_in_executor(None, told.recv))
    told.send("stopped")
    told.recv()
    told.send(loop.run_until_complete(task))
    loop.close()


async def _ask(cache: Cache, prompt: str, base_url: str) -> str:
    return await acomplete(prompt, base_url, cache=cache)  # type: ignore[call-arg]


def ask_many(count: int, cache: Cache, prompt: str, base_url: str) -> list[str]:
    """So many tasks of one event loop that ask the same."""

    async def crowd() -> list[str]:
        async with cache:
            return await asyncio.gather(*(acomplete(prompt, base_url) for _ in range(count)))

    return asyncio.run(crowd())


def chat(client: OpenAI, prompt: str) -> str:
    """One call of the SDK."""
    asked = [{"role": "user", "content": prompt}]
    answer = client.chat.completions.create(model="m", messages=asked)  # type: ignore[arg-type]
    return str(answer.choices[0].message.content)


async def achat(client: AsyncOpenAI, prompt: str) -> str:
    """The same for async callers."""
    asked = [{"role": "user", "content": prompt}]
    answer = await client.chat.completions.create(model="m", messages=asked)  # type: ignore[arg-type]
    return str(answer.choices[0].message.content)


def value_of(number: int) -> list[Any]:
    """What `write` stores: small values, and one in seven that has a file of its own."""
    return [number, "x" * (2**21 if number % 7 == 0 else 100)]


def write(store: Store, first: int, told: Connection) -> None:
    """Store one value after the other, and tell each number when its write has returned."""
    cache = Cache(store, on_error="raise")
    for number in range(first, sys.maxsize):
        cache.set(f"number {number}", value_of(number))
        told.send(number)


def chat_and_tell(cache: Cache, prompt: str, base_url: str, told: Connection) -> None:
    """One call of the SDK of another process."""
    from openai import OpenAI

    from cachewrap import patch_openai

    with patch_openai(), cache:
        told.send(chat(OpenAI(base_url=base_url, api_key="sk", max_retries=0), prompt))
