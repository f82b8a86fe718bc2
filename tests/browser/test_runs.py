"""Runs on the page: their list, the timeline of one, and the difference of two."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.filling import chat, put
from ledger.making import ended, write_run
from playwright.sync_api import Page, expect

from browser.conftest import Noise, Opener, write_report
from browser.test_hostile import HOSTILE
from browser.test_page import CONTRASTS
from cachewrap import Cache
from cachewrap.cli import report_runs
from cachewrap.cli.main import main
from cachewrap.ledger.calls import OUTCOMES, Rows
from cachewrap.ledger.diff import Change, Diff
from cachewrap.ledger.runs import Run

START = 1_800_000_000.0
MODELS = ("gpt-4o", "gpt-4o-mini")


def fill(url: str) -> None:
    """Two runs of 60 calls in 6 threads, and one of 1,000 tasks, in a cache of 60 conversations."""
    keys = [put(url, *chat(f"question {n}", f"answer {n}"), model=MODELS[n % 2]) for n in range(60)]
    with Cache.from_url(url) as cache:
        for begun, name in enumerate(("baseline", "candidate", "candidate")):
            rows = [
                ended(
                    "" if n % 20 == 13 else key,
                    OUTCOMES[{7: 2, 13: 3, 17: 4}.get(n % 20, 1 if n % 4 else 0)],
                    started=START + 1000 * begun + n / 6,
                    seconds=0.9 if n % 4 else 0.001,
                    upstream=0.9,
                    tokens_in=100 + n,
                    tokens_out=10,
                    model=MODELS[n % 2],
                    lane=f"Worker-{n % 6}",
                    path="plan" if n < 30 else "write",
                    reason={13: "a file", 17: "RateLimitError"}.get(n % 20, ""),
                )
                for n, key in enumerate(keys)
            ]
            write_run(cache, name, rows)
        tasks = [
            ended(
                keys[n % 60], "miss", started=START + n / 40, seconds=1.0, lane=f"Task-{n % 1000}"
            )
            for n in range(3000)
        ]
        write_run(cache, "a thousand tasks", tasks)


def stand_in(baseline: Run, candidate: Run) -> Diff:
    olds, news = baseline.calls(), candidate.calls()
    both = zip(olds, news, strict=True)
    changes = [
        Change(
            *("changed", old, new, (), ("a line",), 1, 2),
            *(f"June {n}, or July.", f"May {n}, or July.", f"question {n}"),
        )
        for n, (old, new) in enumerate(both)
        if n % 3 == 0
    ]
    asked = ("model: 'gpt-4o' → 'gpt-5'", "messages[0].content: 'a' → 'b'")
    scores = '{"score": 4, "why": "fine"}', '{"score": 3, "why": "fine"}'
    changes += [
        Change("changed", olds[1], news[1], asked, ("score: 4 → 3",), 1, 1, *scores, "graded"),
        Change("new", None, news[2], new_answer="only now", prompt="a new one"),
        Change("missing", olds[4], None, prompt="one that is missing"),
    ]
    return Diff(baseline, candidate, Rows(changes), 33)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of those runs, with the difference of two."""
    folder = tmp_path_factory.mktemp("runs")
    url, path = f"disk:{folder / 'cache'}", folder / "report.html"
    fill(url)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report_runs, "compare", stand_in)
        words = ["--run", "candidate", "--against", "baseline", "--title", "The title"]
        with pytest.raises(SystemExit) as ended:
            main(["report", "--url", url, "-o", str(path), *words])
        assert not ended.value.code
    return path


@pytest.fixture
def at(page_file: Path, open_page: Opener) -> Callable[..., Page]:
    """Opens the page at an address."""

    def open_at(address: str, **options: Any) -> Page:
        page = open_page(page_file, reduced_motion="reduce", **options)
        page.evaluate(f"location.hash = {address!r}")
        expect(page.locator("#view h1" if address else "#overview")).to_be_visible()
        return page

    return open_at


def address(page: Page) -> str:
    return str(page.evaluate("decodeURIComponent(location.hash)"))


