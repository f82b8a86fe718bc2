"""Reads reviews of a shop: one model sums a review up, another says what the customer feels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.request import Request, urlopen

from openai import OpenAI

from cachewrap import llm_cached

# The SDK wants a key. In mode replay the plugin sets a placeholder.
client = OpenAI(base_url="https://api.openai.com/v1", max_retries=0)


@dataclass(frozen=True)
class Report:
    """What is to be known of a review."""

    summary: str
    feeling: str


def summary(review: str) -> str:
    """The review in a few words."""
    done = client.chat.completions.create(
        model="gpt-4o-mini",
        temperature=0.2,
        messages=[
            {"role": "system", "content": "Sum the review up in at most eight words."},
            {"role": "user", "content": review},
        ],
    )
    return done.choices[0].message.content or ""


@llm_cached
def feeling(text: str) -> str:
    """What a small model on this machine (Ollama) reads between the lines: one word."""
    prompt = f"Answer with one word, happy, angry or neutral. How does the writer feel? {text}"
    body = json.dumps({"model": "llama3.2", "prompt": prompt, "stream": False}).encode()
    request = Request("http://127.0.0.1:11434/api/generate", body)
    with urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["response"]).strip().lower()


def report(review: str) -> Report:
    """What both models make of a review."""
    return Report(summary(review), feeling(review))
