"""Ten thousand conversations stay usable: bounded by the work they cost, not by a clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser.conftest import Opener, write_report
from cachewrap import Cache
from cachewrap.entry import Facts
from cachewrap.format import codec
from cachewrap.format.envelope import seal
from cachewrap.request import key

MANY = 10_000


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    url = f"jsonl:{folder / 'cache.jsonl'}"
    store = Cache.from_url(url).store
    for i in range(MANY + 500):
        request = key.encode({"function": "m:f", "arguments": {"text": f"prompt {i} {'x' * 300}"}})
        facts = Facts(1e9 + 60 * i, 0.5 + i % 7, 0.0, "m:f", f"model-{i % 40}", 10, 5)
        raw = seal(*codec.encode(f"answer {i} {'y' * 600}"), request, facts)
        store.set(key.key_of(key.salted("41"), request), raw)
    store.close()
    return write_report(url, folder / "report.html")


_COUNT = "window.parsed = 0; const parse = JSON.parse;"
_COUNT += " JSON.parse = (...given) => { window.parsed++; return parse(...given); };"


@pytest.fixture
def page(page_file: Path, open_page: Opener) -> Page:
    """The page once it has made the texts that it searches in."""
    page = open_page(page_file, before=lambda page: page.add_init_script(_COUNT))
    for _ in range(1000):
        if page.evaluate("rows.every((row) => row.text !== undefined)"):
            return page
        page.wait_for_timeout(50)
    raise AssertionError("the texts to search in were not made within 50 seconds")


def elements(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def test_a_slice_of_the_table_is_in_the_document(page: Page) -> None:
    assert page.locator(".lines .line").count() == 50
    assert elements(page) < 2500
    expect(page.get_by_role("status")).to_contain_text("10,0")


def test_the_page_says_what_is_left_out(page: Page) -> None:
    notice = page.locator("section > .notice").inner_text()
    assert "The figures count all 10,500 answers; here are the 10,0" in notice


def test_a_search_reads_no_conversation_again(page: Page) -> None:
    before = page.evaluate("window.parsed"), elements(page)
    for words, found in (
        ("prompt 10499", 1),
        ("answer 77", 100),
        ("nothing of this", 0),
        ("x", 50),
    ):
        page.locator("#search").fill(words)
        expect(page.locator(".lines .line")).to_have_count(min(50, found))
    assert page.evaluate("window.parsed") == before[0]
    assert elements(page) <= before[1]


def test_opening_reads_one_block(page: Page) -> None:
    before = page.evaluate("window.parsed")
    page.locator(".lines .opener").nth(5).click()
    expect(page.locator(".below .said").last).to_contain_text("answer ")
    assert page.evaluate("window.parsed") == before + 1


def test_searching_pauses_for_the_reader(page: Page) -> None:
    # However long a search takes, a key that is pressed meanwhile starts the next one.
    page.evaluate(
        "const f = document.getElementById('search'); for (const q of ['a', 'x', 'zzz'])"
        " { f.value = q; f.dispatchEvent(new Event('input')); }"
    )
    expect(page.get_by_role("status")).to_contain_text("Nothing fits")
