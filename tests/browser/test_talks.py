"""Conversations on the page: pictures, tools, agents folded together, links, and what is found."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from cli.filling import answer_of, chat, put, stream_of
from playwright.sync_api import Page, expect

from browser.conftest import Opener, write_report
from browser.test_page import CONTRASTS
from cachewrap import Cache
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key

PUFFIN = "a *puffin* on `a cliff`"


def png(width: int, height: int) -> bytes:
    """A picture of one colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def shown(data: bytes, kind: str = "image/png") -> dict[str, Any]:
    address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": address}}


def weather(number: int, **given: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": json.dumps(given)}
    return {"id": f"c{number}", "type": "function", "function": function}


ASKED = [
    {"role": "system", "content": "You are an agent."},
    {"role": "user", "content": "How is the weather?"},
]
FIRST = {"role": "assistant", "content": None, "tool_calls": [weather(1, city="Oslo"), weather(2)]}
GIVEN = [
    {"role": "tool", "tool_call_id": "c1", "content": '{"sky":"gr\\u00fcn"}'},
    {"role": "tool", "tool_call_id": "c2", "content": "rain"},
]
SECOND = {"role": "assistant", "content": "Oslo: **green**."}
THANKS = {"role": "user", "content": "Thanks! And tomorrow?"}
STEPS = [
    (ASKED, FIRST),
    ([*ASKED, FIRST, *GIVEN], SECOND),
    ([*ASKED, FIRST, *GIVEN, SECOND, THANKS], {"role": "assistant", "content": "Sun."}),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    url = f"disk:{folder / 'cache'}"
    for number, (messages, message) in enumerate(STEPS):
        request, _ = chat("", "")
        request["body"]["messages"] = messages
        put(url, request, answer_of({"choices": [{"message": message}]}), age=300.0 - number)
    for number in range(60):
        request, answer = chat(f"question {number}", f"answer {number}")
        put(url, request, answer, age=1000.0 + number)
    request, answer = chat("", "A `cat`.")
    pictures = [shown(png(40, 20)), shown(b"<svg onload=x>", "image/png"), shown(png(30_000, 9))]
    asked = [{"type": "text", "text": "What is this?"}, *pictures]
    request["body"]["messages"] = [{"role": "user", "content": asked}]
    put(url, request, answer, age=200)
    body = {"model": "gpt-image-1", "prompt": PUFFIN}
    request = {"method": "POST", "url": "http://up/v1/images/generations", "body": body}
    drawn = {"b64_json": base64.b64encode(png(64, 32)).decode()}
    put(url, request, answer_of({"data": [drawn, drawn]}), source="POST /images", age=100)
    events: list[tuple[float, Any]] = [
        (0.1, {"choices": [{"delta": {"reasoning_content": "Hm."}}]}),
        (0.2, {"choices": [{"delta": {"content": "# A **str"}}]}),
        (0.3, {"choices": [{"delta": {"content": "eam**"}}]}),
        (0.4, {"choices": [{"delta": {"tool_calls": [{"index": 0, **weather(9)}]}}]}),
        (
            0.5,
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}}]},
        ),
    ]
    request, _ = chat("stream it", "")
    put(url, request, stream_of(events), age=90)
    call = {"text": "Birds\nof the north", "draft": 3, "options": {"long": [1, 2]}}
    put(
        url,
        {"function": "m:outline", "arguments": call},
        "# Out\n\n- line",
        source="m:outline",
        age=80,
    )
    long = "\n\n".join(f"Paragraph {number} of **many**." for number in range(500))
    put(url, *chat("a long answer", f"{long}\n\nThe needle."), age=70)
    return write_report(url, folder / "report.html")


@pytest.fixture
def page(page_file: Path, open_page: Opener) -> Page:
    return open_page(page_file, reduced_motion="reduce")


def opened(page: Page, title: str) -> Any:
    """The conversation of the row with this title."""
    page.locator(".lines .opener", has_text=title).first.click()
    return page.locator(".below").last