def status(page: Page) -> str:
    return page.locator("#view").get_by_role("status").inner_text()


def test_the_difference_is_what_the_page_opens_with(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file)
    expect(page.locator("#view h1")).to_have_text("candidate beside baseline")
    assert (address(page), page.title()) == ("#diff", "What changed · The title")
    page.get_by_role("link", name="The whole cache").click()
    expect(page.locator("#overview h1")).to_have_text("The title")
    assert (address(page), page.title()) == ("", "The title")
    page.go_back()
    expect(page.locator("#view h1")).to_be_visible()


def test_the_list_names_runs_newest_first(at: Callable[..., Page]) -> None:
    page = at("runs")
    page.evaluate("go(''); follow()")
    assert page.locator(".runs .run-name").all_inner_texts() == [
        "candidate",
        "candidate~1",
        "a thousand tasks",
        "baseline",
    ]
    line = page.locator(".runs tbody tr").first
    assert "15 hits, 3 joined, 36 misses, 3 bypassed, 3 failed" in (line.text_content() or "")
    cells = line.locator("td").all_inner_texts()
    assert (cells[1], cells[2].split(), cells[3]) == ("60", ["18", "30%"], "36")
    notice = page.locator("#runs ~ .notice").inner_text()
    assert notice == "candidate beside baseline: 21 changed, 1 new, 1 missing, 33 the same."


def test_a_run_opens_by_a_click_and_back_leads_out(at: Callable[..., Page]) -> None:
    page = at("#diff")
    page.get_by_role("link", name="The whole cache").click()
    page.get_by_role("link", name="candidate~1").click()
    expect(page.locator("#view h1")).to_have_text("candidate~1")
    expect(page.locator("#view h1")).to_be_focused()
    assert address(page) == "#run=candidate~1"
    page.go_back()
    expect(page.locator("#overview")).to_be_visible()
    page.go_forward()
    expect(page.locator("#view h1")).to_have_text("candidate~1")
    page.go_back()
    page.locator(".runs tbody tr").nth(2).locator("td").nth(1).click()
    expect(page.locator("#view h1")).to_have_text("a thousand tasks")


@pytest.mark.parametrize("wrong", ["#run=none", "#run=%E0%A4%A", "#run=@99"])
def test_an_address_of_no_run_says_so(at: Callable[..., Page], wrong: str) -> None:
    page = at("#run=baseline")
    page.evaluate(f"location.hash = '{wrong}'")
    expect(page.locator("[aria-live]", has_text="no such run")).to_have_count(1)
    expect(page.locator("#overview")).to_be_visible()


