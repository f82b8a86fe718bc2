"""How the stand-in upstream answers requests for text: chat, completions, responses, messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from standin.schema import example
from standin.wire import Answer, Draw, dump, fault, morsels, plain

Body = dict[str, Any]
Events = list[tuple[str, str]]


def _words(value: object) -> str:
    """Every piece of text inside a request's messages, in order."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _words(value.get("content") or value.get("text") or "")
    if isinstance(value, list):
        return " ".join(_words(item) for item in value)
    return ""


def _subject(messages: object) -> str:
    """The text of the last message."""
    return _words(messages[-1] if isinstance(messages, list) and messages else messages)


def _count(text: str) -> int:
    return max(1, len(text.split()))


def _wanted_tool(body: Body, subject: str) -> tuple[str, Any] | None:
    """The function to call (name, schema of its arguments), if tools are given and asked for.

    They are asked for by ``tool_choice``, or by a last message that contains the function's name.
    """
    choice = body.get("tool_choice", "auto")
    named = None
    if isinstance(choice, dict):
        named = choice.get("function", choice).get("name")
        choice = choice.get("type")
    for tool in body.get("tools") or ():
        function = tool.get("function", tool)
        name = function.get("name") or ""
        asked = choice in ("required", "any") or (choice == "auto" and name and name in subject)
        if choice != "none" and (name == named if named else asked):
            schema = function.get("parameters") or function.get("input_schema") or {}
            return name, schema
    return None


def _text(form: Body, draw: Draw, subject: str) -> str:
    """The answer in the format asked for: a sentence, or JSON that fits the schema."""
    kind, said = form.get("type"), draw.text(subject)
    if kind in ("json_schema", "json_object") and said.startswith("{"):
        return said
    if kind == "json_schema":
        return dump(example(form.get("json_schema", form).get("schema"), draw))
    if kind == "json_object":
        return dump({"answer": said})
    return said


