"""The model and the tokens of an answer, and what they cost, one by one or many at once."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from importlib.util import find_spec
from itertools import zip_longest
from operator import add
from typing import Any, Final, TypeAlias

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
    "provider",
)
"""What is told apart: tokens, all of them within those of the prompt or of the completion; searches
and seconds, which are billed beside tokens; and the number of the provider in `PROVIDERS`, where
others have models of the same names. What is stored are their places here: new ones go to the end.
"""

PROVIDERS: Final = (
    *("", "groq", "openrouter", "together", "fireworks", "novita", "aws", "azure", "cerebras"),
    *("baseten", "perplexity", "ovhcloud"),
)
"""Providers whose prices for models of others are their own, as genai-prices names them. What is
stored are their places here."""

PROVIDER: Final = DETAILS.index("provider")
"""Where details tell of the provider; those of most answers are no longer than that."""


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
        """What the tokens are, by name: of `DETAILS` all but the provider."""
        return dict(zip_longest(DETAILS[:PROVIDER], self.details[:PROVIDER], fillvalue=0))  # type: ignore[arg-type]

    @property
    def provider(self) -> str:
        """Who answered, as genai-prices names it; ``""`` where the model's name tells."""
        number = self.details[PROVIDER] if len(self.details) > PROVIDER else 0
        return PROVIDERS[number] if 0 <= number < len(PROVIDERS) else ""


NO_USAGE: Final = Usage()
"""Of an answer that reports none."""


def details_of(found: Mapping[str, int]) -> Details:
    """Details from their names, zeros at the end left out."""
    details = [found.get(name, 0) for name in DETAILS]
    while details and not details[-1]:
        details.pop()
    return tuple(details)


def named_details(details: Details) -> dict[str, int]:
    """The details by name that are not 0, without the provider."""
    named = zip(DETAILS[:PROVIDER], details, strict=False)
    return {name: count for name, count in named if count}


def of_provider(number: int) -> Details:
    """The details that tell of a provider, by its number in `PROVIDERS`, and of nothing else."""
    return (0,) * PROVIDER + (number,) if number else NO_DETAILS


def both_details(one: Details, other: Details) -> Details:
    """The details of two answers, added up."""
    if not one or not other:
        return one or other
    added = list(map(sum, zip_longest(one, other, fillvalue=0)))
    added[PROVIDER:] = max(one[PROVIDER:], other[PROVIDER:])
    return tuple(added)


_LEAST_SHOWN: Final = Decimal("0.0001")
_NOTHING: Final = Decimal(0)


def money_text(amount: Decimal | float) -> str:
    """US dollars for people: ``$0.0016``, ``<$0.0001``, ``-$0.25``, ``$1,234.57``."""
    if amount < 0:
        return f"-{money_text(-amount)}"
    if 0 < amount < _LEAST_SHOWN:
        return f"<${_LEAST_SHOWN}"
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


def provider_text(saved: Decimal, what: str = "that") -> str:
    """What the provider's own prompt cache did to a cost, for people; ``""`` for nothing."""
    if not saved:
        return ""
    did = "took" if saved > 0 else "added"
    way = f"off {what}" if saved > 0 else f"to {what}"
    return f"the provider's own cache {did} {money_text(abs(saved))} {way}"


# -- prices ----------------------------------------------------------------------------------------


@functools.cache
def can_price() -> bool:
    """Whether genai-prices is installed: ``pip install 'cachewrap[prices]'``."""
    return find_spec("genai_prices") is not None


def cost_of(usage: Usage, when: float | None = None) -> Decimal | None:
    """What an answer of that usage costs upstream, in US dollars, as genai-prices has it.

    None where the model is not known, where there are no tokens, and without genai-prices.

    Args:
        usage: as the answer reports it.
        when: at the price of that time, in seconds since the epoch; None is today.
    """
    rates = _rates(usage, when)
    return (
        None if rates is None else rates.cost(1, usage.tokens_in, usage.tokens_out, usage.details)
    )


def provider_saved(usage: Usage, when: float | None = None) -> Decimal:
    """What the provider's own prompt cache took off the price of an answer, in US dollars.

    That is less than nothing where what was written to it costs more than what was read saved, and
    0 where no price is known.
    """
    rates = _rates(usage, when) if usage.details else None
    return _NOTHING if rates is None else rates.provider_saved(usage.details)


_EXACT: Final = Context(prec=28)
_MANY: Final = 1000
_PER_SECONDS: Final = 3600

_KEYS: Final = {
    "reasoning_tokens": "output_reasoning_tokens",
    "citation_tokens": "output_citation_tokens",
}
"""The names that genai-prices has for details, where these are others."""

_SHARES: Final[dict[str, tuple[str, ...]]] = {
    "cache_write_1h_tokens": ("cache_write_tokens",),
    "cache_audio_read_tokens": ("cache_read_tokens", "input_audio_tokens"),
    "cache_image_read_tokens": ("cache_read_tokens", "input_image_tokens"),
}
"""Details that are also within others."""

_OFPROVIDERS_CACHE: Final = frozenset(name for name in DETAILS if name.startswith("cache_"))


