"""What the programs ask, and where."""

from __future__ import annotations

import os
from typing import Any

BASE_URL, FOLDER = os.environ["ASK"].split(" ")


def question(text: str) -> dict[str, Any]:
    """The keywords of a question."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def ask(text: str) -> str:
    """The answer to a question, by a client of its own."""
    from openai import OpenAI

    with OpenAI(base_url=BASE_URL, api_key="k", max_retries=0) as client:
        return str(client.chat.completions.create(**question(text)).choices[0].message.content)


async def aask(text: str) -> str:
    """`ask` for async callers."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=BASE_URL, api_key="k", max_retries=0) as client:
        answer = await client.chat.completions.create(**question(text))
        return str(answer.choices[0].message.content)


def stream(text: str) -> str:
    """The answer to a question, as it comes."""
    from openai import OpenAI

    with OpenAI(base_url=BASE_URL, api_key="k", max_retries=0) as client:
        events = client.chat.completions.create(**question(text), stream=True)
        return "".join(event.choices[0].delta.content or "" for event in events if event.choices)
