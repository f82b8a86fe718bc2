"""Agents and other programs that ask models, over the SDKs, and the runs that they make."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from standin import Upstream

from cachewrap import Cache, patch_anthropic, patch_openai
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.ledger.runs import Run
from cachewrap.request.canonical import canonical_body
from cachewrap.request.key import encode, key_of, salted
from cachewrap.telemetry.events import Event
from ledger.making import ended, write_run

RULES = "You mend bicycles and tell what you do. " + "Never lend the good torque wrench. " * 200
"""A system prompt of more than 1,024 tokens."""

QUESTIONS = [
    "The chain jumps on the smallest cog, what should I look at first?",
    "And if the cassette is new as well?",
    "Which tool do I need for the lock ring?",
    "How tight is it to be?",
    "May I reuse the spacers that are there?",
    "What about the derailleur's hanger?",
    "Thank you. Sum it up in a list, please.",
]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """A tool, as chat completions have it."""
    schema = properties or {"part": {"type": "string"}, "amount": {"type": "integer"}}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Use it to {name} something in the shop.",
            "parameters": {"type": "object", "properties": schema},
        },
    }


TOOLS = [tool(name) for name in ("look", "order", "mount", "grease")]


def flat(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same tools as Responses have them."""
    return [{"type": "function", **one["function"]} for one in tools]