def test_an_agents_requests_are_one_row(page: Page) -> None:
    assert page.get_by_role("status").inner_text().startswith("66 conversations in 68 requests")
    head = page.locator(".thread")
    assert head.count() == 1
    assert "Thanks! And tomorrow?" in head.inner_text()
    assert "3 requests" in head.inner_text()
    head.locator(".opener").click()
    steps = page.locator(".step .opener").all_inner_texts()
    assert [" ".join(step.split()) for step in steps] == [
        '1 weather({"city": "Oslo"}) weather({})',
        "2 Oslo: green.",
        "3 Sun.",
    ]
    head.locator(".opener").click()
    expect(page.locator(".step")).to_have_count(0)


def test_a_request_shows_what_is_new_in_it(page: Page) -> None:
    page.locator(".thread .opener").click()
    page.locator(".step .opener").last.click()
    roles = page.locator(".below .role")
    assert roles.all_inner_texts() == ["user", "assistant"]
    page.get_by_role("button", name="Show 6 earlier turns").click()
    assert roles.all_inner_texts() == [
        "system",
        "user",
        "assistant",
        "assistant",
        "user",
        "assistant",
    ]
    expect(roles.first).to_be_focused()


def test_a_result_stands_under_its_call(page: Page) -> None:
    page.locator(".thread .opener").click()
    page.locator(".step .opener").last.click()
    page.get_by_role("button", name="Show 6 earlier turns").click()
    calls = page.locator(".below .call")
    assert [" ".join(text.split()) for text in calls.all_inner_texts()] == [
        'called weather Copy {"city": "Oslo"} which gave Copy {"sky": "grün"}',
        "called weather which gave rain",
    ]


def test_a_result_without_its_call_names_it(page: Page) -> None:
    page.locator(".thread .opener").click()
    page.locator(".step .opener").nth(1).click()
    heads = page.locator(".below .call-head").all_inner_texts()
    assert heads == ["result of weather", "result of weather"]


def test_a_search_finds_one_request_of_an_agent(page: Page) -> None:
    page.locator("#search").fill("Sun.")
    expect(page.locator(".lines .line")).to_have_count(1)
    expect(page.locator(".lines .opener")).to_have_text("Thanks! And tomorrow?")


def test_pictures_whose_bytes_are_stored_are_shown(page: Page) -> None:
    below = opened(page, "What is this?")
    images = below.locator("img")
    assert images.count() == 1
    assert re.fullmatch(r"Picture: PNG, 40 . 20, \d+ B", images.get_attribute("alt") or "")
    assert str(images.get_attribute("src")).startswith("data:image/png;base64,iVBOR")
    assert images.evaluate("it => it.decode().then(() => it.naturalWidth)") == 40
    notes = below.locator(".said.note").all_inner_texts()
    assert [re.sub(r"\d+", "N", note) for note in notes] == ["[image_url, N bytes]"] * 2


def test_a_picture_that_was_made_is_shown(page: Page) -> None:
    below = opened(page, PUFFIN)
    assert below.locator("img").count() == 2
    assert page.evaluate("imageBlocks.length") == 2  # of three: one is there twice
    assert below.locator(".said").first.inner_text() == "a puffin on a cliff"


def test_the_text_as_it_was_stored_is_one_click_away(page: Page) -> None:
    below = opened(page, PUFFIN)
    button = below.get_by_role("button", name="As stored")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert below.locator(".said").first.inner_text() == PUFFIN
    button.click()
    assert below.locator(".said").first.inner_text() == "a puffin on a cliff"


def test_calls_are_shown_as_they_were_stored(page: Page) -> None:
    page.locator(".thread .opener").click()
    page.locator(".step .opener").first.click()
    page.get_by_role("button", name="As stored").click()
    said = page.locator(".below .said").all_inner_texts()
    assert said[-2:] == ['weather({"city": "Oslo"})', "weather({})"]


def test_a_stream_is_rendered_when_it_is_over(page: Page) -> None:
    below = opened(page, "stream it")
    assert below.locator("h4").inner_text() == "A stream"
    assert below.locator("summary").all_inner_texts() == ["Parameters", "Thinking"]
    assert below.locator(".call").inner_text().startswith("called weather")
    below.get_by_role("slider").press("Home")
    assert below.locator("h4").count() == 0
    below.get_by_role("slider").press("End")
    assert below.locator("h4").inner_text() == "A stream"