def chat(body: Body, draw: Draw, streamed: bool) -> Answer:
    """``POST chat/completions``."""
    if not isinstance(body.get("messages"), list):
        return fault(400, "Missing required parameter: 'messages'.", "missing_required_parameter")
    subject = _subject(body["messages"])
    tool = _wanted_tool(body, subject)
    choices: list[Body] = []
    for index in range(int(body.get("n") or 1)):
        one = draw if index == 0 else Draw(draw.number, says=draw.says)
        message: Body = {"role": "assistant", "refusal": None, "annotations": []}
        if tool is None:
            message["content"] = _text(body.get("response_format") or {}, one, subject)
        else:
            arguments = dump(example(tool[1], one))
            function = {"name": tool[0], "arguments": arguments}
            call = {"id": f"call_{one.token}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        reason = ("stop" if tool is None else "tool_calls") if draw.finish else None
        choices.append(
            {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
        )
    head: Body = {
        "id": f"chatcmpl-{draw.token}",
        "created": draw.created,
        "model": body.get("model", "stand-in"),
        "system_fingerprint": f"fp_{draw.token[:10]}",
        "stand_in": {"call": draw.number},
    }
    said = sum(_count(choice["message"]["content"] or "") for choice in choices)
    usage = _chat_usage(_count(_words(body["messages"])), said)
    if not streamed:
        return plain({"object": "chat.completion", **head, "choices": choices, "usage": usage})
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    frame = {"object": "chat.completion.chunk", **head} | ({"usage": None} if wants_usage else {})
    events = [("", dump(frame | {"choices": [part]})) for c in choices for part in _deltas(c)]
    if wants_usage:
        events.append(("", dump(frame | {"choices": [], "usage": usage})))
    return Answer("text/event-stream; charset=utf-8", events=tuple(events), done=True)


def _chat_usage(asked: int, said: int) -> Body:
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    }


def _deltas(choice: Body) -> Iterable[Body]:
    """One choice of a chat completion as the choices of its stream's chunks."""

    def part(delta: Body, reason: str | None = None) -> Body:
        index = choice["index"]
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    message = choice["message"]
    if message["content"] is not None:
        yield part({"role": "assistant", "content": "", "refusal": None})
        yield from (part({"content": piece}) for piece in morsels(message["content"]))
    else:
        [call] = message["tool_calls"]
        function = {"name": call["function"]["name"], "arguments": ""}
        opening = {"index": 0, "id": call["id"], "type": "function", "function": function}
        yield part({"role": "assistant", "content": None, "tool_calls": [opening]})
        for piece in morsels(call["function"]["arguments"]):
            yield part({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    if choice["finish_reason"]:
        yield part({}, choice["finish_reason"])


def completions(body: Body, draw: Draw, streamed: bool) -> Answer:
    """``POST completions``, the API before chat."""
    prompts = body.get("prompt")
    prompts = prompts if isinstance(prompts, list) else [prompts]
    draws = [draw, *(Draw(draw.number, says=draw.says) for _ in prompts[1:])]
    texts = [one.text(_words(prompt)) for one, prompt in zip(draws, prompts, strict=True)]
    head: Body = {
        "id": f"cmpl-{draw.token}",
        "object": "text_completion",
        "created": draw.created,
        "model": body.get("model", "stand-in"),
    }
    usage = _chat_usage(_count(_words(prompts)), sum(_count(text) for text in texts))

    def choice(index: int, text: str, reason: str | None) -> Body:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}

    reason = "stop" if draw.finish else None
    if not streamed:
        choices = [choice(index, text, reason) for index, text in enumerate(texts)]
        return plain(head | {"choices": choices, "usage": usage})
    events: Events = []
    for index, text in enumerate(texts):
        parts = [choice(index, piece, None) for piece in morsels(text)]
        parts += [choice(index, "", reason)] if reason else []
        events += [("", dump(head | {"choices": [part]})) for part in parts]
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(("", dump(head | {"choices": [], "usage": usage})))
    return Answer("text/event-stream", events=tuple(events), done=True)


def responses(body: Body, draw: Draw, streamed: bool) -> Answer:
    """``POST responses``."""
    subject = _subject(body.get("input") or "")
    tool = _wanted_tool(body, subject)
    form = (body.get("text") or {}).get("format") or {"type": "text"}
    status = "queued" if body.get("background") else draw.status
    text = _text(form, draw, subject)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item: Body = {"id": f"msg_{draw.token}", "type": "message", "role": "assistant"}
    item |= {"status": "completed", "content": [part]}
    if tool is not None:
        item = {"id": f"fc_{draw.token}", "type": "function_call", "status": "completed"}
        item |= {"call_id": f"call_{draw.token}", "name": tool[0]}
        item |= {"arguments": dump(example(tool[1], draw))}
    asked, said = _count(_words(body.get("input"))), _count(text)
    final: Body = {
        "id": f"resp_{draw.token}",
        "object": "response",
        "created_at": draw.created,
        "status": status,
        "background": bool(body.get("background")),
        "error": {"code": "server_error", "message": "It failed."} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": body.get("model", "stand-in"),
        "output": [item] if status in ("completed", "incomplete") else [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": form},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + said,
        },
        "stand_in": {"call": draw.number},
    }
    if not streamed:
        return plain(final)
    opening = final | {"status": "in_progress", "output": [], "usage": None, "error": None}
    steps = [
        {"type": "response.created", "response": opening},
        {"type": "response.in_progress", "response": opening},
        *_item_steps(item),
    ]
    if draw.finish:
        steps.append({"type": f"response.{status}", "response": final})
    events = [
        (step["type"], dump(step | {"sequence_number": number}))
        for number, step in enumerate(steps)
    ]
    return Answer("text/event-stream; charset=utf-8", events=tuple(events))


def _item_steps(item: Body) -> list[Body]:
    """The events that build one output item of a response."""
    place = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        empty = item | {"status": "in_progress", "arguments": ""}
        name = "response.function_call_arguments"
        middle = [
            *({"type": f"{name}.delta", **place, "delta": p} for p in morsels(item["arguments"])),
            {"type": f"{name}.done", **place, "name": item["name"], "arguments": item["arguments"]},
        ]
    else:
        [part] = item["content"]
        place |= {"content_index": 0}
        empty = item | {"status": "in_progress", "content": []}
        name = "response.output_text"
        middle = [
            {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
            *(
                {"type": f"{name}.delta", **place, "delta": piece, "logprobs": []}
                for piece in morsels(part["text"])
            ),
            {"type": f"{name}.done", **place, "text": part["text"], "logprobs": []},
            {"type": "response.content_part.done", **place, "part": part},
        ]
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        *middle,
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


def messages(body: Body, draw: Draw, streamed: bool) -> Answer:
    """``POST messages``, Anthropic's API."""
    subject = _subject(body.get("messages"))
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    text = _text(form, draw, subject)
    usage = {"input_tokens": _count(_words(body.get("messages"))), "output_tokens": _count(text)}
    head: Body = {
        "id": f"msg_{draw.token}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stand-in"),
        "stop_sequence": None,
    }
    tool = _wanted_tool(body, subject)
    block: Body = {"type": "text", "text": text}
    if tool is not None:
        block = {"type": "tool_use", "id": f"toolu_{draw.token}", "name": tool[0]}
        block |= {"input": example(tool[1], draw)}
    reason = "end_turn" if tool is None else "tool_use"
    if not streamed:
        return plain(head | {"content": [block], "stop_reason": reason, "usage": usage})
    if tool is None:
        empty, deltas = block | {"text": ""}, morsels(text)
        parts = [{"type": "text_delta", "text": piece} for piece in deltas]
    else:
        empty, deltas = block | {"input": {}}, morsels(dump(block["input"]))
        parts = [{"type": "input_json_delta", "partial_json": piece} for piece in deltas]
    opening = head | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    steps: list[Body] = [
        {"type": "message_start", "message": opening},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": part} for part in parts),
        {"type": "content_block_stop", "index": 0},
    ]
    if draw.finish:
        ending = {"stop_reason": reason, "stop_sequence": None}
        said = {"output_tokens": usage["output_tokens"]}
        steps.append({"type": "message_delta", "delta": ending, "usage": said})
        steps.append({"type": "message_stop"})
    return Answer("text/event-stream", events=tuple((step["type"], dump(step)) for step in steps))


def count_tokens(body: Body, draw: Draw) -> Answer:
    """``POST messages/count_tokens``; the draw's number makes the answer unique."""
    return plain({"input_tokens": _count(_words(body.get("messages"))) + 1000 * draw.number})
