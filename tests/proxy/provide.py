"""Install the Node SDKs for these tests: python tests/proxy/provide.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

NAMED = "CACHEWRAP_TEST_NODE"
LISTED = Path(__file__).parent / "node"
SDKS = ("openai", "@anthropic-ai/sdk")
LACKING = f"there is no Node with the SDKs: run tests/proxy/provide.py (folder: {NAMED})"


def folder() -> Path:
    """Where they are installed: beside their list, where no other place is named."""
    return Path(os.environ.get(NAMED) or LISTED)


def find() -> Path | None:
    """The folder of the modules, or None where Node or an SDK is missing."""
    modules = folder() / "node_modules"
    there = shutil.which("node") and all((modules / name).is_dir() for name in SDKS)
    return modules if there else None


def provide() -> str:
    """Install what is listed, unless it is there: in a word, what became of it."""
    place, lock = folder(), (LISTED / "package-lock.json").read_bytes()
    done = place / "node_modules" / ".listed"
    if find() and done.exists() and done.read_bytes() == lock:
        return "there already"
    npm = shutil.which("npm")
    if npm is None or not shutil.which("node"):
        return f"no Node here: its tests are skipped ({LACKING})"
    place.mkdir(parents=True, exist_ok=True)
    if place != LISTED:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(LISTED / name, place / name)
    status = subprocess.run([npm, "ci", "--ignore-scripts"], cwd=place).returncode
    if status:
        return f"npm ended with status {status}: its tests are skipped ({LACKING})"
    done.write_bytes(lock)
    return f"installed in {place}"


if __name__ == "__main__":
    print(f"Node SDKs: {provide()}")