def test_the_arguments_of_a_function_stand_by_their_names(page: Page) -> None:
    below = opened(page, "Birds")
    assert below.locator(".given dt").all_inner_texts() == ["draft", "options", "text"]
    assert below.locator(".given dd").nth(2).inner_text() == "Birds\nof the north"
    assert below.locator("h4").inner_text() == "Out"


def test_code_is_copied_as_it_is_seen(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".thread .opener").click()
    page.locator(".step .opener").first.click()
    button = page.locator(".below .copy")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == '{"city": "Oslo"}'


@pytest.fixture
def without_clipboard(page_file: Path, open_page: Opener) -> Page:
    hidden = "Object.defineProperty(navigator, 'clipboard', { value: undefined });"
    return open_page(page_file, before=lambda page: page.add_init_script(hidden))


def test_code_is_copied_where_there_is_no_clipboard(without_clipboard: Page) -> None:
    page = without_clipboard
    page.evaluate(
        "document.addEventListener('copy', () => (window.copied = String(getSelection())))"
    )
    page.locator(".thread .opener").click()
    page.locator(".step .opener").first.click()
    page.locator(".below .copy").click()
    expect(page.locator(".below .copy")).to_have_text("Copied")
    assert page.locator("textarea").count() == 0


def address(page: Page) -> str:
    return str(page.evaluate("location.hash"))


def test_a_conversation_has_an_address(page: Page, page_file: Path, open_page: Opener) -> None:
    opened(page, "question 7")
    name = page.evaluate("rows.find((row) => row.says === 'question 7').key")
    assert address(page) == f"#{name}"
    page.keyboard.press("Escape")
    assert address(page) == ""


def test_the_address_opens_it(page_file: Path, page: Page, noise: Any) -> None:
    name = page.evaluate("rows.find((row) => row.says === 'question 59').key")
    link = f"{page_file.as_uri()}#{name}"
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator(".below .said").first).to_have_text("question 59")
    expect(other.locator(".lines .opener[aria-expanded=true]")).to_be_focused()
    expect(other.locator(".below")).to_be_in_viewport()
    expect(other.get_by_role("status")).to_contain_text("51 to 66 shown")
    noise.heard.clear()


def test_the_address_opens_a_request_of_an_agent(page: Page) -> None:
    name = page.evaluate("rows[threads[0][1][0]].key")
    page.locator("#search").fill("question")
    page.evaluate(f"location.hash = '{name}'")
    expect(page.locator(".step .opener").nth(1)).to_have_attribute("aria-expanded", "true")
    assert page.locator("#search").input_value() == ""


def test_back_and_forward_go_between_conversations(page: Page) -> None:
    opened(page, "question 7")
    opened(page, "question 8")
    openers = page.locator(".lines .opener[aria-expanded=true]")
    assert sorted(openers.all_inner_texts()) == ["question 7", "question 8"]
    page.go_back()
    expect(openers).to_have_text(["question 7"])
    page.go_back()
    expect(openers).to_have_count(0)
    page.go_forward()
    expect(openers).to_have_text(["question 7"])


@pytest.mark.parametrize("at", ["f" * 64, "0" * 8])
def test_an_address_of_nothing_says_so(page: Page, at: str) -> None:
    page.evaluate(f"location.hash = '{at}'")
    expect(page.locator("[aria-live]", has_text="no such conversation")).to_have_count(1)


def test_the_link_is_copied(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, permissions=["clipboard-read", "clipboard-write"])
    opened(page, "question 7").get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    name = page.evaluate("rows.find((row) => row.says === 'question 7').key")
    assert page.evaluate("navigator.clipboard.readText()") == f"{page_file.as_uri()}#{name}"


_MARKED = "[...(CSS.highlights.get('found') ?? [])].map(String)"


def test_what_was_searched_for_is_marked(page: Page) -> None:
    page.locator("#search").fill("QUESTION 7")
    expect(page.locator(".lines .line")).to_have_count(6)
    assert page.evaluate(_MARKED)[:2] == ["question", "7"]
    opened(page, "question 7")
    assert len(page.evaluate(_MARKED)) > 12
    page.locator("#search").fill("")
    expect(page.locator(".lines .line")).to_have_count(50)
    assert page.evaluate(_MARKED) == []


def test_the_first_match_is_brought_into_view(page: Page) -> None:
    page.locator("#search").fill("needle")
    expect(page.locator(".lines .line")).to_have_count(1)
    below = opened(page, "a long answer")
    expect(below.get_by_text("The needle.")).to_be_in_viewport()
    assert page.evaluate(_MARKED) == ["needle"]


