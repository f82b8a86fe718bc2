"""Make the pictures of `cachewrap report`: python docs/images/make.py, with Playwright installed.

A store of some hundred made-up answers and runs of one week is filled in a temporary folder, and
its page is photographed in Chromium: the one that CACHEWRAP_TEST_BROWSER names, else the one on
PATH. The pictures are the same each time on a machine with the same fonts (Inter, JetBrains Mono).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Page, sync_playwright

from cachewrap import Cache
from cachewrap.entry import Facts, HttpAnswer
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.ledger.calls import OUTCOMES
from cachewrap.ledger.names import named_log, unnamed_log
from cachewrap.ledger.pieces import Begin, End, Ended, Writer, encode
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
PLAN = """\
### Two days in {0}

1. **Saturday**: take the *first* boat, and keep to the marked path.
2. **Sunday**: keep it free, for the wind.

| Boat | Leaves | Price |
| --- | :---: | ---: |
| out | 08:10 | 120 kr |
| back | 17:05 | 120 kr |

The birds are on the cliffs from early evening. Times: <https://ferries.example/{1}>
"""
BUSES = """\
The bus to the harbour of {0} leaves each hour:

```json
{{"line": 12, "from": "station", "to": "harbour", "minutes": [5, 35]}}
```
"""
PACKING = """\
For {0} in late May take

- a thermos and a *windproof* layer,
- binoculars, 8 x 32,
- and nothing that must stay dry.
"""
WIND = """\
Above **seven metres a second** from the north the crossing to {0} is usually cancelled:

