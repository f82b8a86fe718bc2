"""What broke the common beginning of a run's prompts, and runs in which nothing did."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest

from ledger.prompting import (
    QUESTIONS,
    RULED,
    RULES,
    TOOLED,
    TOOLS,
    Asking,
    Program,
    Turn,
    always,
    chatting,
    record,
    record_upstream,
    responding,
    speaking,
    tool,
)


def stamped(turn: int) -> str:
    return f"It is 2026-11-29T10:{turn + 2:02}. {RULES}"


def with_id(turn: int) -> str:
    return f"Session {uuid.UUID(int=random.Random(turn).getrandbits(128))}\n{RULES}"


def shuffled(turn: int) -> list[Any]:
    one, other = (1, 2) if turn % 2 else (2, 1)
    return [TOOLS[0], TOOLS[one], TOOLS[other], TOOLS[3]]


def sorted_anew(turn: int) -> list[Any]:
    found = list(TOOLS)
    random.Random(turn).shuffle(found)
    return found


def defined_anew(turn: int) -> list[Any]:
    told = tool("look")
    told["function"]["description"] = f"Look at a part. {turn} of them are left."
    return [told, *TOOLS[1:]]


def growing(turn: int) -> list[Any]:
    return [*[tool(f"extra_{number}") for number in range(turn)], *TOOLS]


def schema(turn: int) -> list[Any]:
    names = ["part", "amount", "colour"]
    random.Random(turn + 3).shuffle(names)
    return [tool("look", **{name: {"type": "string"} for name in names}), *TOOLS[1:]]


def files(turn: int) -> str:
    names = [f"src/{name}.py" for name in ("wheel", "chain", "brake", "fork", "saddle", "hub")]
    random.Random(turn).shuffle(names)
    return "These files are here:\n" + "\n".join(names) + f"\n\n{RULES}"


def settings(turn: int) -> str:
    names = ["shop", "city", "currency", "language"]
    random.Random(turn).shuffle(names)
    return f"Settings: {json.dumps({name: name * 2 for name in names})}\n{RULES}"


def indented(turn: int) -> str:
    return RULES.replace(". ", ".  ", 1) if turn % 2 else RULES


def counted(turn: int) -> str:
    return f"Request no. {turn + 1}. {RULES}"


def edited(turn: int, messages: list[Any]) -> list[Any]:
    for at, one in enumerate(messages[:-2]):
        if one["role"] == "assistant" and at <= len(messages) - 4:
            one["content"] = "(shortened)"
    return messages


def windowed(turn: int, messages: list[Any]) -> list[Any]:
    return messages[-5:]


def compacted(turn: int, messages: list[Any]) -> list[Any]:
    if turn < 3:
        return messages
    summary = {"role": "user", "content": f"Summary of what was said, up to {turn} turns ago."}
    return [summary, *messages[-3:]]


def put_in_front(turn: int, messages: list[Any]) -> list[Any]:
    return [{"role": "user", "content": f"Remember that the shop closes soon ({turn})."}, *messages]


def stamped_messages(turn: int, messages: list[Any]) -> list[Any]:
    for at, one in enumerate(messages):
        if one["role"] == "user":
            one["content"] = f"[sent {turn - at // 2} minutes ago, 10:{turn:02}] {one['content']}"
    return messages


def pictured(turn: int, messages: list[Any]) -> list[Any]:
    data = "".join(random.Random(turn).choices("ABCDEFGHabcdefgh0123456789+/", k=4000))
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    messages[0]["content"] = [{"type": "text", "text": messages[0]["content"]}, picture]
    return messages


def signed(turn: int, messages: list[Any]) -> list[Any]:
    url = f"https://pictures.example/chain.png?version={uuid.UUID(int=turn + 2**100).hex}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    messages[0]["content"] = [{"type": "text", "text": messages[0]["content"]}, picture]
    return messages


def called(turn: int, messages: list[Any]) -> list[Any]:
    """Calls of tools whose ids are made anew at each turn."""
    found = []
    for at, one in enumerate(messages):
        if one["role"] == "assistant":
            name = f"call_{uuid.UUID(int=random.Random(turn * 100 + at).getrandbits(128)).hex[:24]}"
            arguments = json.dumps({"part": "chain", "amount": at})
            call = {"id": name, "type": "function"}
            call["function"] = {"name": "look", "arguments": arguments}  # type: ignore[assignment]
            found.append({"role": "assistant", "content": one["content"], "tool_calls": [call]})
            found.append({"role": "tool", "tool_call_id": name, "content": f"Part {at} is worn."})
        else:
            found.append(one)
    return found


def results_shuffled(turn: int, messages: list[Any]) -> list[Any]:
    names = ["wear", "length", "age", "links"]
    random.Random(turn).shuffle(names)
    messages[0]["content"] += " " + json.dumps({name: len(name) for name in names})
    return messages


def without_context(turn: int, messages: list[Any]) -> list[Any]:
    context = f"From the handbook, page {turn + 10}:\n" + "Oil it, wipe it, ride it. " * 40
    messages[-1]["content"] = f"{context}\n\nQuestion: {messages[-1]['content']}"
    return messages


def switched(turn: int) -> dict[str, Any]:
    return {"model": "gpt-4o" if turn < 3 else "gpt-4o-mini"}


def waiting(program: Program, seconds: float) -> Program:
    def slowly(ask: Asking) -> None:
        chat, claude = ask.chat, ask.claude

        def later(of: Any) -> Any:
            def call(**body: Any) -> Any:
                ask.wait(seconds)
                return of(**body)

            return call

        ask.chat, ask.claude = later(chat), later(claude)  # type: ignore[method-assign]
        program(ask)

    return slowly


def one_by_one(
    system: Turn = RULED,
    question: Turn = QUESTIONS.__getitem__,
    tools: Turn = TOOLED,
) -> Program:
    def program(ask: Asking) -> None:
        for turn in range(6):
            messages = [
                {"role": "system", "content": system(turn)},
                {"role": "user", "content": question(turn)},
            ]
            ask.chat(messages=messages, tools=tools(turn))

    return program


def thinking(turn: int) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", "budget_tokens": 1024 * (1 + turn % 2)}}


def choosing(turn: int) -> dict[str, Any]:
    return {"tool_choice": {"type": "any" if turn % 2 else "auto"}}


def formatted(turn: int) -> dict[str, Any]:
    names = ["answer", "why"] if turn % 2 else ["why", "answer"]
    shape = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": shape}}
    }


def many_blocks(turn: int) -> Any:
    return [{"type": "text", "text": f"Line {number} of log {turn}."} for number in range(25)]


def at_last(turn: int) -> list[Any]:
    return TOOLS if turn < 6 else []


BREAKERS = [
    pytest.param(
        chatting(stamped),
        "time",
        "a time stamp at character 6: '2026-11-29T10:02' → '2026-11-29T10:03'",
        6,
        id="time_stamp",
    ),
    pytest.param(
        responding(stamped), "time", "instructions: a time stamp", 6, id="time_stamp_responses"
    ),
    pytest.param(
        responding(stamped, chained=True),
        "time",
        "instructions: a time stamp",
        6,
        id="time_stamp_chained",
    ),
    pytest.param(
        speaking(stamped), "time", "a time stamp at character 6", 6, id="time_stamp_anthropic"
    ),
    pytest.param(chatting(with_id), "id", "a random id at character 8", 6, id="random_id"),
    pytest.param(
        chatting(tools=shuffled),
        "order",
        "tools[1] and tools[2] have changed places",
        6,
        id="tools_swapped",
    ),
    pytest.param(
        speaking(tools=sorted_anew), "order", "in another order", 6, id="tools_in_another_order"
    ),
    pytest.param(
        responding(tools=shuffled),
        "order",
        "tools[1] and tools[2] have changed places",
        6,
        id="tools_swapped_responses",
    ),
    pytest.param(
        chatting(tools=defined_anew),
        "counter",
        "tool 'look': tools[0].function.description: a counter",
        6,
        id="tool_with_a_count",
    ),
    pytest.param(chatting(tools=growing), "added", "'extra_0' came in", 6, id="tools_added"),
    pytest.param(
        chatting(tools=schema),
        "order",
        "keys are in another order",
        None,
        id="schema_in_another_order",
    ),
    pytest.param(
        chatting(files), "order", "lines in another order", 6, id="files_in_another_order"
    ),
    pytest.param(
        speaking(settings), "order", "JSON keys in another order", 6, id="keys_in_another_order"
    ),
    pytest.param(
        chatting(indented), "white space", "white space at character", 6, id="white_space"
    ),
    pytest.param(
        chatting(counted),
        "counter",
        "a counter or another number at character 12: '1' → '2'",
        6,
        id="counter",
    ),
    pytest.param(
        chatting(edit=edited),
        "text",
        "messages[2].content was edited after it was sent",
        5,
        id="edited_history",
    ),
    pytest.param(
        speaking(edit=edited),
        "text",
        "messages[1].content was edited after it was sent",
        5,
        id="edited_history_anthropic",
    ),
    pytest.param(chatting(edit=windowed), "window", "dropped from the history", 4, id="window"),
    pytest.param(chatting(edit=compacted), "summary", "summary", 4, id="summary_at_every_turn"),
    pytest.param(
        chatting(edit=put_in_front),
        "counter",
        "messages[1].content: a counter",
        6,
        id="reminder_in_front",
    ),
    pytest.param(
        chatting(edit=stamped_messages), "counter", "messages[1].content", 6, id="ages_of_messages"
    ),
    pytest.param(
        chatting(edit=pictured), "picture", "a picture that was encoded again", 6, id="picture"
    ),
    pytest.param(
        chatting(edit=signed), "address", "the query of an address changed", 6, id="signed_address"
    ),
    pytest.param(chatting(edit=called), "id", "a random id", 5, id="ids_of_calls"),
    pytest.param(
        chatting(edit=results_shuffled),
        "order",
        "JSON keys in another order",
        6,
        id="results_in_another_order",
    ),
    pytest.param(
        chatting(edit=without_context),
        "removed",
        "was edited after it was sent",
        6,
        id="context_left_out",
    ),
    pytest.param(
        chatting(more=switched),
        "model",
        "the model changed: 'gpt-4o' → 'gpt-4o-mini'",
        1,
        id="model",
    ),
    pytest.param(waiting(speaking(), 400), "pause", "7 minutes", 6, id="pause"),
    pytest.param(waiting(chatting(), 4000), "pause", "1.1 hours", 6, id="pause_openai"),
    pytest.param(speaking(more=thinking), "setting", "thinking changed", 6, id="thinking"),
    pytest.param(speaking(more=choosing), "setting", "tool_choice changed", 6, id="tool_choice"),
    pytest.param(chatting(more=formatted), "order", "response_format", 6, id="response_format"),
    pytest.param(
        chatting(tools=at_last),
        "removed",
        "all 4 tools were left out",
        1,
        id="tools_left_out_at_last",
    ),
    pytest.param(one_by_one(stamped), "time", "a time stamp", 5, id="time_stamp_over_questions"),
    pytest.param(one_by_one(with_id), "id", "a random id", 5, id="id_over_questions"),
    pytest.param(one_by_one(counted), "counter", "a counter", 5, id="counter_over_questions"),
    pytest.param(
        one_by_one(files), "order", "lines in another order", 5, id="files_over_questions"
    ),
    pytest.param(one_by_one(tools=sorted_anew), "order", "tools", None, id="tools_over_questions"),
    pytest.param(
        speaking(questions=[many_blocks(n) for n in range(4)]),
        "lookback",
        "blocks were added at once",
        3,
        id="many_blocks",
    ),
]


@pytest.mark.parametrize(("program", "kind", "text", "struck"), BREAKERS)
def test_what_breaks_is_named(program: Program, kind: str, text: str, struck: int | None) -> None:
    found = record(program).prefix()
    told = [(one.kind, one.text, len(one.calls)) for one in found.breaks]
    assert [(one[0], text in one[1]) for one in told] == [(kind, True)], told
    if struck is not None:
        assert told[0][2] == struck


# -- runs in which nothing is wrong ----------------------------------------------------------------


def agents_inside(ask: Asking) -> None:
    """An agent that has others do parts of the work, each with a prompt and tools of its own."""
    history: list[dict[str, Any]] = [{"role": "user", "content": QUESTIONS[0]}]
    for turn in range(4):
        rules = {"role": "system", "content": RULES}
        said = ask.chat(messages=[rules, *history], tools=TOOLS)
        inner: list[dict[str, Any]] = [{"role": "user", "content": f"Look up: {said}"}]
        for step in range(3):
            own = {"role": "system", "content": f"You are agent {turn + 1}. You look things up."}
            answer = ask.chat(messages=[own, *inner], tools=[tool("search"), tool("read")])
            inner += [{"role": "assistant", "content": answer}]
            inner += [{"role": "user", "content": f"Go on, step {step}."}]
        history += [{"role": "assistant", "content": said}]
        history += [{"role": "user", "content": f"Found: {inner[-2]['content']}"}]


def best_of_many(ask: Asking) -> None:
    history: list[dict[str, Any]] = [
        {"role": "system", "content": RULES},
        {"role": "user", "content": QUESTIONS[0]},
        {"role": "assistant", "content": "Look at the chain."},
    ]
    for question in QUESTIONS:
        sent = [*history, {"role": "user", "content": question}]
        said = ask.chat(messages=sent)
        for other in QUESTIONS[:3]:
            more = [{"role": "assistant", "content": said}, {"role": "user", "content": other}]
            ask.chat(messages=[*sent, *more])


def map_and_reduce(ask: Asking) -> None:
    notes = []
    for number in range(6):
        text = f"Protocol {number}, of 2026-11-{number + 10}: " + f"We met as {number}. " * 100
        notes.append(ask.claude(system=RULES, messages=[{"role": "user", "content": text}]))
    joined = "\n".join(notes)
    ask.claude(system=RULES, messages=[{"role": "user", "content": f"Sum up:\n{joined}"}])


def compacts_at_the_end(turn: int, messages: list[Any]) -> list[Any]:
    if turn < 6:
        return messages
    return [{"role": "user", "content": "Summary: a chain was mended."}, *messages[-3:]]


def judged(ask: Asking) -> None:
    chatting()(ask)
    history = [
        {"role": "system", "content": "You grade what an assistant said from 1 to 5."},
        {"role": "user", "content": f"It said: {QUESTIONS}"},
    ]
    ask.chat(messages=history, model="gpt-4o-mini")


def handed_over(ask: Asking) -> None:
    """A conversation that another agent takes over, with its own rules and tools."""
    history: list[dict[str, Any]] = []
    other = "Welcome. As the clerk you write bills, in euros, and ask for the address first."
    for turn, question in enumerate(QUESTIONS):
        history.append({"role": "user", "content": question})
        rules = {"role": "system", "content": RULES if turn < 3 else other}
        tools = TOOLS if turn < 3 else [tool("bill")]
        said = ask.chat(messages=[rules, *history], tools=tools)
        history.append({"role": "assistant", "content": said})


def debate(ask: Asking) -> None:
    """Two that hear each other, with prompts that are alike."""
    said: list[tuple[str, str]] = [("", QUESTIONS[0])]
    for turn in range(8):
        name = ("Ann", "Bob")[turn % 2]
        rules = {"role": "system", "content": f"You are {name}, who argues. {RULES}"}
        heard = [
            {"role": "assistant" if who == name else "user", "content": text} for who, text in said
        ]
        said.append((name, ask.chat(messages=[rules, *heard])))


def many_models(ask: Asking) -> None:
    for model in ("gpt-4o", "gpt-4o-mini", "gpt-4.1"):
        chatting(more=always({"model": model}))(ask)


def workers(ask: Asking) -> None:
    for number in range(5):
        rules = f"You are worker {number + 1} of 5. {RULES}"
        chatting(always(rules), questions=QUESTIONS[:3])(ask)


def for_people(ask: Asking) -> None:
    for name in ("Ann", "Bob", "Cleo", "Dan"):
        chatting(always(f"You help {name}. {RULES}"), questions=QUESTIONS[:3])(ask)


def with_examples(ask: Asking) -> None:
    """Examples chosen for each question."""
    for turn, question in enumerate(QUESTIONS):
        chosen = random.Random(turn).sample(range(20), 3)
        messages: list[dict[str, Any]] = [{"role": "system", "content": RULES}]
        for number in chosen:
            messages += [{"role": "user", "content": f"Example question number {number}?"}]
            messages += [{"role": "assistant", "content": f"Example answer number {number}."}]
        ask.chat(messages=[*messages, {"role": "user", "content": question}])


def from_a_data_set(ask: Asking) -> None:
    """Conversations that others have had, each to be gone on with once."""
    for number in range(8):
        messages: list[dict[str, Any]] = [{"role": "system", "content": RULES}]
        for turn in range(3):
            messages += [
                {"role": "user", "content": "Go on." if turn else f"Tale {number}, please."}
            ]
            messages += [{"role": "assistant", "content": f"Part {turn} of tale {number}: once."}]
        ask.chat(messages=[*messages, {"role": "user", "content": "And then?"}])


def forecasts(ask: Asking) -> None:
    for day in range(10, 16):
        rules = f"You forecast the weather of 2026-11-{day}. {RULES}"
        chatting(always(rules), questions=QUESTIONS[:2])(ask)


def undone(ask: Asking) -> None:
    """Somebody who goes back, asks something else, and goes on from there."""
    history: list[dict[str, Any]] = [{"role": "system", "content": RULES}]
    for question in QUESTIONS[:4]:
        history.append({"role": "user", "content": question})
        history.append({"role": "assistant", "content": ask.chat(messages=history)})
    history = history[:3]
    for question in QUESTIONS[4:]:
        history.append({"role": "user", "content": question})
        history.append({"role": "assistant", "content": ask.chat(messages=history)})


def reminded(turn: int, messages: list[Any]) -> list[Any]:
    """A reminder at the end, which is not kept."""
    return [*messages, {"role": "system", "content": f"It is 10:{turn:02}. Be brief."}]


def tries_many_prompts(ask: Asking) -> None:
    for rules in (RULES, f"Answer in rhymes. {RULES}", f"Answer in one line. {RULES}"):
        one_by_one(always(rules))(ask)


HEALTHY = [
    pytest.param(chatting(), id="agent"),
    pytest.param(responding(), id="agent_responses"),
    pytest.param(responding(chained=True), id="agent_chained"),
    pytest.param(speaking(), id="agent_anthropic"),
    pytest.param(one_by_one(), id="independent_questions"),
    pytest.param(agents_inside, id="agents_inside"),
    pytest.param(best_of_many, id="best_of_many"),
    pytest.param(map_and_reduce, id="map_and_reduce"),
    pytest.param(chatting(edit=compacts_at_the_end), id="compacts_at_the_end"),
    pytest.param(judged, id="judged"),
    pytest.param(handed_over, id="handed_over"),
    pytest.param(debate, id="debate"),
    pytest.param(many_models, id="many_models"),
    pytest.param(workers, id="workers"),
    pytest.param(for_people, id="for_people"),
    pytest.param(with_examples, id="examples_for_each_question"),
    pytest.param(from_a_data_set, id="from_a_data_set"),
    pytest.param(forecasts, id="forecasts"),
    pytest.param(undone, id="undone"),
    pytest.param(chatting(edit=reminded), id="reminder_at_the_end"),
    pytest.param(tries_many_prompts, id="tries_many_prompts"),
]


@pytest.mark.parametrize("program", HEALTHY)
def test_nothing_is_named_where_nothing_is_wrong(program: Program) -> None:
    found = record(program).prefix()
    assert [(one.kind, one.text) for one in found.breaks] == []
    assert found.kept == found.shared


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        pytest.param(chatting(stamped), "time", id="chat_completions"),
        pytest.param(responding(stamped, chained=True), "time", id="responses"),
        pytest.param(speaking(tools=shuffled), "order", id="anthropic"),
        pytest.param(speaking(), "", id="healthy_anthropic"),
        pytest.param(responding(chained=True), "", id="healthy_responses"),
    ],
)
def test_requests_of_the_sdks_tell_it(program: Program, kind: str) -> None:
    found = record_upstream(program).prefix()
    assert [one.kind for one in found.breaks] == [kind] * bool(kind)
    assert found.shared == 6
