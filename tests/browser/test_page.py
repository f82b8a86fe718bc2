"""What the page offers: figures, search, filters, keys, replays, themes, narrow screens."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from cli.filling import DAY, answer_of, chat, put, stream_of
from playwright.sync_api import Page, expect

from browser.conftest import Opener, write_report
from cachewrap import Cache
from cachewrap.cli import report as report_command
from cachewrap.cli.main import main
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal

PIECES = [(0.5, "one "), (1.5, "two "), (3.0, "three")]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 60 conversations: chats, a function's calls, one stream, one without its request."""
    folder = tmp_path_factory.mktemp("page")
    url = f"disk:{folder / 'cache'}"
    for i in range(50):
        request, answer = chat(f"question {i}", f"answer {i} zebra{i}")
        put(url, request, answer, model="gpt-4o", age=DAY * i / 10 + 60, tokens=(1000 + i, 10))
    for i in range(8):
        call = {"function": "agents.plan:summarise", "arguments": {"text": f"story {i}"}}
        source = "agents.plan:summarise"
        put(url, call, f"short {i}", source=source, age=DAY * 3, seconds=20.0 + i)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "count"}]}
    request = {"method": "POST", "url": "http://up/v1/chat/completions", "body": body}
    events = [(at, {"choices": [{"delta": {"content": text}}]}) for at, text in PIECES]
    put(url, request, stream_of(events), model="gpt-4o-mini", seconds=3.0)
    request, answer = chat("x" * 3000, "y" * 3000, model="m" * 300)
    put(url, request, answer, model="m" * 300, age=DAY * 9, keep_request=False)
    return write_report(url, folder / "report.html", "--title", "The title")


@pytest.fixture
def page(page_file: Path, open_page: Opener) -> Page:
    return open_page(page_file)


def status(page: Page) -> str:
    return page.get_by_role("status").inner_text()


def prompts(page: Page) -> list[str]:
    return page.locator(".lines .opener").all_inner_texts()


def test_the_figures(page: Page) -> None:
    assert page.locator(".figure .value").first.inner_text() == "60"
    assert page.locator("h1").inner_text() == page.title() == "The title"
    assert "52 " not in page.locator("#models + table").inner_text()
    first = page.locator("#models + table tbody tr").first
    assert first.inner_text().split()[:2] == ["gpt-4o", "50"]
    sources = page.locator("#sources + table tbody th").all_inner_texts()
    assert sources == ["POST /chat/completions", "agents.plan:summarise"]


def test_the_timeline_has_a_text_and_a_table(page: Page) -> None:
    chart = page.get_by_role("img", name=re.compile("^Answers stored per .*; the most "))
    expect(chart).to_be_visible()
    assert page.locator(".canvas .bar").count() > 5
    page.get_by_text("As a table").click()
    counts = page.locator("details td").all_inner_texts()
    assert sum(map(int, counts)) == 60


def test_the_page_says_what_the_timeline_is(page: Page) -> None:
    about = page.locator("#timeline + .about").inner_text()
    assert "Each was a miss" in about
    assert "is told by runs, and none was kept here." in about


def test_the_slowest_opens_in_place(page: Page) -> None:
    slowest = page.locator("#slowest + ol li").first
    assert "27.0 s" in slowest.inner_text()
    slowest.get_by_role("button").click()
    expect(slowest.get_by_role("region", name="Conversation")).to_contain_text("short 7")


SEARCHES = [
    ("a word of an answer", "zebra17", 1),
    ("in any case", "ZEBRA17", 1),
    ("words in any order", "zebra17 question", 1),
    ("of a prompt", "story", 8),
    ("of a stream, across its pieces", "two three", 1),
    ("a model", "gpt-4o-mini", 1),
    ("digits that keys have, too", "story 3", 1),
    ("nothing", "no such words", 0),
]


@pytest.mark.parametrize(
    ("words", "found"), [s[1:] for s in SEARCHES], ids=[s[0] for s in SEARCHES]
)
def test_search(page: Page, words: str, found: int) -> None:
    page.locator("#search").fill(words)
    expect(page.locator(".lines .opener")).to_have_count(found)
    assert status(page).startswith(f"{found} of 60" if found else "Nothing fits")


def test_search_finds_a_key(page: Page) -> None:
    key = page.evaluate("rows[7].key.slice(0, 12)")
    page.locator("#search").fill(key)
    expect(page.locator(".lines .opener")).to_have_count(1)


