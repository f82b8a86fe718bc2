"""Ready sets of rules: what agents' frameworks change, what only steers and tracks."""

from __future__ import annotations

from typing import Final

from cachewrap.same.rules import Rule, ignore, in_call_order, renumber, replace, sorted_by_name

AGENTS: Final[tuple[Rule, ...]] = (
    in_call_order,
    sorted_by_name,
    renumber(),
    replace(r"\bat 0x[0-9a-fA-F]{6,16}\b", "at 0x…"),
    replace(
        r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "00000000-0000-0000-0000-000000000000",
    ),
)
"""What differs from one run of an agent to the next by no doing of its user.

The order of adjacent results of tools (LlamaIndex appends them as they finish), the order of tools
(langgraph-supervisor builds it from a set), the ids of calls that a client makes, addresses of
objects and UUIDs in texts (CrewAI prints functions into its plans).
"""

STEERING: Final[tuple[Rule, ...]] = (
    ignore("metadata", "user", "store", "service_tier", "serviceTier"),
)
"""What steers and tracks a request and no model reads, by its provider's documentation."""
