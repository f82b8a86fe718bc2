"""``cachewrap run --same`` and ``serve --same``: rules of equality for whole programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.same import ignore
from cachewrap.same.applied import check_rules
from cli.filling import CommandLine
from cli.test_running import Run, run, start, up
from cli.test_unkeyed import ASKING

__all__ = ["run", "start", "up"]


@pytest.fixture(autouse=True)
def asking(start: Run, tmp_path: Path) -> None:
    (tmp_path / "tracked.py").write_text(ASKING)
    (tmp_path / "rules.toml").write_text("[[rule]]\nignore = 'user'\n")


CODE = "from tracked import ask; ask(3, user=str)"


def test_a_run_and_its_sub_processes_have_the_rules_of_a_file(
    run: Run, up: Upstream, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "program.py").write_text(
        "import os, subprocess, sys\n"
        "os.environ['PYTHONPATH'] += os.pathsep + os.getcwd()\n"
        f"code = {CODE!r}\n"
        "subprocess.run([sys.executable, '-c', code], check=True, cwd='elsewhere')\n"
    )
    run("--same", "rules.toml", "program.py")
    told = run("--url", "disk:.cache?same=rules.toml", "program.py").stderr
    assert "3 of 3 calls answered" in told
    assert up.calls == 3
    run("-c", CODE)  # exact ones see none of these
    assert up.calls == 6


def test_a_file_that_is_none_is_told_before_anything_runs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[[rule]]\nignor = 'user'\n")
    for name, says in (
        ("none.toml", "there is no such file"),
        ("bad.toml", "did you mean ignore?"),
    ):
        done = run("--same", name, "-c", "print('ran')")
        assert done.returncode
        assert says in done.stderr
        assert "ran" not in done.stdout


def test_the_environment_has_the_whole_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = CommandLine(capsys)("env", "--same", str(tmp_path / "rules.toml")).out
    (url,) = re.findall("CACHEWRAP_URL='?([^'\n]*)", told)
    assert Cache.from_url(url).policy.same == check_rules(ignore("user"))
