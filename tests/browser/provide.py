"""Find a browser for these tests, or install one: python tests/browser/provide.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMED = "CACHEWRAP_TEST_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-dejavu-core")
HELP = (
    f"There is no Chromium for the browser tests: install one on PATH, or name it in {NAMED}."
    " As root on Debian it is installed by apt-get, elsewhere by Playwright; neither worked here."
)


def find() -> str | None:
    """The path of a browser, or None. Exits where the one that is named is not there."""
    if named := os.environ.get(NAMED):
        return shutil.which(named) or sys.exit(f"{NAMED} names {named!r}, which cannot be run")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or _downloaded()


def _downloaded() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def provide() -> str:
    """The path of a browser, which is installed where there is none. Exits where that fails."""
    if (found := find()) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES)
    if find() is None:
        _run(sys.executable, "-m", "playwright", "install", "--with-deps", "chromium")
    return find() or sys.exit(HELP)


def _run(*command: str) -> None:
    """Run a command; whether it helped is seen by whether there is a browser then."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    status = subprocess.run(command, env=environment, stdout=sys.stderr).returncode
    if status:
        print(f"{' '.join(command)}: status {status}", file=sys.stderr)


if __name__ == "__main__":
    print(provide())
