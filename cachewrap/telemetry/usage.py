"""The model and the tokens that an answer reports, wherever its kind keeps them; their cost."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from itertools import zip_longest
from operator import add
from typing import Any, Final, TypeAlias

_IN = ("prompt_tokens", "input_tokens")
_OUT = ("completion_tokens", "output_tokens")


Details: TypeAlias = tuple[int, ...]
"""Of the tokens of an answer, how many were what, in the order of `DETAILS`; zeros at the end are
left out."""

NO_DETAILS: Final[Details] = ()
"""Nothing is special about the tokens."""

DETAILS: Final = (
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "output_audio_tokens",
    "reasoning_tokens",
    "input_image_tokens",
    "cache_image_read_tokens",
    "output_image_tokens",
    "input_video_tokens",
    "citation_tokens",
    "web_searches",
    "audio_seconds",
)
"""What is told apart: tokens, all of them within those of the prompt or of the completion, and the
searches and seconds that are billed beside tokens. What is stored are their places here: new ones
go to the end."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage that an answer reports; empty where it reports none.

    Args:
        model: the model's name.
        tokens_in: prompt tokens, all of them.
        tokens_out: completion tokens, all of them.
        details: how many of them were what.
    """

    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    details: Details = NO_DETAILS

    def detailed(self) -> dict[str, int]:
        """The details by their names, each of `DETAILS`."""
        return dict(zip_longest(DETAILS, self.details, fillvalue=0))  # type: ignore[arg-type]


NO_USAGE: Final = Usage()
"""Of an answer that reports none."""


def usage_of(answer: object) -> Usage:
    """Read the usage of an SDK's answer object, or of the same as plain JSON."""
    try:
        if isinstance(answer, str):
            return NO_USAGE
        model = _field(answer, "model")
        usage = _field(answer, "usage")
        return Usage(
            model=model if isinstance(model, str) else "",
            tokens_in=_count(usage, _IN),
            tokens_out=_count(usage, _OUT),
        )
    except Exception:  # objects of the program's own can raise anything when they are looked at
        return NO_USAGE


def _field(holder: object, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    state = getattr(holder, "__dict__", None)
    return state.get(name) if isinstance(state, dict) else None


def _count(usage: object, names: tuple[str, ...]) -> int:
    for name in names:
        value = _field(usage, name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
            return value
    return 0


_LEAST_SHOWN: Final = 0.0001


def money_text(amount: float) -> str:
    """US dollars for people: ``$0.0016``, ``<$0.0001``, ``$1,234.57``."""
    if 0 < amount < _LEAST_SHOWN:
        return f"<${_LEAST_SHOWN}"
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


_FEW: Final = 1000
_MANY: Final = 1_000_000


@functools.cache
def can_price() -> bool:
    """Whether genai-prices is installed: ``pip install 'cachewrap[prices]'``."""
    return find_spec("genai_prices") is not None


def price(model: str, tokens_in: int, tokens_out: int) -> float | None:
    """What one call with that many tokens costs at today's prices, in US dollars.

    None where the model is not known, where there are no tokens, and without genai-prices.
    """
    if not model or not (tokens_in or tokens_out) or not can_price():
        return None
    known, rates = _rates(model)
    if not known:
        return None
    if rates is None:
        return _price(model, tokens_in, tokens_out)
    return tokens_in * rates[0] + tokens_out * rates[1]


def _price(model: str, tokens_in: int, tokens_out: int) -> float:
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
    return float(calc_price(usage, model_ref=model).total_price)


@functools.lru_cache(maxsize=1024)
def _rates(model: str) -> tuple[bool, tuple[float, float] | None]:
    """Whether the model is known, and what one token costs where that does not depend on how many.

    Working a price out takes a hundred times as long as a multiplication.
    """
    try:
        asked, told = _price(model, _FEW, 0), _price(model, 0, _FEW)
        both = _price(model, _MANY, _MANY)
    except LookupError:
        return False, None
    even = abs(both - (asked + told) * (_MANY / _FEW)) < 1e-9 * max(1.0, both)
    return True, (asked / _FEW, told / _FEW) if even else None


def cost(calls: int, tokens_in: float, tokens_out: float, *models: str) -> float | None:
    """What calls cost: the average one, by the first of a model's names that has a price."""
    for model in models if calls else ():
        one = price(model, int(tokens_in // calls), int(tokens_out // calls))
        if one is not None:
            return one * calls
    return None


def cost_of(usage: Usage, when: float | None = None) -> Decimal | None:
    """What an answer of that usage costs upstream, in US dollars.

    None where the model is not known, where there are no tokens, and without genai-prices.

    Args:
        usage: as the answer reports it.
        when: at the price of that time, in seconds since the epoch; None is today.
    """
    found = price(usage.model, usage.tokens_in, usage.tokens_out)
    return None if found is None else Decimal(str(found))


_STEPS: Final = sorted(
    {*range(16_000, 2_000_001, 1_000), 199_999, 2**15, 2**16, 2**17, 2**18, 2**19}
)
"""Prompt tokens after which the price of all tokens of a call may be another."""


_ROW: Final = 3 + len(DETAILS)


class Usages:
    """The usages of many calls added up, so that what they cost can still be told exactly.

    Calls whose prompts are so long that their tokens may have another price are added up apart.

    Attributes:
        sums: by the step that a prompt has reached, the calls, their tokens and details.
    """

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums: dict[int, list[int]] = {}

    def add(self, tokens_in: int, tokens_out: int, details: Details) -> None:
        """Add the usage of a call."""
        step = bisect_left(_STEPS, tokens_in) if tokens_in > _STEPS[0] else 0
        row = self.sums.get(step)
        if row is None:
            row = self.sums[step] = [0] * _ROW
        row[0] += 1
        row[1] += tokens_in
        row[2] += tokens_out
        if details:
            for place, count in zip(range(3, _ROW), details, strict=False):
                row[place] += count

    def merge(self, sums: Mapping[int, Sequence[int]]) -> None:
        """Add the sums of others."""
        for step, row in sums.items():
            known = self.sums.get(step, [0] * len(row))
            self.sums[step] = list(map(add, known, row))


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars saved and spent, as far as the models' prices are known."""

    saved: float
    spent: float

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_money(self)