> Boats turn back when the swell reaches the outer skerry.
"""
ANSWERS = {
    "Plan two days in {} for a family that likes seabirds.": PLAN,
    "Is the ferry to {} likely to sail in a northerly gale?": WIND,
    "Which month is best for puffins in {}?": "**June**, from early evening on, in {0}.",
    "Translate to German: We missed the last boat back from {}.": (
        "*Wir haben das letzte Boot von {0} zurück verpasst.*"
    ),
    "List the bus connections to the harbour of {} as JSON.": BUSES,
    "Grade this itinerary for {} from 1 to 5 and say why.": "**4**: {0} needs a spare day.",
    "Shorten this paragraph about {} to one sentence.": "{0} is windy, green and worth it.",
    "What should we pack for {} in late May?": PACKING,
}
EDITS = {"early evening": "first light", "a spare day": "two spare days", "**4**": "**3**"}
SYSTEM = {"role": "system", "content": "You help people who travel slowly. Be brief."}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("timetable", "wind")]


def run_of(place: str, asked: str, told: str) -> list[tuple[list[Any], dict[str, Any]]]:
    """What an agent asks, one after the other, and what it is answered."""

    def call(number: int, name: str, **given: Any) -> dict[str, Any]:
        function = {"name": name, "arguments": json.dumps(given)}
        return {"id": f"call_{number}", "type": "function", "function": function}

    def gave(number: int, **given: Any) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": f"call_{number}", "content": json.dumps(given)}

    calls = [call(1, "timetable", harbour=place, day="Saturday"), call(2, "wind", place=place)]
    first = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [gave(1, departures=["08:10", "12:40", "17:05"]), gave(2, metres=4.5, of="north")]
    second = {"role": "assistant", "content": None, "tool_calls": [call(3, "wind", place="sea")]}
    begun = [SYSTEM, {"role": "user", "content": asked}]
    later = [*begun, first, *results]
    last = [*later, second, gave(3, metres=6.0, of="north-west")]
    return [(begun, first), (later, second), (last, {"role": "assistant", "content": told})]


def pick(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def moment(chance: random.Random) -> float:
    """A time in the week: mostly in working hours, less at the weekend."""
    day = chance.choices(range(7), (9, 11, 10, 12, 8, 2, 3))[0]
    hour = min(23.9, max(0.0, chance.gauss(13.5, 3.4)))
    return WEEK + 86_400 * day + 3600 * hour + chance.random() * 1800


def answer(
    chance: random.Random, model: str, message: dict[str, Any], seconds: float
) -> HttpAnswer:
    text = message["content"]
    if text is None or chance.random() < 0.55:
        body = {"model": model, "choices": [{"index": 0, "message": message}]}
        head = [("content-type", "application/json")]
        return HttpAnswer(200, head, [json.dumps(body).encode()], [])
    words = re.findall(r"\S*\s*", text)[:-1]
    first = min(0.9, seconds / 3)
    delays = sorted(first + (seconds - first) * chance.random() ** 0.9 for _ in words)
    events = [{"choices": [{"delta": {"content": word}}]} for word in words]
    chunks = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return HttpAnswer(200, [("content-type", "text/event-stream")], chunks, delays, streamed=True)


class Asked(NamedTuple):
    """A request that was answered: its key, and what is known of the answer."""

    key: str
    about: Facts

    def call(
        self, outcome: str, began: float, lane: str, path: str = "", why: str = "", seed: str = "41"
    ) -> Ended:
        """A call of it, as a run has it."""
        about = self.about
        common = (OUTCOMES.index(outcome), about.source, about.model, seed, "", path, why)
        took = 0.0009 if outcome == "hit" else about.seconds
        if outcome in ("bypassed", "failed"):
            return Ended(common, "", 0, began, took, took, 0, 0, (), 0.0, lane)
        tokens = about.tokens_in, about.tokens_out
        return Ended(
            common, self.key, 0, began, took, about.seconds, *tokens, (), about.created, lane
        )


class Filling:
    """A cache that is filled with made-up answers, and with the runs that asked for them.

    Args:
        url: the cache.
    """

    def __init__(self, url: str) -> None:
        self.chance = random.Random(7)
        self.asked: list[Asked] = []
        self._store: Any = Cache.from_url(url).store
        self._number = 0

    def put(self, request: dict[str, Any], said: Any, about: Facts, seed: str = "41") -> Asked:
        """Store an answer."""
        asked = key.encode(request)
        name = key.key_of(key.salted("41"), asked)
        self._store.reseed(seed).set(name, seal(*codec.encode(said), asked, about))
        return Asked(name, about)

    def run(self, log: str, name: str, calls: list[Ended], program: str) -> None:
        """Write a run down."""
        calls.sort(key=lambda call: call.started)
        first, number = calls[0].started, len(calls)
        begin = Begin(number, name, first, 4711, "host", program, "family", self._store.url)
        pieces = [encode(begin), Writer(number, 4711).calls(calls)]
        pieces.append(encode(End(number, max(call.started + call.seconds for call in calls))))
        self._store.append_to_log(log, pieces)

    def days(self) -> None:
        """A run for each day: each answer was a miss, and is asked for again some times."""
        calls: dict[int, list[Ended]] = {}
        for asked in self.asked:
            again = (moment(self.chance) for _ in range(self.chance.randrange(7)))
            created = asked.about.created
            when = [created, *(max(created + 60, at) for at in again)]
            for at in when:
                outcome = "miss" if at == created else "hit"
                calls.setdefault(int((at - WEEK) // 86_400), []).append(
                    asked.call(outcome, at, "MainThread")
                )
        for day, made in sorted(calls.items()):
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(min(call.started for call in made)))
            name = f"{stamp}-{day + 0xA1B200:06x}"
            self.run(unnamed_log(name), name, made, "planner.py")

    def agents(self, began: float) -> None:
        """A run of nine agents at work at once, in two blocks."""
        chance, calls = self.chance, []
        ways = {"hit": 9, "miss": 14, "joined": 2, "bypassed": 1, "failed": 1}
        for agent in range(9):
            at = began + chance.random() * 2
            for step in range(chance.randrange(8, 15)):
                asked, outcome = chance.choice(self.asked), pick(chance, ways)
                why = {"failed": "RateLimitError", "bypassed": "a file is uploaded"}.get(
                    outcome, ""
                )
                path = "research" if step < 5 else "write"
                call = asked.call(outcome, at, f"agent-{agent + 1}", path, why)
                calls.append(call)
                at += call.seconds + chance.random() * 0.4
        self.run(named_log("agents", 1), "agents", calls, "agents.py")

    def evaluations(self, began: float) -> None:
        """Two runs of one evaluation, the second with another seed: some answers are others."""
        asked, before = list(itertools.product(ANSWERS, PLACES))[::2], {}
        for number, (name, edits) in enumerate((("baseline", {}), ("candidate", EDITS))):
            calls, free = [], [began + 7200 * number] * 8
            for question, place in asked:
                lane = free.index(min(free))
                told = was = ANSWERS[question].format(place, place.split()[-1].lower())
                for old, new in edits.items():
                    told = told.replace(old, new)
                seed = "42" if told != was else "41"
                if seed == "42" or not number:
                    before[question, place] = self._say(
                        question.format(place), told, free[lane], seed
                    )
                one = before[question, place]
                outcome = "miss" if not number or seed == "42" else "hit"
                call = one.call(outcome, free[lane], f"Worker-{lane + 1}", seed=seed)
                calls.append(call)
                free[lane] += call.seconds + 0.05
            self.run(named_log(name, 1), name, calls, "eval.py")

    def _say(self, asked: str, told: str, when: float, seed: str) -> Asked:
        messages = [SYSTEM, {"role": "user", "content": asked}]
        said = {"role": "assistant", "content": told}
        return self._chat({"messages": messages}, said, "gpt-4.1-2025-04-14", when, seed)

    def chat(self, messages: list[Any], message: dict[str, Any], model: str, when: float) -> None:
        """Store the answer to a request of the chat API."""
        self._number += 1
        body: dict[str, Any] = {"messages": messages, "temperature": 0.2}
        if message["content"] is None or len(messages) > 2:
            body["tools"] = TOOLS
        else:
            body["user"] = str(self._number)
        self.asked.append(self._chat(body, message, model, when))

    def _chat(
        self,
        body: dict[str, Any],
        message: dict[str, Any],
        model: str,
        when: float,
        seed: str = "41",
    ) -> Asked:
        seconds = round(self.chance.lognormvariate(0.5, 0.6), 3)
        source = "POST /chat/completions"
        url = "https://api.openai.com/v1/chat/completions"
        request = {"method": "POST", "url": url, "body": {"model": model, **body}}
        about = self._about(when, seconds, source, model, len(message["content"] or ""))
        return self.put(request, answer(self.chance, model, message, seconds), about, seed)

    def function(self, prompt: str, told: str, model: str, when: float) -> None:
        """Store what a decorated function returned."""
        self._number += 1
        seconds = round(self.chance.lognormvariate(0.5, 0.6), 3)
        source = pick(self.chance, FUNCTIONS)
        request = {"function": source, "arguments": {"text": prompt, "draft": self._number}}
        about = self._about(when, seconds, source, model, len(told))
        self.asked.append(self.put(request, told, about))

    def _about(self, when: float, seconds: float, source: str, model: str, length: int) -> Facts:
        tokens = (self.chance.randrange(40, 2400), length // 4 * self.chance.randrange(1, 8))
        return Facts(when, seconds, 0.0, source, model, *tokens)

    def close(self) -> None:
        """Let go of the cache."""
        self._store.close()


def fill(url: str, entries: int = 400) -> None:
    """Fill a cache with made-up answers, and with runs that were given them."""
    filling = Filling(url)
    chance = filling.chance
    for number in range(entries):
        place, asked = chance.choice(PLACES), chance.choice(list(ANSWERS))
        prompt, told = asked.format(place), ANSWERS[asked].format(place, place.split()[-1].lower())
        model, when = pick(chance, MODELS), moment(chance)
        if number % 8 == 0:
            for step, (messages, message) in enumerate(run_of(place, prompt, told)):
                filling.chat(messages, message, model, when + 4.0 * step)
        elif chance.random() < 0.24:
            filling.function(prompt, told, model, when)
        else:
            messages = [SYSTEM, {"role": "user", "content": prompt}]
            filling.chat(messages, {"role": "assistant", "content": told}, model, when)
    filling.days()
    filling.agents(WEEK + 5.6 * 86_400)
    filling.evaluations(WEEK + 5.4 * 86_400)
    filling.close()


def photograph(page_file: Path) -> None:
    """Take the pictures."""
    browser = os.environ.get("CACHEWRAP_TEST_BROWSER") or shutil.which("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, theme, show in PICTURES:
            page = chromium.new_page(
                viewport={"width": 1200, "height": 1000},
                color_scheme=theme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            page.goto(page_file.as_uri())
            page.evaluate("go(''); follow()")  # the page opens with what changed
            show(page)
            page.mouse.move(0, 0)
            page.screenshot(path=HERE / f"report-{name}.png")
        chromium.close()


def open_answer(page: Page) -> None:
    """Show an answer that was streamed, which is Markdown."""
    page.get_by_label("Kind of answer").select_option("Streams")
    page.locator("#search").fill("plan seabirds")
    page.locator(".lines .line:not(.thread) .opener").first.click()
    page.evaluate("document.querySelector('.below').scrollIntoView()")
    page.evaluate("scrollBy(0, -56)")


def open_agent(page: Page) -> None:
    """Show the requests of an agent, one of them opened."""
    page.locator(".lines .thread .opener").first.click()
    page.locator(".lines .step .opener").nth(1).click()
    page.get_by_role("button", name="earlier turns").click()
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.querySelector('.thread').scrollIntoView()")


def open_run(page: Page) -> None:
    """Show the timeline of a run, with one of its calls."""
    page.evaluate("location.hash = '#run=agents'")
    page.locator("#view h1").wait_for()
    page.evaluate(SHORT_MISS)
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    page.wait_for_timeout(200)


def open_diff(page: Page) -> None:
    """Show what changed, and two answers side by side."""
    page.evaluate("location.hash = '#diff/0'")
    page.locator(".sides").wait_for()
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    page.wait_for_timeout(200)


SHORT_MISS = """() => {
  const { calls } = readRun(runRows.find((run) => run.name === 'agents'));
  const short = (call) => call.outcome === 'miss' && /German/.test(call.row?.says);
  shownInView(calls.find(short).number);
}"""
PICTURES = [
    ("light", "light", lambda page: None),
    ("dark", "dark", open_answer),
    ("agent", "light", open_agent),
    ("run", "light", open_run),
    ("diff", "dark", open_diff),
]


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "trip-planner"  # its name is in the picture
    folder.mkdir(mode=0o700)
    try:
        url, page = f"disk:{folder / '.cache'}", folder / "report.html"
        fill(url)
        command = [sys.executable, "-m", "cachewrap", "report", "--url", url, "-o", str(page)]
        command += [
            "--title",
            "Trip planner, week 45",
            "--run",
            "candidate",
            "--against",
            "baseline",
        ]
        subprocess.run(command, check=True)
        photograph(page)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
