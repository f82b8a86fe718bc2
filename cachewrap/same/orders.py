"""Orders that programs do not settle: of results behind calls, of tools; and ids of calls."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from cachewrap.same.steps import items, member, with_items, with_member

CALL_IDS: Final = (
    # OpenAI, chat completions; the messages of LangChain and others
    "messages[*].tool_calls[*].id",
    "messages[*].tool_call_id",
    # OpenAI, responses
    "input[*].call_id",
    # Anthropic, messages
    "messages[*].content[type=tool_use].id",
    "messages[*].content[type=tool_result].tool_use_id",
    # Amazon Bedrock, Converse
    "messages[*].content[*].toolUse.toolUseId",
    "messages[*].content[*].toolResult.toolUseId",
    # Gemini
    "contents[*].parts[*].functionCall.id",
    "contents[*].parts[*].functionResponse.id",
)
"""Where the requests of known APIs have the ids of calls of tools, and of their results."""

CONVERSATIONS: Final = ("messages", "input", "contents")
"""Where they have their conversations."""

TOOLS: Final = (
    "tools",
    "functions",
    "tools[*].functionDeclarations",
    "tools[*].function_declarations",
    "toolConfig.tools",
)
"""Where they have their tools."""

_RESULT_IDS: Final = ("tool_call_id", "tool_use_id", "toolUseId")
_SPEAKERS: Final = ("assistant", "user", "system", "developer")
_CALLED: Final = frozenset({"tool_use", "tool_call"})


def in_order_of_calls(conversation: list[Any]) -> tuple[list[Any], list[Any]]:
    """A conversation with adjacent results of tools in the order of their calls.

    Results are messages, items, or blocks of one message. Beside the conversation, which is the
    very one where nothing was moved, come the orders that were changed: where, and from which
    places the results came.
    """
    if not any(map(_may_be_moved, conversation)):
        return conversation, []
    places: dict[str | None, int] = {}
    calls = count(1)
    moved: list[Any] = []
    found = conversation
    placed: list[int | None] = []
    for number, item in enumerate(conversation):
        if type(item) is not dict:  # text, or a number of many
            placed.append(None)
            continue
        for call in _calls_of(item):
            places[call] = next(calls)  # of several with one id the newest
        placed.append(places.get(_result_id(item)))
        name, blocks = _blocks(item)
        if len(blocks) > 1:
            order = _sorted_runs([places.get(_result_id(block)) for block in blocks])
            if order is not None:
                moved.append([number, order])
                new = with_items(member(item, name), [blocks[at] for at in order])
                if found is conversation:
                    found = conversation[:]
                found[number] = with_member(item, name, new)
    order = _sorted_runs(placed)
    if order is None:
        return found, moved
    return [found[at] for at in order], [*moved, order]


def _may_be_moved(item: Any) -> bool:
    """Whether an item may be or hold the result of a tool: a quick look, since most do not."""
    return type(item) is dict and (
        len(item) == 1
        or "tool_call_id" in item
        or "call_id" in item
        or "parts" in item
        or type(item.get("content")) not in _TEXT
    )


_TEXT: Final = frozenset({str, type(None)})


def _sorted_runs(placed: list[int | None]) -> list[int] | None:
    """The order of items in which each run of results is sorted; None where all of them are.

    Args:
        placed: the place of the call of each item that is a result of one before it.
    """
    order: list[int] = []
    run: list[tuple[int, int]] = []
    for at, place in enumerate((*placed, None)):
        if place is not None:
            run.append((place, at))
            continue
        order += [number for _, number in sorted(run)]
        run = []
        if at < len(placed):
            order.append(at)
    return None if order == list(range(len(placed))) else order


def _calls_of(item: Any) -> list[str]:
    """The ids of the calls that an item of a conversation makes, in order."""
    found = [member(call, "id") for call in items(member(item, "tool_calls"))]
    kind = member(item, "type")
    if isinstance(kind, str) and kind.endswith("_call"):
        found.append(member(item, "call_id"))
    for block in _blocks(item)[1]:
        if member(block, "type") in _CALLED:
            found.append(member(block, "id"))
        found.append(member(member(block, "toolUse"), "toolUseId"))
        found.append(member(member(block, "functionCall"), "id"))
    return [one for one in found if isinstance(one, str)]


def _blocks(item: Any) -> tuple[str, list[Any]]:
    for name in ("content", "parts"):
        if blocks := items(member(item, name)):
            return name, blocks
    return "", []


def _result_id(item: Any) -> str | None:
    """The id of the call whose result an item, or a block of one, is; None for anything else."""
    if member(item, "role") in _SPEAKERS:
        return None
    kind = member(item, "type")
    found = member(item, "call_id") if isinstance(kind, str) and kind.endswith("_output") else None
    for name in _RESULT_IDS:
        found = found or member(item, name)
    found = found or member(member(item, "toolResult"), "toolUseId")
    found = found or member(member(item, "functionResponse"), "id")
    return found if isinstance(found, str) else None


def in_order_of_names(tools: list[Any]) -> list[int]:
    """The order of tools in which their names are sorted; those without one stay in front."""
    names = [_name_of(tool) for tool in tools]
    return sorted(range(len(tools)), key=names.__getitem__)


def _name_of(tool: Any) -> str:
    if isinstance(tool, str):
        return tool
    for inner in (tool, member(tool, "function"), member(tool, "toolSpec")):
        found = member(inner, "name")
        if isinstance(found, str):
            return found
    found = member(tool, "type")
    return found if isinstance(found, str) else ""
