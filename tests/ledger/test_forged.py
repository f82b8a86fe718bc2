"""Logs that somebody has damaged or forged: what cannot be is left out, and the rest is told."""

from __future__ import annotations

import json
import time
from math import inf, nan
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cachewrap import Cache
from cachewrap.errors import StoreError
from cachewrap.ledger.names import named_log
from cachewrap.ledger.pieces import Begin, End, Manner, Writer, encode
from cachewrap.ledger.runs import rename

NOW = time.time()
LOG = named_log("forged", 1)


def call(**changed: Any) -> bytes:
    """A piece with one call."""
    row: dict[str, Any] = {
        "what": ("m:f", "m", Manner(0, "41", "", "")),
        "key": "ab" * 32,
        "sample": 0,
        "started": NOW,
        "seconds": 0.1,
        "told": (1, 1, 0.1, ()),
        "answered": NOW,
        "lane": "MainThread",
        **changed,
    }
    return Writer(9, 1).calls([tuple(row.values())])


def begin(started: float) -> bytes:
    return encode(Begin(9, "forged", started, 1, "elsewhere", "program.py", "", ""))


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(begin(1e300), id="began after all times"),
        pytest.param(begin(nan), id="began at no time"),
        pytest.param(begin(-1e18), id="began before all times"),
        pytest.param(encode(End(1, inf)), id="never ended"),
        pytest.param(encode(End(1, NOW, -5)), id="lost less than none"),
        pytest.param(call(started=1e300), id="a call after all times"),
        pytest.param(call(started=nan), id="a call at no time"),
        pytest.param(call(answered=-1.0), id="answered before all times"),
        pytest.param(call(seconds=inf), id="a call without an end"),
        pytest.param(call(told=(1, 1, nan, ())), id="upstream took no time"),
        pytest.param(call(told=(-1, 1, 0.1, ())), id="less than no tokens"),
        pytest.param(call(sample=-1), id="a sample before the first"),
        pytest.param(b"\x01C" + msgspec.msgpack.encode([1] * 12), id="no columns"),
        pytest.param(b"\x01C\xdd\xff\xff\xff\xff", id="of a huge length"),
    ],
)
def test_what_cannot_be_is_left_out(piece: bytes) -> None:
    cache = Cache.memory()
    store: Any = cache.store
    store.append_to_log(LOG, [encode(Begin(1, "forged", NOW, 1, "h", "p.py", "", "")), call()])
    store.append_to_log(LOG, [piece, encode(End(1, NOW + 1))])
    run = cache.runs()["forged"]
    assert (len(run.calls()), run.started.timestamp()) == (1, pytest.approx(NOW))
    assert run.lost == 0
    json.dumps(run.to_dicts(), default=str)
    assert run.ended is not None


def test_a_run_of_which_nothing_can_be_read_is_not_renamed(tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)
    store: Any = cache.store
    store.append_to_log(LOG, [begin(NOW)])
    (file,) = tmp_path.rglob(f"*{LOG}*")
    file.write_bytes(bytes(100))
    run = cache.runs()["forged"]
    with pytest.raises(StoreError, match="nothing of forged can be read"):
        rename(run, "other")
    assert [one.name for one in cache.runs()] == ["forged"]
