"""Runs that are made by hand, call by call, for what reads them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any

from cachewrap import Cache
from cachewrap.ledger.calls import OUTCOMES
from cachewrap.ledger.names import named_log
from cachewrap.ledger.pieces import Begin, End, Ended, Manner, Writer, encode
from cachewrap.ledger.runs import Run, runs_of
from cachewrap.stores.base import Logs

_writers = itertools.count(1)


def ended(key: str = "", outcome: str = "miss", **given: Any) -> Ended:
    """A call that has ended; what is not given is as of a usual one."""
    values: dict[str, Any] = {
        "source": "POST /chat/completions",
        "model": "gpt-4o",
        "seed": "41",
        "place": "",
        "path": "",
        "reason": "",
        "sample": 0,
        "started": 1_800_000_000.0,
        "seconds": 0.0,
        "upstream": 0.0,
        "tokens_in": 0,
        "tokens_out": 0,
        "details": (),
        "answered": 0.0,
        "lane": "MainThread",
        "rules": (),
        **given,
    }
    outcome_of = OUTCOMES.index(outcome)
    names = ("seed", "place", "path", "reason", "rules")
    manner = _manner(outcome_of, *(values[one] for one in names))
    told = tuple(values[one] for one in ("tokens_in", "tokens_out", "upstream", "details"))
    what = values["source"], values["model"], manner
    times = values["started"], values["seconds"]
    return Ended(what, key, values["sample"], *times, told, values["answered"], values["lane"])


_manner = functools.cache(Manner)


def write_run(cache: Cache, name: str, rows: Iterable[Ended], *, process: int = 1) -> Run:
    """A run of that name with these calls, written to the logs of the cache's place."""
    store = cache.store
    assert isinstance(store, Logs)
    rows = list(rows)
    number = len([run for run in runs_of(cache) if run.name == name]) + 1
    writer = next(_writers)
    first = min((row.started for row in rows), default=1_800_000_000.0)
    last = max((row.started + row.seconds for row in rows), default=first)
    begin = Begin(writer, name, first, process, "host", "eval.py", "family", cache.url)
    pieces = [encode(begin)]
    if rows:
        pieces.append(Writer(writer, process).calls(rows))
    store.append_to_log(named_log(name, number), [*pieces, encode(End(writer, last))])
    return runs_of(cache)[name]