FILTERS = [
    ("Model", "gpt-4o-mini", 1),
    ("Function", "agents.plan:summarise", 8),
    ("Kind of answer", "Streams", 1),
]


@pytest.mark.parametrize(("name", "value", "found"), FILTERS)
def test_filters(page: Page, name: str, value: str, found: int) -> None:
    page.get_by_label(name, exact=True).select_option(value)
    expect(page.locator(".lines .opener")).to_have_count(found)


def test_filters_and_search_go_together(page: Page) -> None:
    page.get_by_label("Function", exact=True).select_option("agents.plan:summarise")
    page.locator("#search").fill("story 3")
    expect(page.locator(".lines .opener")).to_have_count(1)


ORDERS = [
    ("Newest first", "count"),
    ("Slowest first", "story 7"),
    ("Oldest first", "→ " + "y" * 158),
]


@pytest.mark.parametrize(("order", "first"), ORDERS)
def test_orders(page: Page, order: str, first: str) -> None:
    page.get_by_label("Order", exact=True).select_option(order)
    expect(page.locator(".lines .opener").first).to_have_text(first)


def test_the_table_is_turned_page_by_page(page: Page) -> None:
    assert (len(prompts(page)), status(page)) == (50, "60 conversations, 1 to 50 shown")
    page.get_by_role("button", name="Next").click()
    assert (len(prompts(page)), status(page)) == (10, "60 conversations, 51 to 60 shown")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    expect(page.get_by_role("button", name="Previous")).to_be_focused()


def test_a_conversation_opens_in_place_and_closes(page: Page) -> None:
    button = page.locator(".lines .opener", has_text="question 7")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    below = page.locator(".below")
    assert below.locator(".role").all_inner_texts() == ["user", "assistant"]
    assert below.locator(".said").all_inner_texts() == ["question 7", "answer 7 zebra7"]
    assert below.get_attribute("id") == button.get_attribute("aria-controls")
    button.click()
    expect(below).to_have_count(0)


def test_a_click_anywhere_in_a_row_opens_it(page: Page) -> None:
    page.locator(".lines .line .date").nth(3).click()
    expect(page.locator(".below")).to_have_count(1)


def test_an_entry_without_its_request_says_so(page: Page) -> None:
    page.get_by_label("Order", exact=True).select_option("Oldest first")
    page.locator(".lines .opener").first.click()
    expect(page.locator(".below")).to_contain_text("The request was left out")


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the conversations")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#conversations")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("zebra1")
    expect(page.locator(".lines .opener")).to_have_count(11)
    for _ in range(5):
        page.keyboard.press("Tab")
    openers = page.locator(".lines .opener")
    expect(openers.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(openers.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".below")).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="As stored")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".below")).to_have_count(0)
    expect(openers.nth(1)).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert (page.locator("#search").input_value(), status(page)[:2]) == ("", "60")


def test_a_slash_in_the_search_is_a_slash(page: Page) -> None:
    page.locator("#search").press("/")
    page.locator("#search").press("/")
    assert page.locator("#search").input_value() == "//"


