"""Rules of equality that a patch says of all calls, while another thread says others."""

from __future__ import annotations

import sys
from typing import Any

from cachewrap import Cache
from cachewrap.options import Default
from cachewrap.policy import rules_of
from cachewrap.same import ignore

FIRST, SECOND = rules_of(ignore("user")), rules_of(ignore("metadata"))


def _serve(default: Default, cache: Cache, declared_at: int) -> int:
    """Serve a call, where others declare rules at a line of it; how many lines there are."""
    lines = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code is not Default.served.__code__:
            return None
        if event == "line":
            lines += 1
            if lines == declared_at:
                default.declare(split=False, same=SECOND)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        default.served(cache)
    finally:
        sys.settrace(before)
    return lines


def test_no_call_is_served_by_rules_that_hold_no_longer() -> None:
    lines = _serve(Default(same=FIRST), Cache.memory(), 0)
    assert lines > 3
    for at in range(1, lines + 1):
        default, cache = Default(same=FIRST), Cache.memory()
        _serve(default, cache, at)
        assert default.served(cache).policy.same == SECOND, f"declared at line {at}"
