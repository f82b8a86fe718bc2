"""The page of `cachewrap suggest --meaning --page`: read, ticked, and what is to be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.filling import chat, put
from playwright.sync_api import Page, expect

from browser.conftest import Opener
from browser.test_hostile import HOSTILE
from browser.test_page import CONTRASTS
from cachewrap.cli.main import main
from cachewrap.suggest import embedding

QUESTIONS = {
    "What is the capital of France?": "Paris",
    "Which city is the capital of France?": "It is Paris.",
    "Turn the light on": '{"light": "on", "since": "just now"}',
    "Turn the light off": '{"light": "off", "since": "just now"}',
    **{f"{bad} {number}": bad for number, bad in enumerate(HOSTILE)},
}
PAIRS = {(0, 1): 0.95, (2, 3): 0.9, (1, 2): 0.86} | {
    (at, at + 1): 0.8 for at in range(4, len(QUESTIONS) - 1, 2)
}
"""What the embeddings say here: which of the questions are alike, and how much."""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, for which the extra `meaning` is not needed."""
    folder = tmp_path_factory.mktemp("pairs")
    url, path = f"disk:{folder / 'c'}", folder / "pairs.html"
    order = list(QUESTIONS)
    for at, (question, answer) in enumerate(QUESTIONS.items()):
        put(url, *chat(question, answer), age=float(at))

    def alike(texts: list[str], *_: Any) -> list[tuple[int, int, float]]:
        at = {order.index(text): number for number, text in enumerate(texts)}
        return [(at[one], at[other], share) for (one, other), share in PAIRS.items()]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "model", lambda: None)
        patch.setattr(embedding, "alike", alike)
        words = ["suggest", "--meaning", "--alike", "0.8", "--page", str(path)]
        with pytest.raises(SystemExit, match=r"^0$"):
            main([*words, str(folder / "c")])
    return path


@pytest.fixture
def page(page_file: Path, open_page: Opener) -> Page:
    return open_page(page_file)


def box(page: Page, number: int) -> Any:
    return page.get_by_role("checkbox", name=f"Mean the same: pair {number}", exact=True)


def test_what_is_ticked_is_a_command(page_file: Path, open_page: Opener) -> None:
    page = open_page(page_file, permissions=["clipboard-read", "clipboard-write"])
    commands = page.get_by_role("region", name="Commands to run")
    assert page.get_by_role("checkbox", checked=True).count() == 0
    box(page, 2).focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_have_text(f"1 of {len(PAIRS)} pairs ticked")
    keys = page.locator(".pairs > li").nth(1).locator("h3 code").all_inner_texts()
    command = f"cachewrap alias add {keys[0]} {keys[1]} {page_file.parent / 'c'}"
    expect(commands).to_have_text(command)
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == command
    box(page, 1).check()
    assert len(commands.inner_text().splitlines()) == 2
    box(page, 1).uncheck()
    box(page, 2).uncheck()
    expect(commands).to_have_count(0)


def test_no_alias_leads_to_another_one(page: Page) -> None:
    box(page, 1).check()
    expect(box(page, 3)).to_be_disabled()
    expect(box(page, 3)).to_have_accessible_description(
        "One of the two is in another pair that you ticked."
    )
    expect(box(page, 2)).to_be_enabled()
    box(page, 1).uncheck()
    expect(box(page, 3)).to_be_enabled()


def test_both_answers_stand_side_by_side_and_what_differs_is_marked(page: Page) -> None:
    lights = page.locator(".pairs > li").nth(1)
    assert lights.locator("mark").all_inner_texts() == ["on", "on", "off", "off"]
    assert '"light": "on"' in lights.inner_text()
    expect(lights).to_contain_text("! may turn the meaning around: on / off")
    expect(lights).to_contain_text("answers differ")


def test_no_text_runs(page: Page) -> None:
    said = page.evaluate("[...document.querySelectorAll('.said')].map((it) => it.textContent)")
    assert {f"{bad} {number}" for number, bad in enumerate(HOSTILE[:-1])} <= set(said)
    assert page.evaluate("window.ran") is None
    assert page.locator("main :is(img, iframe, object, base, link, script, style)").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_it_is_read_in_both_themes_on_all_screens(
    page_file: Path, open_page: Opener, theme: Any, width: int
) -> None:
    size = {"width": width, "height": 740}
    page = open_page(page_file, color_scheme=theme, viewport=size, reduced_motion="reduce")
    box(page, 1).check()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CONTRASTS) == {}