def test_signs_of_patterns_are_searched_for(page: Page) -> None:
    page.locator("#search").fill('weather({"city":')
    expect(page.locator(".lines .line")).to_have_count(1)
    page.locator("#search").fill("\\ [ ( * + ? . | ^ $ { -")
    expect(page.get_by_role("status")).to_contain_text("Nothing fits")


def test_a_long_answer_is_cut_between_its_parts(page: Page) -> None:
    below = opened(page, "a long answer")
    assert below.locator(".rich p").count() < 200
    page.get_by_role("button", name=re.compile("^Show all 1")).click()
    assert below.locator(".rich p").count() == 502  # the question is one
    expect(below.locator(".rich").last).to_be_focused()


def test_arrows_lead_from_the_search_into_the_list_and_back(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("question 7")
    expect(page.locator(".lines .line")).to_have_count(6)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".lines .opener").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".below")).to_have_count(1)
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".below")).to_have_count(0)
    page.keyboard.press("ArrowUp")
    expect(page.locator("#search")).to_be_focused()


def test_a_thread_is_unfolded_by_the_keyboard(page: Page) -> None:
    head = page.locator(".thread .opener")
    head.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".step")).to_have_count(3)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".step .opener").first).to_be_focused()
    head.focus()
    page.keyboard.press("Escape")
    expect(page.locator(".step")).to_have_count(0)


@pytest.mark.parametrize("width", [1200, 800, 360])
def test_nothing_is_scrolled_sideways(page_file: Path, open_page: Opener, width: int) -> None:
    page = open_page(page_file, viewport={"width": width, "height": 740})
    page.locator(".thread .opener").click()
    for opener in page.locator(".lines .opener[aria-expanded=false]").all()[:12]:
        opener.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    figures = "[...document.querySelectorAll('.lines .number, .lines .date')]"
    assert (
        page.evaluate(f"{figures}.filter((it) => it.scrollWidth > it.clientWidth + 1).length") == 0
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_rendered_has_contrast(page_file: Path, open_page: Opener, theme: Any) -> None:
    page = open_page(page_file, color_scheme=theme, reduced_motion="reduce")
    page.locator(".thread .opener").click()
    for opener in page.locator(".lines .opener[aria-expanded=false]").all()[:10]:
        opener.click()
    page.evaluate("document.querySelectorAll('details').forEach((it) => { it.open = true; })")
    assert page.evaluate(CONTRASTS) == {}


def test_what_is_rendered_is_printed_whole(page: Page) -> None:
    page.locator(".thread .opener").click()
    page.locator(".step .opener").first.click()
    page.emulate_media(media="print")
    for name in (".copy", ".talk-tools", ".tools"):
        expect(page.locator(name).first).to_be_hidden()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.code pre')).maxHeight") == "none"
    )


def test_samples_are_numbered(tmp_path: Path, open_page: Opener) -> None:
    url = f"jsonl:{tmp_path / 'c.jsonl'}"
    name = put(url, *chat("same", "the first"), age=9.0)
    put(url, *chat("same", "the third"), under=key.sample_key(name, 2))
    page = open_page(write_report(url, tmp_path / "r.html"))
    assert page.locator(".lines .tag").all_inner_texts() == ["sample 2"]
    page.locator(".lines .opener").first.click()
    assert "Sample\n2" in page.locator(".facts").inner_text()


def test_the_same_key_in_two_seeds_has_two_addresses(tmp_path: Path, open_page: Opener) -> None:
    url = f"disk:{tmp_path / 'c'}"
    for seed in ("1", "2 x"):
        request, answer = chat("same", f"of {seed}")
        asked = key.encode(request)
        raw = seal(*codec.encode(answer), asked, Facts(1e9, 0.1))
        with Cache.disk(seed, tmp_path / "c") as cache:
            cache.store.set(key.key_of(key.salted(), asked), raw)
    page = open_page(write_report(url, tmp_path / "r.html", "--all-seeds"))
    page.evaluate("location.hash = addressOf(rows.find((row) => row.seed === '2 x'))")
    expect(page.locator(".below .said").last).to_have_text("of 2 x")
