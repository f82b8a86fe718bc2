"""What tokens cost, as the package genai-prices knows it; no prices are kept here."""

from __future__ import annotations

import functools
from importlib.util import find_spec


@functools.cache
def can_price() -> bool:
    """Whether genai-prices is installed: ``pip install 'cachewrap[prices]'``."""
    return find_spec("genai_prices") is not None


def price(model: str, tokens_in: int, tokens_out: int) -> float | None:
    """What one call with that many tokens costs at today's prices, in US dollars.

    None where the model is not known, where there are no tokens, and without genai-prices.
    """
    if not model or not (tokens_in or tokens_out) or not can_price() or not _is_known(model):
        return None
    return _price(model, tokens_in, tokens_out)


def _price(model: str, tokens_in: int, tokens_out: int) -> float:
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
    return float(calc_price(usage, model_ref=model).total_price)


@functools.lru_cache(maxsize=1024)
def _is_known(model: str) -> bool:
    try:
        _price(model, 1, 1)
    except LookupError:
        return False
    return True
