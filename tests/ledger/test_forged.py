"""Logs that somebody has forged: what cannot be is read as nothing, and no command breaks at it."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cachewrap import Cache
from cachewrap.cli.main import main
from cachewrap.errors import StoreError
from cachewrap.ledger.names import named_log
from cachewrap.ledger.pieces import Begin, End, Manner, Writer, encode
from cachewrap.ledger.runs import rename
from ledger.making import ended

ESCAPES = "\x1b[31mred\x07\r\n<script>"
TIMES = ("started", "answered", "seconds", "upstream")
COUNTS = ("tokens_in", "tokens_out", "sample")
NAMES = ("source", "model", "seed", "place", "path", "reason", "lane")

FORGED = [
    *(
        pytest.param({"started": time, "ended": time}, dict.fromkeys(TIMES, time), id=f"at {time}")
        for time in (math.nan, math.inf, -1.0, 1e12)
    ),
    *(
        pytest.param({"process": number}, {}, id=f"process {number}")
        for number in (-1, 2**40, -(2**63))
    ),
    *(
        pytest.param(
            {},
            {**dict.fromkeys(COUNTS, count), "details": (count,) * 30},
            id=f"{count} tokens",
        )
        for count in (-1, 2**63 - 1)
    ),
    pytest.param(
        dict.fromkeys(("host", "program", "family", "place"), ESCAPES),
        dict.fromkeys(NAMES, ESCAPES),
        id="names",
    ),
]

COMMANDS = [
    "runs",
    "runs --json",
    "runs show trial",
    "runs show trial --json --calls",
    "runs show trial --calls",
    "runs show trial --prefix",
    "runs show trial/none",
    "runs diff trial~1 trial",
    "report -o page.html --run trial --against trial~1",
    "runs export trial calls.csv --overwrite",
    "runs rm trial --dry-run",
    "runs rename trial other",
]


def forge(cache: Cache, number: int, begun: dict[str, Any], call: dict[str, Any]) -> None:
    """A log of the run `trial` with such values in it."""
    values: dict[str, Any] = {
        "writer": number,
        "name": "trial",
        "started": 1.8e9,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "program": "eval.py",
        "family": "",
        "place": cache.url,
        **begun,
    }
    end = End(number, values.pop("ended", 1.8e9), -7)
    rows = [ended("ab" * 32, one, **call) for one in ("miss", "hit", "joined")]
    rows += [ended("", one, **call) for one in ("bypassed", "failed")]
    pieces = [encode(Begin(**values)), Writer(number, 1).calls(rows)]
    store: Any = cache.store
    store.append_to_log(f"n-trial-{number}", [*pieces, *[encode(end)] * (number == 1)])


@pytest.mark.parametrize(("begun", "call"), FORGED)
def test_what_cannot_be_breaks_nothing(
    begun: dict[str, Any],
    call: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = Cache.disk()
    for number in (1, 2):
        forge(cache, number, begun, call)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main(command.split())
        told = "".join(capsys.readouterr())
        assert not {"\x1b", "\x07"} & set(told), command
        assert not {"NaN", "Infinity", "-1"} & set(told.replace(",", " ").split()), command
    assert [run.lost for run in cache.runs()] == [0, 0]
    with cache.run("trial") as run:
        pass
    assert run.name == "trial"


def test_a_run_of_which_nothing_can_be_read_is_not_renamed(tmp_path: Path) -> None:
    cache = Cache.disk(cache_path_root=tmp_path)
    store: Any = cache.store
    log = named_log("forged", 1)
    begin = Begin(9, "forged", 1.8e9, 1, "elsewhere", "program.py", "", "")
    store.append_to_log(log, [encode(begin)])
    (file,) = tmp_path.rglob(f"*{log}*")
    file.write_bytes(bytes(100))
    run = cache.runs()["forged"]
    with pytest.raises(StoreError, match="nothing of forged can be read"):
        rename(run, "other")
    assert [one.name for one in cache.runs()] == ["forged"]


def test_calls_whose_source_was_damaged_are_told_as_lost() -> None:
    cache = Cache.memory()
    store: Any = cache.store
    writer, manner = Writer(1, 1), Manner(0, "41", "", "")

    def piece(source: str) -> bytes:
        what = source, "m", manner
        return writer.calls([(what, "ab" * 32, 0, 1.8e9, 0.1, (1, 1, 0.1, ()), 1.8e9, "lane")])

    begin = encode(Begin(1, "forged", 1.8e9, 1, "h", "p.py", "", ""))
    told = [piece(source) for source in ("m:f", "m:g", "m:f", "m:g")]
    store.append_to_log(named_log("forged", 1), [begin, told[0][:20], *told[1:]])
    run = cache.runs()["forged"]
    assert [(call.outcome, call.source) for call in run.calls()] == [("hit", "m:g")] * 2
    assert run.lost == 1
