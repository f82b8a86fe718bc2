"""Rules of equality: what a user says does not matter in a request.

>>> from cachewrap import Cache
>>> from cachewrap.same import ignore, replace
>>> cache = Cache.memory(same=[
...     ignore("metadata", "user"),
...     replace(r"on \\d{4}-\\d\\d-\\d\\d", "on …", where="messages[role=system].content"),
... ])
"""

from cachewrap.same.rules import (
    Rule,
    ignore,
    in_call_order,
    renumber,
    replace,
    sorted_by_name,
)
from cachewrap.same.sets import AGENTS, STEERING

__all__ = [
    "AGENTS",
    "STEERING",
    "Rule",
    "ignore",
    "in_call_order",
    "renumber",
    "replace",
    "sorted_by_name",
]