def anthropics(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same tools as Anthropic has them."""
    return [
        {
            "name": one["function"]["name"],
            "description": one["function"]["description"],
            "input_schema": one["function"]["parameters"],
        }
        for one in tools
    ]


class Asking:
    """What a program asks with: answers are made here, and stored as the SDKs' are.

    Every call takes a second of its clock.

    Args:
        cache: where they are stored.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.rows: list[Any] = []
        self.clock = 1_800_000_000.0
        self.usage: Callable[[int, int], dict[str, Any]] = lambda number, tokens: {}

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock += seconds

    def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request over HTTP."""
        request = {"method": "POST", "url": url, "body": canonical_body(json.loads(_json(body)))}
        encoded = encode(request)
        key = key_of(salted(), encoded)
        outcome = "hit" if self.cache.store.get(key) else "miss"
        number = len(self.rows) + 1
        said = f"Answer {number}: it is so, as was seen {number * 17} times."
        answer = {"id": f"answer_{number}", "said": said, "content": [{"text": said}]}
        kind, dumped = codec.encode(HttpAnswer(200, [], [_json(answer).encode()], []))
        facts = Facts(self.clock, 1.0, source=f"POST {url}", model=body.get("model", ""))
        if outcome == "miss":
            self.cache.store.set(key, seal(kind, dumped, encoded, facts))
        self.count(key, outcome, body)
        return answer

    def count(self, key: str, outcome: str, body: dict[str, Any]) -> None:
        """Count a call."""
        self.clock += 1
        tokens = len(_json(body)) // 4
        raw = self.cache.store.get(key)
        assert raw is not None
        self.rows.append(
            ended(
                key,
                outcome,
                model=body.get("model", ""),
                started=self.clock,
                answered=self.cache._guard.unseal(key, raw).created,
                tokens_in=tokens,
                tokens_out=20,
                **self.usage(len(self.rows), tokens),
            )
        )

    def chat(self, **body: Any) -> str:
        """A chat completion's text."""
        body = {"model": "gpt-4o", **body}
        return str(self.post("https://api.openai.com/v1/chat/completions", body)["said"])

    def respond(self, **body: Any) -> tuple[str, str]:
        """The id and the text of a response."""
        body = {"model": "gpt-4o", **body}
        answer = self.post("https://api.openai.com/v1/responses", body)
        return answer["id"], answer["said"]

    def claude(self, **body: Any) -> str:
        """The text of a message of Anthropic's."""
        body = {"model": "claude-sonnet-4-5", "max_tokens": 100, **body}
        return str(self.post("https://api.anthropic.com/v1/messages", body)["said"])


class AskingUpstream(Asking):
    """The same with the SDKs, against a stand-in upstream."""

    def __init__(self, cache: Cache, up: Upstream) -> None:
        super().__init__(cache)
        anthropic = pytest.importorskip("anthropic", reason="runs in `sdks`")
        self._openai = openai.OpenAI(base_url=up.base_url, api_key="none", max_retries=0)
        self._anthropic = anthropic.Anthropic(base_url=up.root_url, api_key="none", max_retries=0)
        self._told: list[Event] = []

    def hear(self, event: Event) -> None:
        """A hook of the cache's."""
        self._told.append(event)

    def _done(self, body: dict[str, Any]) -> None:
        event = self._told[-1]
        assert event.outcome is not None
        self.count(event.key, event.outcome.name.lower(), body)

    def chat(self, **body: Any) -> str:
        body = {"model": "gpt-4o", **body}
        answer = self._openai.chat.completions.create(**body)
        self._done(body)
        return answer.choices[0].message.content or f"I did step {len(self.rows)} of it."

    def respond(self, **body: Any) -> tuple[str, str]:
        body = {"model": "gpt-4o", **body}
        answer = self._openai.responses.create(**body)
        self._done(body)
        return answer.id, answer.output_text or f"I did step {len(self.rows)} of it."

    def claude(self, **body: Any) -> str:
        body = {"model": "claude-sonnet-4-5", "max_tokens": 100, **body}
        answer = self._anthropic.messages.create(**body)
        self._done(body)
        return getattr(answer.content[0], "text", f"I did step {len(self.rows)} of it.")


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


Program = Callable[[Asking], None]
Turn = Callable[[int], Any]
Edit = Callable[[int, list[dict[str, Any]]], list[dict[str, Any]]]


def record(*programs: Program, name: str = "a", cache: Cache | None = None) -> Run:
    """The run of some programs, one after the other."""
    asking = Asking(cache or Cache.memory())
    for program in programs:
        program(asking)
    return write_run(asking.cache, name, asking.rows)


def record_upstream(program: Program, name: str = "a", cache: Cache | None = None) -> Run:
    """The run of a program with the SDKs, against a stand-in upstream."""
    cache = cache or Cache.memory()
    with Upstream() as up:
        asking = AskingUpstream(cache, up)
        with patch_openai(), patch_anthropic(), cache.telling(asking.hear):
            program(asking)
    return write_run(cache, name, asking.rows)


def always(value: Any) -> Turn:
    """The same at every turn."""
    return lambda turn: value


RULED = always(RULES)
TOOLED = always(TOOLS)
PLAIN = always({})


def whole(turn: int, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history as it is."""
    return messages


def chatting(
    system: Turn = RULED,
    tools: Turn = TOOLED,
    edit: Edit = whole,
    more: Turn = PLAIN,
    questions: list[Any] = QUESTIONS,
) -> Program:
    """An agent on chat completions.

    Args:
        system: its system prompt at each turn.
        tools: its tools.
        edit: what it makes of the history before it is sent.
        more: other members of the request.
        questions: what it is asked, turn by turn.
    """

    def program(ask: Asking) -> None:
        history: list[dict[str, Any]] = []
        for turn, question in enumerate(questions):
            history.append({"role": "user", "content": question})
            rules = [{"role": "system", "content": system(turn)}] if system(turn) else []
            given = {"tools": tools(turn)} if tools(turn) else {}
            sent = [*rules, *edit(turn, json.loads(json.dumps(history)))]
            said = ask.chat(messages=sent, **given, **more(turn))
            history.append({"role": "assistant", "content": said})

    return program


def responding(
    system: Turn = RULED,
    tools: Turn = TOOLED,
    edit: Edit = whole,
    more: Turn = PLAIN,
    chained: bool = False,
) -> Program:
    """The same on Responses; ``chained`` by the id of the answer before."""

    def program(ask: Asking) -> None:
        history: list[dict[str, Any]] = []
        previous: dict[str, Any] = {}
        for turn, question in enumerate(QUESTIONS):
            history.append({"role": "user", "content": question})
            sent: Any = history[-1:] if chained else edit(turn, json.loads(json.dumps(history)))
            name, said = ask.respond(
                instructions=system(turn),
                tools=flat(tools(turn)),
                input=sent,
                **previous,
                **more(turn),
            )
            history.append({"role": "assistant", "content": said})
            if chained:
                previous = {"previous_response_id": name}

    return program


def speaking(
    system: Turn = RULED,
    tools: Turn = TOOLED,
    edit: Edit = whole,
    more: Turn = PLAIN,
    questions: list[Any] = QUESTIONS,
) -> Program:
    """The same on Anthropic's messages, with the marks of its cache."""

    def program(ask: Asking) -> None:
        mark = {"cache_control": {"type": "ephemeral"}}
        history: list[dict[str, Any]] = []
        for turn, question in enumerate(questions):
            history.append({"role": "user", "content": question})
            sent = edit(turn, json.loads(json.dumps(history)))
            if isinstance(sent[-1]["content"], str):
                sent[-1]["content"] = [{"type": "text", "text": sent[-1]["content"], **mark}]
            given = {"tools": anthropics(tools(turn))} if tools(turn) else {}
            rules = [{"type": "text", "text": system(turn), **mark}]
            said = ask.claude(system=rules, messages=sent, **given, **more(turn))
            history.append({"role": "assistant", "content": said})

    return program
