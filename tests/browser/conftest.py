"""A browser for the whole run, and pages in it that must stay silent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser.provide import find

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"]

Opener = Callable[..., "Page"]

# Other environments, which have no Playwright, collect these tests as well.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    path = find()
    assert path is not None, "run tests/browser/provide.py first"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Noise:
    """What a page must not do: speak to a network, open dialogs, report errors."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def listen(self, page: Page, path: Path) -> None:
        """Note everything that the page does beside being loaded."""
        page.on("console", lambda message: self.heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.heard.append("dialog"), dialog.dismiss()))
        page.on("popup", lambda _: self.heard.append("popup"))
        page.on("download", lambda _: self.heard.append("download"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url == path.as_uri()
                else self.heard.append(f"request: {request.url[:200]}")
            ),
        )


@pytest.fixture
def noise() -> Noise:
    """What the pages of this test did that they must not do."""
    return Noise()


@pytest.fixture
def open_page(chromium: Browser, noise: Noise) -> Iterator[Opener]:
    """Opens a page in a context of its own; at the end none may have made a noise."""
    contexts = []

    def open_it(path: Path, *, before: Callable[[Page], Any] | None = None, **options: Any) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        noise.listen(page, path)
        if before is not None:
            before(page)
        page.goto(path.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert noise.heard == []


def write_report(url: str, path: Path, *options: str) -> Path:
    """Write the page of a cache, as the command does."""
    command = [sys.executable, "-m", "cachewrap", "report", "--url", url, "-o", str(path)]
    subprocess.run([*command, *options], check=True, timeout=120, capture_output=True)
    return path
