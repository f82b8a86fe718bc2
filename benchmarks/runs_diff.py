"""The comparison of two runs of 10,000 calls: what agrees, what was answered anew, what is near."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Result
from cachewrap import Cache
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.ledger.calls import OUTCOMES
from cachewrap.ledger.names import named_log
from cachewrap.ledger.pieces import Begin, End, Ended, Manner, Writer, encode
from cachewrap.ledger.runs import runs_of
from cachewrap.request import key

CALLS: Final = 10_000
STARTED: Final = 1_800_000_000.0
CASES: Final = {
    "keys agree": ("old", "same", 1.0),
    "a tenth is near": ("old", "near", 10.0),
    "all answered anew": ("old", "anew", None),
}
"""Two runs each, and how many seconds of a processor their comparison may take."""

_TITLE: Final = "a diff of two runs: CPU seconds, MB"
_PROSE: Final = Path(__file__).with_name("prose.txt")


def _fill(folder: str, calls: int) -> None:
    """Four runs: one, the same again, one with a tenth of its prompts edited, one refreshed."""
    words = _PROSE.read_text(encoding="utf-8").split()
    source = random.Random(7)
    systems = [" ".join(source.choices(words, k=250)) for _ in range(5)]
    cache = Cache.disk(41, folder)
    again = cache.reseed(42)
    rows: dict[str, list[Ended]] = {"old": [], "same": [], "near": [], "anew": []}
    for number in range(calls):
        turns = [" ".join(source.choices(words, k=40)) for _ in range(8)]
        first = _store(
            cache, systems[number % 5], turns, number, " ".join(source.choices(words, k=120))
        )
        other = _store(
            again, systems[number % 5], turns, number, " ".join(source.choices(words, k=120))
        )
        for name, row in (("old", first), ("same", first), ("anew", other)):
            rows[name].append(row)
        if number % 10 == 0:
            turns[6] = turns[6].replace(turns[6].split()[5], "instead", 1)
            first = _store(
                cache, systems[number % 5], turns, number, " ".join(source.choices(words, k=120))
            )
        rows["near"].append(first)
    for writer, (name, ended) in enumerate(rows.items(), 1):
        begin = Begin(writer, name, STARTED, 1, "host", "eval.py", "family", cache.url)
        written = Writer(writer, 1)
        pieces = [
            encode(begin),
            *(written.calls(ended[at : at + 500]) for at in range(0, calls, 500)),
        ]
        store: Any = cache.store
        store.append_to_log(named_log(name, 1), [*pieces, encode(End(writer, STARTED + calls))])
    cache.close()
    again.close()


def _store(cache: Cache, system: str, turns: list[str], number: int, answer: str) -> Ended:
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}]
    messages += [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns[:-1])]
    body = {"model": "gpt-4o", "messages": messages, "temperature": 0.2}
    request = {"method": "POST", "url": "https://api.openai.com/v1/chat/completions", "body": body}
    asked = key.encode(request)
    name = key.key_of(key.salted(), asked)
    message = {"role": "assistant", "content": answer}
    told = {"id": f"chatcmpl-{number}", "model": "gpt-4o", "choices": [{"message": message}]}
    whole = HttpAnswer(200, [("content-type", "application/json")], [json.dumps(told).encode()], [])
    created = STARTED + number + (0.5 if cache.seed == "41" else 0.75)
    facts = Facts(created, 1.5, 0.0, "POST /chat/completions", "gpt-4o", 1200, 160)
    cache.store.set(name, seal(*codec.encode(whole), asked, facts))
    manner = Manner(OUTCOMES.index("miss"), cache.seed or "", "", "")
    what, told = ("POST /chat/completions", "gpt-4o", manner), (1200, 160, 1.5, ())
    return Ended(what, name, 0, STARTED + number, 1.5, told, created, "MainThread")


def comparison(calls: int = CALLS) -> list[Result]:
    """CPU seconds and peak memory of each comparison, each in a process of its own."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        _fill(folder, calls)
        for title, (old, new, most) in CASES.items():
            command = [sys.executable, "-m", "benchmarks.runs_diff", folder, old, new]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak, counts = json.loads(told.splitlines()[-1])
            name = f"{title} {counts}"
            results.append(Result(_TITLE, name, seconds * 1e6, seconds, most))
            name = f"{title}: MB at the peak"
            results.append(Result(_TITLE, name, 0.0, peak, 200.0))
    return results


def _compare(folder: str, old: str, new: str) -> None:
    runs = runs_of(Cache.disk(41, folder))
    began = time.process_time()
    diff = runs[old].diff(runs[new])
    seconds = time.process_time() - began
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    counts = [diff.same, len(diff.changed), len(diff.new), len(diff.missing)]
    print(json.dumps([seconds, peak, counts]))


if __name__ == "__main__":
    _compare(*sys.argv[1:])
