"""Writes the golden files that are missing, and none that is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
UNIT = TESTS / "unit"
sys.path[:0] = map(str, (TESTS, UNIT / "format", UNIT / "request", UNIT / "same"))

import test_rules
from ledger import test_golden_log
from sdk import steered
from test_declared import CASSETTE, ENTRY, RAW
from test_envelope import ALIAS, DETAILED, FACTS, REQUEST, STORED, WITH_DICTIONARY_1, golden
from test_golden import FOLDER, made

from cachewrap.entry import Kind
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.stores.jsonl.lines import HEAD, write
from cachewrap.testing.stores import key_of

for name, value in {**STORED, **WITH_DICTIONARY_1}.items():
    if not golden(name).exists():
        golden(name).write_bytes(seal(*codec.encode(value), REQUEST, FACTS))
if not golden("with details").exists():
    golden("with details").write_bytes(seal(*codec.encode("because"), REQUEST, DETAILED))
for table, keys in made().items():
    file = FOLDER / f"{table}.json"
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**keys, **known}, indent=1, sort_keys=True) + "\n", "utf-8")
cassette = Path(__file__).parent / "cassette-1.jsonl"
if not cassette.exists():
    envelopes = {name: seal(*codec.encode(value), REQUEST, FACTS) for name, value in STORED.items()}
    lines = [write(key_of(name), "41", envelope) for name, envelope in envelopes.items()]
    cassette.write_bytes(b"\n".join((HEAD, *lines, b"")))
if not test_golden_log.FILE.exists():
    test_golden_log.FILE.write_bytes(test_golden_log.stored())
if not golden("alias").exists():
    golden("alias").write_bytes(seal(Kind.ALIAS, ALIAS.packed(), REQUEST, FACTS))
approved = Path(__file__).parent / "cassette-1-with-alias.jsonl"
if not approved.exists():
    envelope = golden("alias").read_bytes()
    approved.write_bytes(b"\n".join((HEAD, write(key_of("alias"), "41", envelope), b"")))
detailed = Path(__file__).parent / "cassette-1-with-details.jsonl"
if not detailed.exists():
    envelope = seal(*codec.encode("because"), REQUEST, DETAILED)
    detailed.write_bytes(b"\n".join((HEAD, write(key_of("with details"), "41", envelope), b"")))
rules = test_rules.GOLDEN
known = json.loads(rules.read_text("utf-8")) if rules.exists() else {}
found = {table: {**keys, **known.get(table, {})} for table, keys in test_rules.made().items()}
rules.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
if not ENTRY.exists():
    ENTRY.write_bytes(RAW)
if not CASSETTE.exists():
    CASSETTE.write_bytes(b"\n".join((HEAD, write(key_of("declared"), "41", RAW), b"")))
if not steered.GOLDEN.exists():
    steered.record()
