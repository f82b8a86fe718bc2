"""`scrub=` over plain HTTP: nothing it takes out is stored, and a miss gives what a hit gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cachewrap import Cache
from http_libraries.web import LOOPBACK, Reading, Web, bodies

NAME = "Anna Meier"
ASKED = [{"role": "user", "content": f"Who is {NAME}?"}]


def scrub(text: str) -> str:
    return text.replace(NAME, "(name)")


@bodies
def test_it_is_in_no_place(web: Web, tmp_path: Path, body: dict[str, Any]) -> None:
    path = tmp_path / "a.jsonl"
    web.patch(hosts=LOOPBACK)
    with Cache.jsonl(path, scrub=scrub) as cache:
        asked = {**body, "messages": ASKED}
        reading = Reading() if body.get("stream") else None
        first, second = (web.ask(asked, reading=reading).body for _ in range(2))
        assert (cache.stats.misses, cache.stats.hits) == (1, 1)
    assert b"(name)" in second
    assert first == second or body.get("stream")
    assert (NAME in path.read_text(), NAME.encode() in second) == (False, False)