class _Rates:
    """Prices of calls of one model, at one time, whose prompts have reached one step.

    The price is so much for a call and for each token of a kind; working it out with genai-prices
    takes a hundred times as long.

    Args:
        price: works out what a usage costs, by the names of genai-prices.
        most: prompt tokens that a call of that step may have.
    """

    __slots__ = ("_call", "_details", "_in", "_out")

    def __init__(self, price: Callable[[dict[str, int]], Decimal], most: int) -> None:
        self._call = price({})
        asked = {"input_tokens": most}
        both = {"input_tokens": most, "output_tokens": most}
        self._in = (price(asked) - self._call) / most
        self._out = (price(both) - price(asked)) / most
        self._details = tuple(_rate(price, name, most, both) for name in DETAILS)

    def cost(self, calls: int, tokens_in: int, tokens_out: int, details: Sequence[int]) -> Decimal:
        """What some calls cost that have so many tokens together."""
        with localcontext(_EXACT):
            cost = calls * self._call + tokens_in * self._in + tokens_out * self._out
            if details:
                for (rate, per), count in zip(self._details, details, strict=False):
                    if count and rate:
                        cost += count * rate / per
        return cost

    def provider_saved(self, details: Sequence[int]) -> Decimal:
        """What the provider's own prompt cache took off their price."""
        saved = _NOTHING
        with localcontext(_EXACT):
            for name, (rate, per), count in zip(DETAILS, self._details, details, strict=False):
                if count and name in _OFPROVIDERS_CACHE:
                    saved -= count * rate / per
        return saved


def _rate(
    price: Callable[[dict[str, int]], Decimal], name: str, most: int, both: dict[str, int]
) -> tuple[Decimal, int]:
    """What so many tokens cost more as they are what they are; nothing where that is not priced."""
    shares = _SHARES.get(name, ())
    count = most if len(shares) < 2 else most // 2
    if name == "audio_seconds":
        both, count = {}, _PER_SECONDS
    known = {**both, **dict.fromkeys(shares, count)}
    if len(shares) > 1:
        known[name] = 0
    try:
        return price({**known, _KEYS.get(name, name): count}) - price(known), count
    except (ValueError, TypeError, LookupError):  # nothing that this version has a price for
        return _NOTHING, 1


class _Model:
    """A model whose price is known.

    Args:
        name: by which it was found.
        provider: the provider whose model it is, by its name in genai-prices; None to find it by
            the model's name.
        found: what genai-prices has found.
    """

    __slots__ = ("_changes", "_known", "_name", "_provider", "_tiered")

    def __init__(self, name: str, provider: str | None, found: Any) -> None:
        self._name = name
        self._provider = provider
        # The price of a time is asked for only where it is another at another one.
        self._changes = found.model if isinstance(found.model.prices, list) else None
        choices = [choice.prices for choice in found.model.prices] if self._changes else []
        self._tiered = any(
            hasattr(one, "tiers")
            for prices in (found.model_price, *choices)
            for one in vars(prices).values()
        )
        self._known: dict[tuple[int, int], tuple[_Rates, object]] = {}

    def rates(self, tokens_in: int, when: float | None) -> _Rates:
        """What calls cost at a time, with a prompt of that size."""
        prices = self._changes.get_prices(_moment(when)) if self._changes else None
        step = _step(tokens_in) if self._tiered else 0
        found = self._known.get((id(prices), step))
        if found is None:
            most = _STEPS[step] if step < len(_STEPS) else _STEPS[-1] + 1
            with localcontext(_EXACT):
                rates = _Rates(functools.partial(self._price, _moment(when)), most)
            found = self._known[id(prices), step] = rates, prices  # which keeps its id
        return found[0]

    def _price(self, moment: datetime, told: dict[str, int]) -> Decimal:
        price: Decimal = _calculated(self._name, self._provider, told, moment).total_price
        return price


def _calculated(name: str, provider: str | None, told: dict[str, int], moment: datetime) -> Any:
    """What genai-prices works out. Raises `LookupError` for a model that it does not know."""
    from genai_prices import Usage, calc_price

    known = Usage(**{key: count for key, count in told.items() if hasattr(Usage(), key)})
    where: Any = {} if provider is None else {"provider_id": provider}
    return calc_price(known, model_ref=name, genai_request_timestamp=moment, **where)


def _moment(when: float | None) -> datetime:
    if when:
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(when, UTC)
    return datetime.now(UTC)


@functools.lru_cache(maxsize=1024)
def _model(name: str, provider: str) -> _Model | None:
    """A model by its name, and by its provider where that is known."""
    for ref, where in _names(name, provider):
        with suppress(LookupError, ValueError):
            return _Model(ref, where, _calculated(ref, where, {}, _moment(None)))
    return None


def _names(name: str, provider: str) -> Iterator[tuple[str, str | None]]:
    """The names by which genai-prices may know a model, and whose it would be; the best first."""
    if provider:
        yield name, provider
    yield name, None
    first, _, rest = name.partition("/")
    if rest:
        yield from ((name, host) for host in _RESELLERS)
        yield rest, first
        yield rest, None
        yield rest.rpartition("/")[2], None
    yield from ((name, one) for one in _FIRST_ASKED)
    yield from ((name, one) for one in _providers())