def test_what_has_the_focus_is_seen(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    seen = 0
    for _ in range(12):
        page.keyboard.press("Tab")
        name, width = page.evaluate(
            "(() => { const it = document.activeElement; const s = getComputedStyle(it);"
            " return [it.tagName, s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth)]; })()"
        )
        assert (name, width) == (name, 2)
        seen += name == "BUTTON"
    assert seen > 3


@pytest.fixture
def stream(page_file: Path, open_page: Opener) -> Page:
    """The stream, opened, in a page whose clock this test turns."""
    page = open_page(page_file, before=lambda page: page.clock.install(time=1_800_000_000))
    page.clock.run_for(100)
    page.get_by_label("Kind of answer").select_option("Streams")
    page.clock.run_for(100)
    page.locator(".lines .opener").first.click()
    expect(page.locator(".below .said").last).to_have_text("one two three")
    page.clock.pause_at(1_800_000_100)
    return page


def said(page: Page) -> str:
    return page.locator(".below .said").last.text_content() or ""


def test_a_stream_is_replayed_at_its_recorded_pace(stream: Page) -> None:
    stream.get_by_role("button", name="Replay").click()
    heard = []
    for _ in range(35):
        stream.clock.run_for(100)
        heard.append(said(stream))
    firsts = [heard.index(text) * 0.1 + 0.1 for text in ("one ", "one two ", "one two three")]
    for first, (delay, _) in zip(firsts, PIECES, strict=True):
        assert delay <= first <= delay + 0.15
    expect(stream.get_by_role("button", name="Replay")).to_be_visible()


def test_a_replay_is_paused(stream: Page) -> None:
    stream.get_by_role("button", name="Replay").click()
    stream.clock.run_for(1000)
    stream.get_by_role("button", name="Pause").click()
    stream.clock.run_for(10_000)
    assert said(stream) == "one "
    stream.get_by_role("button", name="Play").click()
    stream.clock.run_for(1000)
    assert said(stream) == "one two "


def test_a_replay_is_sped_up(stream: Page) -> None:
    stream.get_by_label("Speed").select_option("4")
    stream.get_by_role("button", name="Replay").click()
    stream.clock.run_for(500)
    assert said(stream) == "one two "


def test_a_replay_is_moved_by_the_keyboard(stream: Page) -> None:
    slider = stream.get_by_role("slider", name="Position in the stream")
    slider.press("Home")
    assert (said(stream), slider.get_attribute("aria-valuetext")) == ("", "0.0 of 3.0 seconds")
    slider.press("End")
    assert said(stream) == "one two three"


def test_a_replay_that_is_closed_ends(stream: Page) -> None:
    stream.get_by_role("button", name="Replay").click()
    stream.clock.run_for(100)
    stream.keyboard.press("Escape")
    stream.clock.run_for(10_000)
    expect(stream.locator(".below")).to_have_count(0)


CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let it = node; it; it = it.parentElement) {
      const found = rgb(getComputedStyle(it).backgroundColor);
      if (found[3] === 255) return found;
    }
  };
  const found = {};
  for (const node of document.querySelectorAll('body *')) {
    const text = [...node.childNodes].some((it) => it.nodeType === 3 && it.data.trim());
    if (!text || !node.checkVisibility() || node.matches('script, :disabled, noscript')) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(rgb(node.namespaceURI.includes('svg') ? style.fill : style.color)),
      light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found[`${node.tagName}.${node.className.baseVal ?? node.className}`] = ratio;
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_contrast(page_file: Path, open_page: Opener, theme: Any) -> None:
    page = open_page(page_file, color_scheme=theme, reduced_motion="reduce")
    page.get_by_label("Kind of answer").select_option("Streams")
    page.locator(".lines .opener").first.click()
    page.get_by_text("Parameters").click()
    page.get_by_text("As a table").click()
    assert page.evaluate(CONTRASTS) == {}


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_follows_the_system_and_the_button(page_file: Path, open_page: Opener) -> None:
    light = open_page(page_file, color_scheme="light")
    dark = open_page(page_file, color_scheme="dark")
    colours = background(light), background(dark)
    assert colours[0] != colours[1]
    light.get_by_role("button", name="Dark theme").click()
    dark.get_by_role("button", name="Light theme").click()
    assert (background(light), background(dark)) == (colours[1], colours[0])


def test_a_narrow_screen_is_not_scrolled_sideways(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, viewport={"width": 360, "height": 740})
    page.get_by_label("Order", exact=True).select_option("Oldest first")
    for number in (0, 9, 20):
        page.locator(".lines .opener").nth(number).click()
    page.locator("#slowest + ol .opener").first.click()
    page.get_by_label("Kind of answer").select_option("Streams")
    page.locator(".lines .opener").first.click()
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    widths = page.evaluate(
        "[...document.querySelectorAll('.prompt, .below .said')].map((it) => it.clientWidth)"
    )
    assert min(widths) > 280
    wide = "[...document.querySelectorAll('body *')].filter((it) => it.checkVisibility()"
    wide += " && !it.closest('.hidden, .skip') && it.getBoundingClientRect().right > 360.5)"
    assert page.evaluate(f"{wide}.map((it) => it.tagName + '.' + it.className)") == []


def test_motion_is_reduced_where_that_is_asked(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, reduced_motion="reduce")
    page.evaluate("document.querySelector('.lead').classList.add('playing')")
    moving = page.evaluate(
        "[getComputedStyle(document.querySelector('.lead'), '::after').animationName,"
        " getComputedStyle(document.documentElement).scrollBehavior,"
        " getComputedStyle(document.querySelector('button')).transitionDuration]"
    )
    assert moving == ["none", "auto", "0s"]


def test_everything_has_a_name(page: Page) -> None:
    page.locator(".lines .opener").first.click()
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, a')].filter((it) =>"
        " !(it.getAttribute('aria-label') || it.textContent.trim())).map((it) => it.outerHTML)"
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((it) => it.id)")
    assert len(ids) == len(set(ids))
    for name in ("aria-controls", "aria-labelledby"):
        named = page.evaluate(
            f"[...document.querySelectorAll('[{name}]')].map((it) => it.getAttribute('{name}'))"
        )
        assert set(named) <= set(ids)
    loose = page.locator("th:not([scope])").count(), page.locator("svg:not([aria-hidden])").count()
    assert loose == (0, 0)


def test_headings_make_an_outline(page: Page) -> None:
    page.locator(".lines .opener").first.click()
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((it) => +it.tagName[1])")
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    landmarks = page.locator("main").count(), page.locator("[role=search]").count()
    assert (landmarks, page.evaluate("document.documentElement.lang")) == ((1, 1), "en")


def test_numbers_only(tmp_path: Path, open_page: Opener) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    put(url, *chat("a secret", "kept"), model="gpt-4o", seconds=3.0)
    page = open_page(write_report(url, tmp_path / "r.html", "--no-content"))
    text = page.locator("body").inner_text()
    assert "a secret" not in text
    assert "This page holds numbers only" in text
    assert "3.00 s" in page.locator("#slowest + ol").inner_text()
    assert page.locator("#search, .opener").count() == 0


def test_what_cannot_be_shown_says_why(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    raw = seal(*codec.encode("x"), b"\xc1", Facts(1e9, 0.1))
    Cache.from_url(url).store.set("a" * 64, raw)
    Cache.from_url(url).store.set("b" * 64, b"no entry")
    page = open_page(write_report(url, tmp_path / "r.html"))
    expect(page.locator(".heading .notice")).to_contain_text("1 entry could not be read")
    page.locator(".lines .opener").click()
    expect(page.get_by_role("alert")).to_contain_text("its request cannot be read")


def test_a_conversation_that_was_left_out_says_so(
    tmp_path: Path, open_page: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, path = f"jsonl:{tmp_path / 'c.jsonl'}", tmp_path / "r.html"
    key = put(url, *chat("a", "b"))
    monkeypatch.setattr(report_command, "PAGE_BYTES", 0)
    with pytest.raises(SystemExit):
        main(["report", "--url", url, "-o", str(path)])
    page = open_page(path)
    assert "Of 1 of them only the numbers are here" in page.locator("main").inner_text()
    page.locator(".lines .opener").click()
    expect(page.locator(".below .notice")).to_contain_text(f"cachewrap show {key[:12]}")


def test_a_call_of_a_tool_stands_apart(tmp_path: Path, open_page: Opener) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    request, _ = chat("", "")
    said = {"role": "assistant", "content": "I look.", "tool_calls": [call]}
    request["body"]["messages"] = [said, {"role": "tool", "content": "rain"}]
    put(url, request, answer_of({"choices": [{"message": {**said, "content": None}}]}))
    page = open_page(write_report(url, tmp_path / "r.html"))
    page.locator(".lines .opener").click()
    assert page.locator(".below .role").all_inner_texts() == ["assistant", "tool", "assistant"]
    assert page.locator(".below .call").all_inner_texts() == ["called weather"] * 2
    assert page.locator(".below .said").all_inner_texts() == ["I look.", "rain"]
    page.locator("#search").fill("weather({})")
    expect(page.locator(".lines .opener")).to_have_count(1)


def test_what_is_no_image_is_a_note(tmp_path: Path, open_page: Opener) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    said = [{"type": "text", "text": "what is this?"}, picture]
    request, answer = chat("", "a cat")
    request["body"]["messages"] = [{"role": "user", "content": said}]
    put(url, request, answer)
    page = open_page(write_report(url, tmp_path / "r.html"))
    page.locator(".lines .opener").click()
    said_shown = page.locator(".below .said").all_inner_texts()
    assert said_shown[0] == "what is this?"
    assert re.fullmatch(r"\[image_url, \d+ bytes\]", said_shown[1])
    assert page.locator("img").count() == 0


def test_an_empty_cache(tmp_path: Path, open_page: Opener) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    put(url, *chat("a", "b"))
    page = open_page(write_report(url, tmp_path / "r.html", "--model", "none"))
    assert "No entry fits the filters." in page.locator("main").inner_text()
    assert "--model none" in page.locator("main").inner_text()
