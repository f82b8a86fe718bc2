"""What the worker processes of the tests do; a spawned one imports it anew."""

from __future__ import annotations

import os
from typing import Any

from openai import OpenAI


def ask(base_url: str, question: str) -> tuple[int, str]:
    """Ask through the SDK; the process that asked, and the answer."""
    messages: Any = [{"role": "user", "content": question}]
    with OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        answer = client.chat.completions.create(model="m", messages=messages)
    return os.getpid(), answer.choices[0].message.content or ""


def ask_in_a_thread(base_url: str, question: str) -> tuple[int, str]:
    """The same from a thread of the worker."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask, base_url, question).result()


def ask_with(cache: Any, base_url: str, question: str, results: Any) -> None:
    """Ask inside the block of a cache that came as an argument."""
    from cachewrap import patch_openai

    with patch_openai(), cache:
        results.put(ask(base_url, question))
