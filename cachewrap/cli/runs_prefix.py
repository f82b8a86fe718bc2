"""``cachewrap runs show NAME --prefix``: why the provider's own cache missed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from cachewrap.cli.kept_runs import plain
from cachewrap.cli.text import count_text, terminal_width
from cachewrap.errors import printable
from cachewrap.ledger.prefixes import causes
from cachewrap.telemetry.usage import money_text

_REMEDIES: Final = {
    causes.TIME: "Say the time behind what stays the same: in the last message.",
    causes.ID: "Leave it out, or say it behind what stays the same.",
    causes.COUNTER: "Say it behind what stays the same.",
    causes.ORDER: "Sort them once, and always in the same way.",
    causes.SPACE: "Make the text in one place, once.",
    causes.DEFINITION: "Define the tools once for a conversation.",
    causes.ADDED: "Add behind what was sent, and nothing in front.",
    causes.REMOVED: "Keep what was sent until the conversation ends.",
    causes.TEXT: "Leave what was sent as it is; say what is new behind it.",
    causes.PICTURE: "Encode a picture once, and send those bytes again.",
    causes.ADDRESS: "Sign an address once for a conversation.",
    causes.MODEL: "Each model has a cache of its own: stay with one for a conversation.",
    causes.SETTING: "Keep it for a conversation: it is part of what is cached.",
    causes.WINDOW: "Drop much at once and seldom, not a little at each turn.",
    causes.SUMMARY: "Sum up seldom: each summary begins anew.",
    causes.PAUSE: "Ask for a longer retention where pauses are usual.",
    causes.LOOKBACK: "Put another breakpoint in between.",
    causes.UNREAD: "Mark the end of what stays the same in every call.",
}

if TYPE_CHECKING:
    from cachewrap.ledger.prefixes.loss import Break, Prefixes
    from cachewrap.ledger.runs import Run


def lines(run: Run, width: int | None = None) -> list[str]:
    """What is shown of a run's prefixes.

    Args:
        run: the run.
        width: columns to write in; None is as many as the terminal has.
    """
    width = width or terminal_width()
    found = run.prefix()
    told = [f"{run.label}: {_counted(found)}"]
    if found.read_tokens:
        told.append(f"The provider read {count_text(found.read_tokens)} tokens from its cache.")
    if found.breaks:
        struck = sum(len(one.calls) for one in found.breaks)
        told.append(f"{_calls(struck)} did not, which cost {_cost(found.tokens, found.money)}:")
    elif found.shared:
        told.append("Nothing broke what they have in common.")
    shown = [line for one in told for line in _wrapped(one, width, "")]
    for number, one in enumerate(found.breaks, 1):
        shown += ["", *_wrapped(f"{number}. {printable(one.text, 300)}", width, "   ")]
        told = [_told(one), _REMEDIES.get(one.kind, "")]
        shown += [f"   {line}" for text in told if text for line in _wrapped(text, width - 3, "")]
    if found.notes:
        shown += ["", "Seen, and perhaps meant:"]
        for one in found.notes:
            text = f"- {printable(one.text, 300)} ({_calls(len(one.calls))}, {_first(one)})"
            shown += _wrapped(text, width, "  ")
    if found.unread:
        why = ", ".join(f"{count_text(n)} {reason}" for reason, n in found.unread.items())
        shown += ["", *_wrapped(f"Not compared: {why}.", width, "")]
    return shown


def facts(run: Run) -> dict[str, Any]:
    """The same for machines."""
    found = run.prefix()
    return {
        "calls": found.calls,
        "conversations": found.conversations,
        "shared": found.shared,
        "kept": found.kept,
        "read_tokens": found.read_tokens,
        "tokens": found.tokens,
        "money": None if found.money is None else float(found.money),
        "breaks": [plain(one.as_dict()) for one in found.breaks],
        "notes": [plain(one.as_dict()) for one in found.notes],
        "unread": found.unread,
    }


def _counted(found: Prefixes) -> str:
    if not found.calls:
        return "no prompts to compare"
    talks = found.conversations
    of = f"{count_text(talks)} conversation{'s' * (talks != 1)}"
    if not found.shared:
        return f"{_calls(found.calls)} in {of}, none of which should begin as another one"
    return (
        f"{_calls(found.calls)} in {of}. {count_text(found.shared)} of them should begin as one"
        f" before them, and {count_text(found.kept)} do."
    )


def _told(one: Break) -> str:
    text = f"{_calls(len(one.calls))}, {_cost(one.tokens, one.money)}"
    if one.paid_calls == len(one.calls):
        text += ", all of it paid in this run"
    elif one.paid_calls:
        paid = _cost(one.paid_tokens, one.paid_money)
        text += f"; {count_text(one.paid_calls)} were paid in this run: {paid}"
    else:
        text += "; none was paid in this run: they came from the cache"
    if not one.tokens:
        text += " (too little to be cached by itself)"
    return f"{text}. {_first(one).capitalize()}."


def _first(one: Break) -> str:
    return f"first in call {one.calls[0].number} after call {one.since}"


def _cost(tokens: int, money: Any) -> str:
    told = f"about {count_text(tokens)} tokens"
    return told if not money else f"{told} and {money_text(float(money))}"


def _calls(count: int) -> str:
    return f"{count_text(count)} call{'s' * (count != 1)}"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, max(20, width), subsequent_indent=indent, break_long_words=False
    ) or [""]