_RESELLERS: Final = ("groq", "openrouter", "together", "fireworks", "novita")
_FIRST_ASKED: Final = ("openai", "anthropic", "google", "groq", "mistral", "aws", "perplexity")


def _providers() -> list[str]:
    """Every provider that genai-prices knows."""
    try:
        from genai_prices.data_snapshot import get_snapshot

        return [one.id for one in get_snapshot().providers]
    except (ImportError, AttributeError):  # another version has them elsewhere
        return []


def _rates(usage: Usage, when: float | None) -> _Rates | None:
    if not usage.model or not (usage.tokens_in or usage.tokens_out or usage.details):
        return None
    if not can_price():
        return None
    found = _model(usage.model, usage.provider)
    return None if found is None else found.rates(usage.tokens_in, when)


# -- many calls ------------------------------------------------------------------------------------

SHORT: Final = 16_000
"""Prompt tokens up to which no price changes with their number."""

_STEPS: Final = sorted({*range(SHORT, 2_000_001, 1_000), 199_999, *(2**n for n in range(15, 21))})
"""Prompt tokens after which the price of all tokens of a call may be another."""

_FAR: Final = 2**16
_ROW: Final = 3 + len(DETAILS)


def _step(tokens_in: int) -> int:
    """The number of steps that a prompt is longer than."""
    return bisect_left(_STEPS, tokens_in)


class Usages:
    """The usages of many calls added up, so that what they cost can still be told exactly.

    Calls whose prompts are so long that their tokens may have another price are added up apart.

    Attributes:
        sums: by the step that a prompt has reached, and the provider, the calls, their tokens and
            details.
    """

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums: dict[int, list[int]] = {}

    def add(self, tokens_in: int, tokens_out: int, details: Details) -> None:
        """Add the usage of a call."""
        step = _step(tokens_in) if tokens_in > SHORT else 0
        if len(details) > PROVIDER:
            step += _FAR * details[PROVIDER]
        row = self.sums.get(step)
        if row is None:
            row = self.sums[step] = [0] * _ROW
        row[0] += 1
        row[1] += tokens_in
        row[2] += tokens_out
        if details:
            for place, count in zip(range(3, _ROW), details, strict=False):
                row[place] += count

    def add_short(
        self, calls: int, tokens_in: int, tokens_out: int, details: Sequence[Details]
    ) -> None:
        """Add some calls together that have prompts of up to `SHORT` and tell of no provider."""
        if calls:
            row = self.sums.setdefault(0, [0] * _ROW)
            row[0] += calls
            row[1] += tokens_in
            row[2] += tokens_out
            for place, counts in enumerate(zip_longest(*details, fillvalue=0), 3):
                row[place] += sum(counts)

    def merge(self, shown: Mapping[str, Sequence[int]]) -> None:
        """Add the sums of others, as their `shown` gave them."""
        for step, row in shown.items():
            known = self.sums.get(int(step), [0] * len(row))
            self.sums[int(step)] = list(map(add, known, row))

    def shown(self) -> dict[str, list[int]]:
        """The sums as plain values."""
        return {str(step): list(row) for step, row in self.sums.items()}

    def cost(self, *models: str) -> tuple[Decimal, Decimal] | None:
        """What the calls cost today, and what the provider's own prompt cache took off that.

        Args:
            models: the model's names; the first one counts that has a price.

        None where no price is known.
        """
        for name in models:
            found = [
                self._cost(name, step, row) for step, row in list(self.sums.items()) if any(row)
            ]
            if known := [one for one in found if one is not None]:
                cost = sum((one for one, _ in known), _NOTHING)
                return cost, sum((saved for _, saved in known), _NOTHING)
        return None

    def _cost(self, name: str, step: int, row: Sequence[int]) -> tuple[Decimal, Decimal] | None:
        provider, step = divmod(step, _FAR)
        calls, tokens_in, tokens_out, *details = row
        most = _STEPS[step] if step < len(_STEPS) else _STEPS[-1] + 1
        rates = _rates(Usage(name, most, 0, of_provider(provider)), None)
        if rates is None:
            return None
        return rates.cost(calls, tokens_in, tokens_out, details), rates.provider_saved(details)


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars, as far as the models' prices are known.

    Args:
        saved: what the answers served would have cost.
        spent: what the calls that went upstream have cost.
        provider_saved: what the provider's own prompt cache took off what was spent; less than
            nothing where writing to it has cost more than reading has saved.
    """

    saved: Decimal
    spent: Decimal
    provider_saved: Decimal = _NOTHING

    def provider_text(self) -> str:
        """What the provider's own prompt cache did to what was spent, for people; or ``""``."""
        return provider_text(self.provider_saved, "what was spent")

    def __add__(self, other: Money) -> Money:
        with localcontext(_EXACT):
            return Money(
                self.saved + other.saved,
                self.spent + other.spent,
                self.provider_saved + other.provider_saved,
            )

    def _repr_html_(self) -> str:
        from cachewrap import notebook

        return notebook.of_money(self)
