"""Make the pictures of `cachewrap report`: python docs/images/make.py, with Playwright installed.

A store of some hundred made-up answers of one week is filled in a temporary folder, and its page is
photographed in Chromium: the one that CACHEWRAP_TEST_BROWSER names, else the one on PATH. The
pictures are the same each time on a machine with the same fonts (Inter, JetBrains Mono).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from cachewrap import Cache
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.history import Minute
from cachewrap.request import key

HERE = Path(__file__).parent
WEEK = 1_793_577_600.0  # Monday, 2 November 2026, 00:00 UTC
MODELS = {
    "gpt-4o-2024-08-06": 52,
    "gpt-4o-mini-2024-07-18": 30,
    "gpt-4.1-2025-04-14": 12,
    "o3-mini": 6,
}
FUNCTIONS = {"trips.plan:outline": 3, "trips.notes:summarise": 2, "trips.review:grade": 1}
PLACES = "Bergen,Lofoten,Skye,Anglesey,the Faroes,Heimaey,Lundy,Shetland,Runde,Grimsey".split(",")
ASKED = [
    "Plan two days in {} for a family that likes seabirds.",
    "Is the ferry to {} likely to sail in a northerly gale?",
    "Which month is best for puffins in {}?",
    "Translate to German: We missed the last boat back from {}.",
    "List the bus connections to the harbour of {} as JSON.",
    "Grade this itinerary for {} from 1 to 5 and say why.",
    "Shorten this paragraph about {} to one sentence.",
    "What should we pack for {} in late May?",
]
TOLD = (
    "Go in the middle of June: the birds are on the cliffs from early evening, and the light "
    "lasts. Take the first boat, keep to the marked path, and leave two hours for the walk back. "
    "If the wind is above seven metres a second from the north the crossing is usually cancelled, "
    "so keep the second day free. A thermos, a windproof layer and a small pair of binoculars are "
    "enough."
)
SYSTEM = {"role": "system", "content": "You help people who travel slowly. Be brief."}
TIMETABLE = [
    {"role": "user", "content": "When does the boat leave?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "timetable", "arguments": '{"harbour": "Nolsoy"}'},
            }
        ],
    },
    {
        "role": "tool",
        "tool_call_id": "c1",
        "content": '{"departures": ["08:10", "12:40", "17:05"]}',
    },
]


def pick(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def moment(chance: random.Random) -> float:
    """A time in the week: mostly in working hours, less at the weekend."""
    day = chance.choices(range(7), (9, 11, 10, 12, 8, 2, 3))[0]
    hour = min(23.9, max(0.0, chance.gauss(13.5, 3.4)))
    return WEEK + 86_400 * day + 3600 * hour + chance.random() * 1800


def answer(chance: random.Random, model: str, text: str, seconds: float) -> HttpAnswer:
    if chance.random() < 0.55:
        message = {"role": "assistant", "content": text}
        body = {"model": model, "choices": [{"index": 0, "message": message}]}
        head = [("content-type", "application/json")]
        return HttpAnswer(200, head, [json.dumps(body).encode()], [])
    words = [f"{word} " for word in text.split()]
    first = min(0.9, seconds / 3)
    delays = sorted(first + (seconds - first) * chance.random() ** 0.9 for _ in words)
    events = [{"choices": [{"delta": {"content": word}}]} for word in words]
    chunks = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return HttpAnswer(200, [("content-type", "text/event-stream")], chunks, delays, streamed=True)


def fill(url: str, history: Path, entries: int = 400) -> None:
    """Fill a cache with made-up answers, and a history with calls that were given them."""
    chance = random.Random(7)
    minutes: list[Minute] = []
    store = Cache.from_url(url).store
    for number in range(entries):
        prompt = chance.choice(ASKED).format(chance.choice(PLACES))
        text = TOLD[: TOLD.find(".", chance.randrange(60, len(TOLD) - 1)) + 1]
        seconds = round(chance.lognormvariate(0.5, 0.6), 3)
        model, source = pick(chance, MODELS), "POST /chat/completions"
        request: dict[str, Any]
        said: Any = answer(chance, model, text, seconds)
        if chance.random() < 0.24:
            source = pick(chance, FUNCTIONS)
            request = {"function": source, "arguments": {"text": prompt, "draft": number}}
            said = text
        else:
            before = TIMETABLE if chance.random() < 0.3 else []
            messages = [SYSTEM, *before, {"role": "user", "content": prompt}]
            body = {"model": model, "messages": messages, "temperature": 0.2, "user": str(number)}
            asked_url = "https://api.openai.com/v1/chat/completions"
            request = {"method": "POST", "url": asked_url, "body": body}
        tokens = (chance.randrange(40, 2400), len(text) // 4 * chance.randrange(1, 8))
        stored = moment(chance)
        facts = Facts(stored, seconds, 0.0, source, model, *tokens)
        asked = key.encode(request)
        store.set(key.key_of(key.salted("41"), asked), seal(*codec.encode(said), asked, facts))
        name = store.url, source, model
        minutes.append(Minute(int(stored), *name, misses=1))
        for _ in range(chance.randrange(7)):
            asked_again = max(stored, moment(chance))
            saved: Any = {"tokens_in": tokens[0], "tokens_out": tokens[1], "seconds": seconds}
            minutes.append(Minute(int(asked_again), *name, hits=1, **saved))
    store.close()
    history.write_text("".join(f"{json.dumps(asdict(minute))}\n" for minute in minutes))


def photograph(page_file: Path) -> None:
    """Take the pictures."""
    browser = os.environ.get("CACHEWRAP_TEST_BROWSER") or shutil.which("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for theme in ("light", "dark"):
            page = chromium.new_page(
                viewport={"width": 1200, "height": 1000},
                color_scheme=theme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            page.goto(page_file.as_uri())
            if theme == "dark":
                open_stream(page)
            page.screenshot(path=HERE / f"report-{theme}.png")
        chromium.close()


def open_stream(page: Page) -> None:
    """Show the table, and a stream in the middle of its replay."""
    page.get_by_label("Kind of answer").select_option("Streams")
    page.locator(".lines .opener").nth(2).click()
    page.get_by_role("slider").evaluate(
        "it => { it.value = it.max * 0.7; it.dispatchEvent(new Event('input')); }"
    )
    page.mouse.move(0, 0)
    page.evaluate("document.getElementById('conversations').scrollIntoView()")


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "trip-planner"  # its name is in the picture
    folder.mkdir(mode=0o700)
    try:
        url, page, history = f"disk:{folder / '.cache'}", folder / "report.html", folder / "calls"
        fill(url, history)
        command = [sys.executable, "-m", "cachewrap", "report", "--url", url, "-o", str(page)]
        command += ["--history", str(history), "--title", "Trip planner, week 45"]
        subprocess.run(command, check=True)
        photograph(page)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
