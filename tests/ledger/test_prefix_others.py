"""Other things that break what prompts have in common, and that do not: in short prompts too."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from ledger.prompting import QUESTIONS, RULES, TOOLS, Asking, Program, chatting, record, tool

SHORT = "You are a helpful assistant."
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-sonnet-4-5"

History = list[dict[str, Any]]


def drawn(turn: int, *of: Any) -> list[Any]:
    """Some things in an order of their own at each turn."""
    return random.Random(turn).sample(of, len(of))


def token(turn: int) -> str:
    return random.Random(turn).randbytes(6).hex()


def short(system: Callable[[int], Any] | str, **given: Any) -> Program:
    rules = (lambda turn: system) if isinstance(system, str) else system
    return chatting(rules, **{"tools": lambda turn: None, **given})


def first(change: Callable[[int, str], Any]) -> Callable[[int, History], History]:
    """A history whose first message is another one at each turn."""

    def edit(turn: int, history: History) -> History:
        return [{**history[0], "content": change(turn, history[0]["content"])}, *history[1:]]

    return edit


def singly(
    system: Callable[[int], str], question: Callable[[int], str] = QUESTIONS.__getitem__
) -> Program:
    def program(ask: Asking) -> None:
        for turn in range(6):
            messages = [{"role": "system", "content": system(turn)}]
            ask.chat(messages=[*messages, {"role": "user", "content": question(turn)}])

    return program


def no_system(question: Callable[[int], str]) -> Program:
    def program(ask: Asking) -> None:
        for turn in range(6):
            ask.chat(messages=[{"role": "user", "content": question(turn)}])

    return program


def gemini(
    system: Callable[[int], str] = lambda turn: SHORT,
    tools: Callable[[int], Any] = lambda turn: [],
    edit: Callable[[int, History], History] = lambda turn, history: history,
    model: Callable[[int], str] = lambda turn: "gemini-2.5-flash",
) -> Program:
    def program(ask: Asking) -> None:
        history: History = []
        for turn in range(6):
            history.append({"role": "user", "parts": [{"text": QUESTIONS[turn]}]})
            body = {
                "systemInstruction": {"parts": [{"text": system(turn)}]},
                "contents": edit(turn, copy.deepcopy(history)),
                "generationConfig": {"temperature": turn / 10},
                "tools": tools(turn),
            }
            said = ask.post(f"{GEMINI}/{model(turn)}:generateContent", body)["said"]
            history.append({"role": "model", "parts": [{"text": said}]})

    return program


def converse(system: Callable[[int], str]) -> Program:
    def program(ask: Asking) -> None:
        history: History = []
        tools = {"tools": [{"toolSpec": {"name": name}} for name in "ab"]}
        for turn in range(6):
            history.append({"role": "user", "content": [{"text": QUESTIONS[turn]}]})
            body = {"system": [{"text": system(turn)}], "messages": history, "toolConfig": tools}
            said = ask.post(f"{BEDROCK}/converse", body)["said"]
            history.append({"role": "assistant", "content": [{"text": said}]})

    return program


def claude(
    edit: Callable[[int, History], History] = lambda turn, history: history,
    more: Callable[[int], dict[str, Any]] = lambda turn: {},
) -> Program:
    """An agent with thinking and calls of tools."""

    def program(ask: Asking) -> None:
        history: History = [{"role": "user", "content": QUESTIONS[0]}]
        for turn in range(6):
            sent = edit(turn, copy.deepcopy(history))
            said = ask.claude(system=SHORT, messages=sent, **more(turn))
            used = {"type": "tool_use", "id": f"toolu_{turn}", "name": "look"}
            thought = {"type": "thinking", "thinking": f"I think: {said}", "signature": f"s{turn}"}
            blocks = [thought, {**used, "input": {"part": "chain", "amount": turn}}]
            result = {
                "type": "tool_result",
                "tool_use_id": f"toolu_{turn}",
                "content": "It is worn.",
            }
            history += [{"role": "assistant", "content": blocks}]
            history += [{"role": "user", "content": [result]}]

    return program


def without_thoughts(turn: int, history: History) -> History:
    for one in history[:-2]:
        if one["role"] == "assistant":
            del one["content"][0]
    return history


def other_order_of_input(turn: int, history: History) -> History:
    for at, one in enumerate(history):
        if one["role"] == "assistant":
            given = one["content"][1]["input"]
            one["content"][1]["input"] = dict(drawn(turn * 10 + at, *given.items()))
    return history


def cleared(turn: int, history: History) -> History:
    for one in history[:-3]:
        if one["role"] == "user":
            one["content"] = "[old content cleared]"
    return history


def named(turn: int, history: History) -> History:
    return [{**one, "name": f"user_{turn}"} if one["role"] == "user" else one for one in history]


def few_shots(ask: Asking) -> None:
    for turn, question in enumerate(QUESTIONS):
        messages: History = [{"role": "system", "content": SHORT}]
        for number in drawn(turn, *range(5)):
            messages += [{"role": "user", "content": f"Example {number}?"}]
            messages += [{"role": "assistant", "content": f"Reply {number}."}]
        ask.chat(messages=[*messages, {"role": "user", "content": question}])


def detail(turn: int, text: str) -> Any:
    picture = {"url": "https://pictures.example/a.png", "detail": "low" if turn % 2 else "high"}
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": picture}]


DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
HANDBOOK = "The handbook says: oil the chain each week, and after rain. " * 20
STEPS = "Use the tools that you have, one by one, and tell what you found. " * 6


def notes(turn: int) -> str:
    return "".join(f"\nThought {n}: look. Observation: part {n} is worn." for n in range(turn))


def asked_by(turn: int, text: str) -> str:
    return f"[req_{token(turn)}] {text}"


def of_a_set(turn: int) -> str:
    return f"{SHORT} Tools: {{{', '.join(drawn(turn, 'grep', 'find', 'ls', 'cat'))}}}"


def remembered(turn: int) -> str:
    return f"{SHORT} Known facts:" + "".join(f"\n- fact {n} of it" for n in range(turn))


def listed(turn: int) -> str:
    return SHORT + "".join(f"\n[{'x' if n < turn else ' '}] step {n}" for n in range(7))


def in_turn(*values: Any) -> Callable[[int], Any]:
    return lambda turn: values[turn % len(values)]


def squared(turn: int) -> str:
    return SHORT + "".join(f"\nQ: {n} A: {n * n}" for n in drawn(turn, *range(8)))


def plain(turn: int) -> str:
    return SHORT


def at_a_time(turn: int) -> str:
    return f"Time: 10:0{turn}\n{HANDBOOK}{QUESTIONS[turn]}"


def from_documents(turn: int) -> str:
    return "Answer from this: " + f"doc {turn} says so. " * 20


def meeting(turn: int) -> str:
    return f"Meeting at 1{turn}:00 with Ann.\n{HANDBOOK}"


def so_far(turn: int) -> str:
    return "So far: " + "we met. " * turn + "\nNew: " + f"part {turn}. " * 40


BREAKERS = [
    pytest.param(short(lambda n: f"Today is {DAYS[n]}. {SHORT}"), "time", id="weekday"),
    pytest.param(short(lambda n: f"Date: Nov 29, 2026 10:0{n} AM. {SHORT}"), "time", id="am_pm"),
    pytest.param(short(lambda n: f"{SHORT} Sun Nov 29 10:02:0{n} 2026"), "time", id="ctime"),
    pytest.param(short(lambda n: f"now={1764410520 + n} {SHORT}"), "time", id="epoch"),
    pytest.param(singly(lambda n: f"now={1764410520 + n * 1.5} {SHORT}"), "time", id="epochs"),
    pytest.param(
        short(SHORT, edit=first(asked_by)),
        "id",
        id="id_in_question",
    ),
    pytest.param(
        short(of_a_set),
        "order",
        id="set",
    ),
    pytest.param(
        short(
            SHORT,
            tools=lambda n: [tool("look", part={"enum": drawn(n, "rim", "hub", "fork", "cog")})],
        ),
        "order",
        id="enum",
    ),
    pytest.param(short(SHORT, edit=cleared), "text", id="cleared"),
    pytest.param(
        short(remembered),
        "added",
        id="memory",
    ),
    pytest.param(
        short(listed),
        "text",
        id="list_of_steps",
    ),
    pytest.param(
        short(in_turn(f"{SHORT}\r\nRules.", f"{SHORT}\nRules.")),
        "white space",
        id="line_ends",
    ),
    pytest.param(
        short(in_turn(f"Caf\u00e9. {SHORT}", f"Cafe\u0301. {SHORT}")),
        "white space",
        id="unicode",
    ),
    pytest.param(
        short(lambda n: f"{SHORT} Tokens left: {9000 - n * 137}."), "counter", id="tokens_left"
    ),
    pytest.param(
        short(lambda n: f"Work in /tmp/tmp{token(n)}/work. {SHORT}"), "id", id="temporary_folder"
    ),
    pytest.param(few_shots, "order", id="examples_shuffled"),
    pytest.param(
        singly(squared),
        "order",
        id="examples_shuffled_in_system",
    ),
    pytest.param(
        singly(plain, at_a_time),
        "time",
        id="time_before_document",
    ),
    pytest.param(
        no_system(lambda n: f"Now it is 10:0{n}.\n{STEPS}{notes(n)}"),
        "time",
        id="time_before_notes",
    ),
    pytest.param(short(SHORT, edit=first(detail)), "text", id="detail_of_picture"),
    pytest.param(short(SHORT, edit=named), "counter", id="name_of_user"),
    pytest.param(
        short(SHORT, more=in_turn({"model": "gpt-4o"}, {"model": "gpt-4o-mini"})),
        "model",
        id="models_in_turn",
    ),
    pytest.param(gemini(lambda n: f"It is 10:0{n}. {SHORT}"), "time", id="gemini_time"),
    pytest.param(
        gemini(model=in_turn("gemini-2.5-flash", "gemini-2.5-pro")),
        "model",
        id="gemini_model",
    ),
    pytest.param(
        gemini(
            tools=lambda n: [
                {"functionDeclarations": [{"name": name} for name in drawn(n, *"abcd")]}
            ]
        ),
        "order",
        id="gemini_tools",
    ),
    pytest.param(converse(lambda n: f"It is 10:0{n}. {SHORT}"), "time", id="converse_time"),
    pytest.param(claude(without_thoughts), "removed", id="thoughts_left_out"),
    pytest.param(claude(other_order_of_input), "order", id="order_of_input"),
    pytest.param(
        claude(more=in_turn(*({"output_config": {"effort": one}} for one in ("low", "high")))),
        "setting",
        id="effort",
    ),
]


@pytest.mark.parametrize(("program", "kind"), BREAKERS)
def test_it_is_named(program: Program, kind: str) -> None:
    found = record(program).prefix()
    assert [one.kind for one in found.breaks] == [kind], [one.text for one in found.breaks]


def tree(ask: Asking) -> None:
    front: list[History] = [[{"role": "user", "content": "Plan a tour."}]]
    for depth in range(3):
        new = []
        for history in front:
            for branch in range(2):
                said = ask.chat(messages=history, seed=branch)
                answer = {"role": "assistant", "content": said}
                new.append([*history, answer, {"role": "user", "content": f"Refine ({depth})."}])
        front = new


def swarm(ask: Asking) -> None:
    rules = {
        "triage": "Decide who helps next and say so.",
        "flights": "Find flights with the search tool; be exact with prices.",
        "hotels": "You know hotels. Offer three, by stars.",
    }
    history: History = [{"role": "user", "content": "Book me a trip to Rome."}]
    for turn in range(6):
        name = list(rules)[turn % 3]
        system = {"role": "system", "content": rules[name]}
        said = ask.chat(messages=[system, *history], tools=[tool(f"{name}_a")])
        history += [{"role": "assistant", "content": said}]
        history += [{"role": "user", "content": f"Fine, go on with {turn}."}]


def titled(model: str, tools: dict[str, Any]) -> Program:
    """A conversation beside which each step is given a title by another call."""

    def program(ask: Asking) -> None:
        history: History = [{"role": "system", "content": RULES}]
        for question in QUESTIONS[:4]:
            history.append({"role": "user", "content": question})
            said = ask.chat(messages=history, tools=TOOLS)
            history.append({"role": "assistant", "content": said})
            title = {"role": "user", "content": "Give this talk a title."}
            ask.chat(messages=[*history, title], model=model, **tools)

    return program


def greetings(ask: Asking) -> None:
    for what in ("cats", "dogs", "cows"):
        short(SHORT, questions=["Hi!", f"Tell me about {what}.", "Thanks, go on.", "continue"])(ask)


def people(ask: Asking) -> None:
    for name, age in (("Ann", 31), ("Bob", 45), ("Cleo", 62), ("Dan", 70)):
        for question in QUESTIONS[:3]:
            rules = {"role": "system", "content": f"You are {name}, aged {age}."}
            ask.chat(messages=[rules, {"role": "user", "content": question}])


def again(ask: Asking) -> None:
    for question in QUESTIONS:
        for _ in range(3):
            ask.chat(messages=[{"role": "user", "content": question}])


def grid(ask: Asking) -> None:
    for model in ("gpt-4o", "gpt-4o-mini"):
        for temperature in (0, 1):
            for question in QUESTIONS:
                messages = [{"role": "user", "content": question}]
                ask.chat(model=model, temperature=temperature, messages=messages)


def settings(turn: int) -> dict[str, Any]:
    """What is no part of a prompt."""
    key = {"prompt_cache_key": f"key-{turn}", "user": f"u{turn}"}
    return {"temperature": turn / 10, "max_tokens": 100 + turn, "stream": bool(turn % 2), **key}


def encoded(turn: int, text: str) -> Any:
    picture = {"url": f"data:image/png;base64,{'QUJD' * 900}"}
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": picture}]


def topics(ask: Asking) -> None:
    for number in range(5):
        rules = f"{RULES}\nYour task: look into topic {number + 1} of 5."
        chatting(lambda turn, rules=rules: rules, questions=QUESTIONS[:3])(ask)  # type: ignore[misc]


def ids_of_documents(turn: int) -> str:
    return f"Sum up document {token(turn)}, in one line. {SHORT}"


def seldom_shortened(turn: int, history: History) -> History:
    """A long conversation that is summed up at every tenth turn."""
    if turn < 10:
        return history
    summary = {"role": "user", "content": f"Summary number {turn // 10} of what was said."}
    return [summary, *history[2 * (turn - turn % 10) - 3 :]]


LONG = [f"{question} ({number})" for number in range(6) for question in QUESTIONS]

HEALTHY = [
    pytest.param(topics, id="topics"),
    pytest.param(singly(ids_of_documents), id="ids_of_documents"),
    pytest.param(singly(lambda n: f"Date: 2026-11-{10 + n}. Sum it up."), id="dates_of_documents"),
    pytest.param(short(SHORT, edit=seldom_shortened, questions=LONG), id="seldom_shortened"),
    pytest.param(short(SHORT, more=settings), id="settings"),
    pytest.param(short(SHORT, edit=first(encoded)), id="picture"),
    pytest.param(gemini(), id="gemini"),
    pytest.param(converse(lambda n: SHORT), id="converse"),
    pytest.param(claude(), id="thoughts_and_tools"),
    pytest.param(tree, id="tree"),
    pytest.param(swarm, id="swarm"),
    pytest.param(titled("gpt-4o", {}), id="titles_without_tools"),
    pytest.param(titled("gpt-4o-mini", {"tools": TOOLS}), id="titles_of_another_model"),
    pytest.param(greetings, id="greetings"),
    pytest.param(people, id="people"),
    pytest.param(again, id="the_same_again"),
    pytest.param(grid, id="models_and_temperatures"),
    pytest.param(singly(lambda n: f"Answer for a person aged {20 + n * 7}."), id="ages"),
    pytest.param(
        singly(lambda n: f"Sum up the article of 2026-11-{10 + n}."), id="dates_of_articles"
    ),
    pytest.param(singly(from_documents), id="documents_in_system"),
    pytest.param(
        singly(plain, meeting),
        id="meetings",
    ),
    pytest.param(
        singly(plain, so_far),
        id="refined",
    ),
    pytest.param(no_system(lambda n: f"{STEPS}{notes(n)}"), id="notes_that_grow"),
]


@pytest.mark.parametrize("program", HEALTHY)
def test_nothing_is_named(program: Program) -> None:
    found = record(program).prefix()
    assert [(one.kind, one.text) for one in found.breaks] == []


def test_the_table_is_json() -> None:
    rows = record(short(lambda n: f"It is 10:0{n}. {SHORT}")).prefix().to_dicts()
    assert json.loads(json.dumps(rows, default=str))[0]["calls"] == 6