def test_a_run_tells_its_totals(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    figures = page.locator("#view .figure .value").all_inner_texts()
    assert figures[:2] == ["60", "30%"]
    models = page.locator("#run-models + table .name").all_inner_texts()
    assert sorted(models) == sorted(MODELS)
    assert page.locator("#run-slowest ~ ol li").count() == 10
    reasons = page.locator("#run-reasons ~ ol li").all_inner_texts()
    assert [text.split("\n")[0] for text in reasons] == ["a file", "RateLimitError"]


def test_chips_choose_outcomes_and_selects_the_rest(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    assert status(page) == "60 calls, 1 to 50 shown"
    page.get_by_role("button", name="Misses 36").click()
    expect(page.get_by_role("button", name="Misses 36")).to_have_attribute("aria-pressed", "false")
    assert status(page) == "24 of 60 calls"
    page.locator("#view").get_by_label("Model", exact=True).select_option("gpt-4o")
    assert status(page) == "15 of 60 calls"
    page.locator("#find").fill("worker-2 question")
    assert status(page) == "5 of 60 calls"
    page.locator("#find").fill("no such thing")
    assert status(page) == "No call fits."


def test_a_call_opens_its_conversation(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    opener = page.locator("#view .calls .opener", has_text="question 8").first
    opener.click()
    below = page.locator("#view .below")
    assert below.locator(".said").all_inner_texts() == ["question 8", "answer 8"]
    assert "Worker-2" in below.inner_text()
    assert address(page) == "#run=candidate/8"
    opener.press("Escape")
    expect(below).to_have_count(0)
    assert address(page) == "#run=candidate"


def test_a_call_without_an_entry_says_why(at: Callable[..., Page]) -> None:
    page = at("#run=candidate/13")
    panel = page.get_by_role("region", name="The chosen call")
    expect(panel).to_be_focused()
    assert "a file" in panel.inner_text()
    assert panel.locator(".said").count() == 0
    panel.press("Escape")
    expect(panel).to_be_hidden()
    assert address(page) == "#run=candidate"


def test_the_timeline_is_walked_by_the_keyboard(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    lanes = page.get_by_role("application")
    heard = page.locator(".timeline [aria-live]")
    lanes.focus()
    page.keyboard.press("ArrowRight")
    expect(heard).to_contain_text(
        "hit: POST /chat/completions, gpt-4o, 1.0 ms, at 0.00 s, Worker-0"
    )
    page.keyboard.press("ArrowDown")
    expect(heard).to_contain_text("Worker-1")
    page.keyboard.press("End")
    expect(heard).to_contain_text("Worker-5")
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="The chosen call")
    expect(panel.locator(".said").first).to_have_text("question 59")
    page.keyboard.press("Escape")
    expect(lanes).to_be_focused()


def test_the_timeline_is_zoomed(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    shown = page.locator(".range")
    expect(shown).to_be_empty()
    page.get_by_role("button", name="Zoom in").click()
    expect(shown).to_have_text(re.compile(r"[\d.]+ s to [\d.]+ s"))
    lanes = page.get_by_role("application")
    lanes.press("+")
    lanes.press("0")
    expect(shown).to_be_empty()
    box = page.locator(".strip").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 20, steps=4)
    page.mouse.up()
    expect(shown).not_to_be_empty()


def test_a_click_in_the_timeline_chooses_a_call(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    lanes = page.get_by_role("application")
    box = lanes.bounding_box()
    assert box is not None
    spot = box["x"] + 176 + (box["width"] - 176) * 5.4 / 10.8, box["y"] + 12
    page.mouse.move(*spot)
    expect(page.locator(".tip")).to_contain_text("question 30")
    page.mouse.click(*spot)
    expect(page.get_by_role("region", name="The chosen call")).to_contain_text("question 30")
    page.go_back()
    expect(page.get_by_role("region", name="The chosen call")).to_be_hidden()


def test_outcomes_differ_in_form_and_not_in_colour_alone(at: Callable[..., Page]) -> None:
    page = at("#run=candidate")
    forms = page.evaluate(
        """(width) => [...Object.keys(OUTCOME_NAMES), 'ruled'].map((outcome) => {
          const canvas = document.createElement('canvas');
          const pen = canvas.getContext('2d');
          const ink = new Proxy({}, { get: (_, name) => (name === 'paper' ? '#fff' : '#000') });
          mark(pen, outcome, 2, 2, width, 20, ink);
          return [...pen.getImageData(0, 0, 60, 24).data].filter((_, i) => i % 4 === 3).join();
        })""",
        40,
    )
    assert len(set(forms)) == 6
    every = "[...Object.keys(OUTCOME_NAMES), 'ruled']"
    signs = page.evaluate(f"{every}.map((one) => sign(one).innerHTML)")
    assert len(set(signs)) == 6


def test_many_tasks_take_as_few_rows_as_were_at_work_at_once(at: Callable[..., Page]) -> None:
    page = at("#run=a%20thousand%20tasks")
    expect(page.locator("#view").get_by_label("Rows")).to_have_value("packed")
    rows, clashes = page.evaluate(
        """() => {
          const { calls, laneNames } = readRun(runRows.find((run) => run.name.startsWith('a ')));
          const { into, rows } = arranged(calls, 'packed', null);
          const ends = Array(rows).fill(-1);
          let clashes = 0;
          for (const call of calls) {
            if (call.start < ends[into[call.at]] - 1e-9) clashes++;
            ends[into[call.at]] = call.start + call.seconds;
          }
          return [rows, clashes];
        }"""
    )
    assert (rows <= 41, clashes) == (True, 0)
    page.locator("#view").get_by_label("Rows").select_option("lane")
    height = page.locator(".tall").evaluate("(it) => it.clientHeight")
    box = page.locator(".scroller").bounding_box()
    assert box is not None
    assert (height >= 14_000, box["height"] <= 420) == (True, True)


def test_changes_are_filtered(at: Callable[..., Page]) -> None:
    page = at("#diff")
    assert status(page) == "23 changes"
    for name, found in (("New 1", 1), ("Missing 1", 1), ("Changed 21", 21), ("All 23", 23)):
        page.get_by_role("button", name=name).click()
        expect(page.locator(".changes > li")).to_have_count(found)
    page.locator("#find").fill("GRADED gpt-5")
    expect(page.locator(".changes > li")).to_have_count(1)
    page.locator("#find").fill("only now")
    expect(page.locator(".changes > li")).to_have_count(1)
    page.locator("#find").fill("")
    page.locator("#view").get_by_label("Model", exact=True).select_option("gpt-4o")
    expect(page.locator(".changes > li")).to_have_count(12)


def test_answers_stand_side_by_side(at: Callable[..., Page]) -> None:
    page = at("#diff/0")
    item = page.locator(".changes > li").first
    assert item.locator(".side .said").all_inner_texts() == ["June 0, or July.", "May 0, or July."]
    assert item.locator("del").all_inner_texts() == ["June"]
    assert item.locator("ins").all_inner_texts() == ["May"]
    first, second = (said.bounding_box() for said in item.locator(".said").all())
    assert first and second and abs(first["y"] - second["y"]) < 1
    item.locator(".opener").press("Escape")
    assert address(page) == "#diff"


def test_json_answers_are_compared_by_field(at: Callable[..., Page]) -> None:
    page = at("#diff")
    page.locator(".changes .opener", has_text="graded").click()
    item = page.locator(".changes > li", has_text="graded")
    assert item.locator("del").all_inner_texts() == ["4"]
    assert item.locator(".differs li").all_inner_texts() == [
        "model: 'gpt-4o' → 'gpt-5'",
        "messages[0].content: 'a' → 'b'",
        "score: 4 → 3",
    ]


def test_one_side_is_there_alone_where_only_one_asked(at: Callable[..., Page]) -> None:
    page = at("#diff/21")
    assert page.locator(".side").count() == 1
    assert page.locator(".side .said").inner_text() == "only now"
    page.evaluate("location.hash = '#diff/22'")
    expect(page.locator(".changes > li", has_text="is missing").locator(".side")).to_contain_text(
        "no longer stored"
    )


VIEWS = ["#run=candidate/8", "#diff/0", "#run=a%20thousand%20tasks"]


@pytest.mark.parametrize("view", ["", *VIEWS])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_contrast(at: Callable[..., Page], view: str, theme: Any) -> None:
    assert at(view, color_scheme=theme).evaluate(CONTRASTS) == {}


@pytest.mark.parametrize("view", ["", *VIEWS])
@pytest.mark.parametrize("width", [360, 800])
def test_nothing_is_scrolled_sideways(at: Callable[..., Page], view: str, width: int) -> None:
    page = at(view, viewport={"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = "[...document.querySelectorAll('body *')].filter((it) => it.checkVisibility()"
    wide += f" && !it.closest('.hidden, .skip') && it.getBoundingClientRect().right > {width}.5)"
    assert page.evaluate(f"{wide}.map((it) => it.tagName + '.' + it.className)") == []


@pytest.mark.parametrize("view", VIEWS)
def test_everything_has_a_name(at: Callable[..., Page], view: str) -> None:
    page = at(view)
    page.locator("#view .opener").nth(2).click()
    nameless = page.evaluate(
        "[...document.querySelectorAll('#view :is(button, input, select, a)')].filter((it) =>"
        " !(it.getAttribute('aria-label') || it.textContent.trim())).map((it) => it.outerHTML)"
    )
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((it) => it.id)")
    assert (nameless, len(ids)) == ([], len(set(ids)))
    for name in ("aria-controls", "aria-labelledby"):
        named = f"[...document.querySelectorAll('[{name}]')].map((it) => it.getAttribute('{name}'))"
        assert set(page.evaluate(named)) <= set(ids)
    seen = "[...document.querySelectorAll('h1, h2, h3')].filter((it) => it.checkVisibility())"
    levels = page.evaluate(f"{seen}.map((it) => +it.tagName[1])")
    assert levels.count(1) == 1
    assert page.locator("#view svg:not([aria-hidden]), #view th:not([scope])").count() == 0


def test_a_replaced_answer_says_so(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    key = put(url, *chat("hello", "hi"))
    with Cache.from_url(url) as cache:
        write_run(cache, "a", [ended(key, "hit", answered=START)])
    page = open_page(write_report(url, tmp_path / "r.html", "--run", "a"))
    page.locator("#view .calls .opener").click()
    expect(page.locator("#view .below")).to_contain_text("Another answer has taken the place")


def test_hits_and_misses_over_time(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    key = put(url, *chat("hello", "hi"))
    with Cache.from_url(url) as cache:
        outcomes = ["miss", "hit", "hit", "miss"]
        rows = [ended(key, one, started=START + n, upstream=2.0) for n, one in enumerate(outcomes)]
        write_run(cache, "a", rows)
    page = open_page(write_report(url, tmp_path / "r.html"))
    chart = page.get_by_role("img", name=re.compile("^Hits and Misses per minute"))
    assert "the most hits, 2" in (chart.get_attribute("aria-label") or "")
    assert (chart.locator(".bar.hit").count(), chart.locator(".bar.miss").count()) == (1, 1)
    assert "50.0% of 4 calls" in page.locator("#calls ~ .figures").inner_text()
    page.get_by_text("As a table").first.click()
    cells = page.locator("#calls ~ details td").all_inner_texts()
    assert (sum(map(int, cells[0::2])), sum(map(int, cells[1::2]))) == (2, 2)


def test_hits_by_rule_are_told_apart(tmp_path: Path, open_page: Opener) -> None:
    url, rule = f"disk:{tmp_path / 'c'}", 'ignore("user")'
    key = put(url, *chat("hello", "hi"))
    with Cache.from_url(url) as cache:
        needed = [("miss", ()), ("hit", ()), ("hit", (rule,)), ("joined", (rule,))]
        rows = [ended(key, one, started=START + n, rules=by) for n, (one, by) in enumerate(needed)]
        write_run(cache, "a", rows)
    page = open_page(write_report(url, tmp_path / "r.html"))
    assert "3 75%, 2 by rule" in page.locator(".runs tbody").inner_text()
    assert "75.0% of 4 calls, 2 by rule" in page.locator("#calls ~ .figures").inner_text()
    page.locator(".run-name").click()
    assert "2 by rule" in page.locator("#view .figures").inner_text()
    assert page.locator("#run-rules ~ .ranking li").all_inner_texts() == [f"{rule}\n2×"]  # noqa: RUF001
    calls = page.locator("#view .calls .opener")
    calls.nth(2).click()
    below = page.locator("#view .below")
    assert ("hit by rule" in below.inner_text(), rule in below.inner_text()) == (True, True)
    expect(below).to_contain_text("Here is the request whose answer it was given")
    page.get_by_role("button", name="By rule 2").click()
    assert status(page) == "2 of 4 calls"
    page.locator("#find").fill("ignore")
    assert status(page) == "No call fits."
    page.get_by_role("button", name="By rule 2").click()
    assert status(page) == "2 of 4 calls"


def test_numbers_only(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    key = put(url, *chat("a secret", "kept"))
    with Cache.from_url(url) as cache:
        told = dict.fromkeys(("lane", "path"), "secret")
        write_run(cache, "secret", [ended(key, "hit", rules=("secret",), seconds=3.0, **told)])
    page = open_page(write_report(url, tmp_path / "r.html", "--no-content", "--run", "secret"))
    expect(page.locator("#view h1")).to_have_text("Run 1")
    assert address(page) == "#run=@0"
    page.locator("#view .calls .opener").click()
    page.get_by_role("application").press("ArrowRight")
    text = page.evaluate("document.body.textContent")
    assert ("secret" in text, "3.00 s" in page.locator("#view").inner_text()) == (False, True)


def test_what_a_run_holds_never_runs(tmp_path: Path, open_page: Opener, noise: Noise) -> None:
    url = f"disk:{tmp_path / 'c'}"
    put(url, *chat("a", "b"))
    rows = [
        ended(
            f"{n:064x}",
            OUTCOMES[n % 5],
            started=START + n,
            **dict.fromkeys(("source", "model", "lane", "path", "reason"), bad),
            rules=(bad,),
        )
        for n, bad in enumerate(HOSTILE[:-1])
    ]
    names = [re.sub(r"[/#~\\\x00-\x1f]", "", bad)[:100].strip("@- ") for bad in HOSTILE[:-1]]
    with Cache.from_url(url) as cache:
        for name in names:
            write_run(cache, name, rows)
    page = open_page(write_report(url, tmp_path / "r.html", "--run", names[0]))
    expect(page.locator("#view h1")).to_have_text(names[0])
    page.evaluate("document.querySelectorAll('#view .opener').forEach((it) => it.click())")
    page.evaluate("location.hash = addressOfRun(runRows[3])")
    expect(page.locator("#view h1")).to_have_text(str(page.evaluate("runRows[3].name")))
    page.locator("#view").get_by_label("Rows").select_option("path")
    page.get_by_role("application").press("ArrowRight")
    assert page.evaluate("window.ran") is None
    made = "img, iframe, object, embed, base, link, a[href^=javascript], main script, main style"
    assert page.locator(made).count() == 0
    shown = page.evaluate("[...document.querySelectorAll('.groups .name')].map(n => n.textContent)")
    assert {bad for bad in HOSTILE[:-1] if len(bad) < 200} <= set(shown)
    listed = page.evaluate("[...document.querySelectorAll('.run-name')].map(n => n.textContent)")
    assert set(listed) <= set(names)


def test_names_that_cannot_be_seen_are_spelt_out(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    put(url, *chat("a", "b"))
    with Cache.from_url(url) as cache:
        write_run(cache, "a\u202eb", [ended("", "bypassed", lane="x\u2066y", reason="\ufeffz")])
    page = open_page(write_report(url, tmp_path / "r.html"))
    assert page.locator(".run-name").inner_text() == "aU+202Eb"
    page.locator(".run-name").click()
    expect(page.locator("#view h1")).to_have_text("aU+202Eb")
    assert "xU+2066y" in page.locator(".calls tbody").inner_text()
    assert "U+FEFFz" in page.locator(".calls .opener").inner_text()


def test_a_hundred_thousand_calls_open(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    put(url, *chat("a", "b"))
    rows = [
        ended(
            f"{n % 500:064x}",
            "miss" if n % 50 == 0 else "hit",
            started=START + n / 1000,
            seconds=0.03 if n % 50 == 0 else 0.0004,
            lane=f"worker-{n % 32}",
        )
        for n in range(100_000)
    ]
    with Cache.from_url(url) as cache:
        write_run(cache, "sweep", rows)
    page = open_page(write_report(url, tmp_path / "r.html", "--run", "sweep"))
    expect(page.locator("#view").get_by_role("status")).to_have_text("100,000 calls, 1 to 50 shown")
    assert page.locator("#view .calls tbody tr").count() == 50
    assert page.evaluate("document.querySelectorAll('*').length") < 2500
    page.get_by_role("button", name="Misses 2,000").click()
    expect(page.locator("#view").get_by_role("status")).to_contain_text("98,000 of 100,000")
    drawing = page.evaluate(
        "new Promise((done) => { const t = performance.now();"
        " document.querySelector('[aria-label=\"Zoom in\"]').click();"
        " requestAnimationFrame(() => setTimeout(() => done(performance.now() - t))); })"
    )
    assert drawing < 5000  # milliseconds, where nobody else uses the machine it is some dozens
