"""What was counted, in a line for people."""

from __future__ import annotations

from cachewrap.stats import Stats


def summary(stats: Stats, place: str) -> str:
    """One line: how many calls were answered from where, and what that saved.

    Args:
        stats: what was counted.
        place: the store's URL.
    """
    total = stats.total
    if not total.calls:
        return f"no call of a model was seen{_aside(stats)}; cache {place}"
    served = total.hits + total.joined
    parts = []
    tokens = total.tokens_in_saved + total.tokens_out_saved
    if tokens:
        parts.append(f"{tokens:,} tokens")
    if served:
        parts.append(f"{total.seconds_saved:,.1f}s")
    money = stats.money()
    if money is not None and money.saved:
        parts.append(f"${money.saved:,.4f}")
    saved = f", which saved {', '.join(parts)}" if parts else ""
    asked = f"; {total.misses:,} asked upstream" if total.misses else ""
    if money is not None and money.spent:
        asked += f" for ${money.spent:,.4f}"
    if total.misses:
        asked += f", {total.stored:,} stored"
    calls = "call" if total.calls == 1 else "calls"
    return (
        f"{served:,} of {total.calls:,} {calls} answered from {place}{saved}{asked}{_aside(stats)}"
    )


def _aside(stats: Stats) -> str:
    found = []
    if stats.bypassed:
        reasons = ", ".join(sorted(stats.bypass_reasons))
        found.append(f"{stats.bypassed:,} not cacheable ({reasons})")
    if stats.errors:
        found.append(f"{stats.errors:,} {'fault' if stats.errors == 1 else 'faults'} of the cache")
    return "".join(f"; {part}" for part in found)
