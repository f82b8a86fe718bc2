"""What a run in mode refresh tells at its end: how the answers differ from those before."""

from __future__ import annotations

import json

import pytest

from cachewrap import Cache
from cachewrap.ledger.recording import finish
from plugin.projects import ALONE, APP, NAMED, Project

pytest_plugins = ["pytester"]

SAY = """
import json

@llm_cached(version=1)
def say(prompt, **options):
    made(prompt)
    said = json.loads(open("said.json").read())
    answer = said.get(prompt, prompt.upper())
    return answer[lines().count(prompt) - 1] if isinstance(answer, list) else answer
"""
ONE = "def test_one(llm_cache):\n    say('sun'); say('rain')\n"
JUDGED = "def test_one(llm_cassette):\n    with llm_cassette('judge'):\n        say('sun')\n"
SAMPLED = "@pytest.mark.llm_cache(samples=True)\ndef test_one():\n    say('sun'); say('sun')\n"
FLAG = "--llm-cache-fail-on-change"
CASSETTE = "tests/cassettes/test_it/test_one.jsonl"


def write(project: Project, body: str, said: object) -> None:
    """Tests in which a prompt is answered in capital letters, or by what is ``said``.

    Of a list, one after the other.
    """
    (project.root / "calls.log").unlink(missing_ok=True)
    project.write("app.py", APP + SAY)
    project.write("said.json", json.dumps(said or {}))
    project.test("from cachewrap import Cache, llm_cached\n" + body)


def run(project: Project, body: str, *args: str, said: object = None, **outcomes: int) -> str:
    """A run of such tests."""
    write(project, body, said)
    return project.run(*args, fresh=False, **outcomes)


def told(out: str) -> list[str]:
    """What a run tells of its answers."""
    section = out.partition(" llm cache ")[2].splitlines()[2:]
    behind = ("unused", "failed", "=", "!")
    ends = [at for at, line in enumerate(section) if not line or line.startswith(behind)]
    return section[: ends[0]]


def refreshed(
    project: Project, body: str, *args: str, said: object = None, **outcomes: int
) -> list[str]:
    """What a run in mode refresh tells of its answers."""
    return told(run(project, body, "--llm-cache=refresh", *args, said=said, **outcomes))


TOLD = {
    "nothing": (ONE, ONE, {}, ["compared with before: 2 same in 1 cassette"]),
    "an answer": (
        ONE, ONE, {"rain": "RAIN and snow"},
        [
            "compared with before: 1 changed, 1 same in 1 cassette",
            f"{CASSETTE}: 1 changed, 1 same",
            "  tests/test_it.py::test_one: rain",
            "    'RAIN' → 'RAIN and snow'",
        ],
    ),
    "a request is new": (
        ONE, ONE + "    say('hail')\n", {},
        [
            "compared with before: 1 new, 2 same in 1 cassette",
            f"{CASSETTE}: 1 new, 2 same",
        ],
    ),
    "a request is asked no longer": (
        ONE, ONE.replace("; say('rain')", ""), {},
        [
            "compared with before: 1 no longer asked, 1 same in 1 cassette",
            f"{CASSETTE}: 1 no longer asked, 1 same",
        ],
    ),
    "a test is gone": (
        ONE + ONE.replace("one", "two"), ONE, {},
        [
            "compared with before: 2 no longer asked, 2 same in 2 cassettes",
            "tests/cassettes/test_it/test_two.jsonl: 2 no longer asked",
        ],
    ),
    "a test is new": (
        ONE, ONE + ONE.replace("one", "two"), {},
        [
            "compared with before: 2 new, 2 same in 2 cassettes",
            "tests/cassettes/test_it/test_two.jsonl: 2 new",
        ],
    ),
    "of two seeds": (
        *(["def test_one(llm_cache):\n    say('sun'); say('sun', cache_seed=7)\n"] * 2),
        {"sun": ["SUN", "FOG"]},
        [
            "compared with before: 1 changed, 1 same in 1 cassette",
            f"{CASSETTE}: 1 changed, 1 same",
            "  tests/test_it.py::test_one: sun",
            "    'SUN' → 'FOG'",
        ],
    ),
    "asked twice": (
        *(["def test_one(llm_cache):\n    say('sun'); say('sun')\n"] * 2),
        {"sun": ["FOG", "SUN"]},
        ["compared with before: 1 same in 1 cassette"],
    ),
    "by a fixture of the module": (
        *(["@pytest.fixture(scope='module')\ndef it():\n    say('sun')\n"
           "def test_one(it, llm_cache):\n    pass\n"] * 2),
        {"sun": "FOG"},
        [
            "compared with before: 1 changed in 1 cassette",
            "tests/cassettes/test_it/fixtures.jsonl: 1 changed",
            "  fixtures: sun",
            "    'SUN' → 'FOG'",
        ],
    ),
    "on a cassette that tests share": (
        *(["pytestmark = pytest.mark.llm_cache('all')\n" + ONE + ONE.replace("one", "two")] * 2),
        {"sun": ["FOG", "SUN"], "rain": ["RAIN", "HAIL"]},
        [
            "compared with before: 1 changed, 1 same in 1 cassette",
            "tests/cassettes/test_it/all.jsonl: 1 changed, 1 same",
            "  tests/test_it.py::test_two: rain",
            "    'RAIN' → 'HAIL'",
        ],
    ),
    "that another test records": (
        *(["@pytest.mark.llm_cache('a')\ndef test_one():\n    say('sun')\n"
           "@pytest.mark.llm_cache(reads='a')\ndef test_two():\n    say('sun')\n"] * 2),
        {"sun": "FOG"},
        [
            "compared with before: 1 changed in 1 cassette",
            "tests/cassettes/test_it/a.jsonl: 1 changed",
            "  tests/test_it.py::test_one: sun",
            "    'SUN' → 'FOG'",
        ],
    ),
    "in a block of its own": (
        *[JUDGED] * 2,
        {"sun": "FOG"},
        [
            "compared with before: 1 changed in 1 cassette",
            "tests/cassettes/test_it/judge.jsonl: 1 changed",
            "  tests/test_it.py::test_one: sun",
            "    'SUN' → 'FOG'",
        ],
    ),
    "of samples": (
        *[SAMPLED] * 2,
        {"sun": ["SUN", "FOG"]},
        [
            "compared with before: 1 changed, 1 same in 1 cassette",
            f"{CASSETTE}: 1 changed, 1 same",
            "  tests/test_it.py::test_one: sun",
            "    'SUN' → 'FOG'",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "said", "lines"), TOLD.values(), ids=TOLD)
def test_a_refresh_tells_what_is_not_as_it_was(
    project: Project, before: str, after: str, said: object, lines: list[str]
) -> None:
    run(project, before, passed=before.count("def test"))
    passed = after.count("def test")
    assert refreshed(project, after, FLAG, said=said, passed=passed) == lines
    assert project.status == (len(lines) > 1)


HAIL = [
    "compared with before: 1 changed, 1 same in 1 cassette",
    f"{CASSETTE}: 1 changed, 1 same",
    "  tests/test_it.py::test_one: rain",
    "    'RAIN' → 'HAIL'",
]


def test_what_was_made_anew_is_told_of_a_test_that_fails(project: Project) -> None:
    run(project, ONE)
    assert refreshed(project, ONE + "    assert 0", said={"rain": "HAIL"}, failed=1) == HAIL


def test_what_was_made_anew_is_told_of_a_run_that_is_interrupted(project: Project) -> None:
    run(project, ONE)
    stopped = "def test_two(llm_cache):\n    raise KeyboardInterrupt\n"
    write(project, ONE + stopped, {"rain": "HAIL"})
    args = (*NAMED, *ALONE, "--llm-cache=refresh", FLAG)
    result = project._pytester.runpytest_inprocess(*args, no_reraise_ctrlc=True)
    assert told(result.stdout.str()) == HAIL
    assert result.ret == pytest.ExitCode.INTERRUPTED


MANY = "def test_one(llm_cache):\n    for number in range(6):\n        say(f'{number}')\n"


def test_it_is_short_unless_more_is_asked_for(project: Project) -> None:
    run(project, MANY)
    lines = refreshed(project, MANY, said={f"{number}": "else" for number in range(6)})
    assert lines[1:3] == [f"{CASSETTE}: 6 changed", "  tests/test_it.py::test_one: 0"]
    assert lines[-2:] == ["  and 3 more", "(-v shows more of what has changed)"]
    assert len(lines) == 10
    lines = refreshed(project, MANY, "-v")
    assert len(lines) == 14
    assert lines[-2] == "  tests/test_it.py::test_one: 5"


def test_long_prompts_and_answers_are_cut_and_spelt_out(project: Project) -> None:
    body = "def test_one(llm_cache):\n    say('why\\n' * 100, system='x')\n"
    why = "why\n" * 100
    run(project, body, said={why: "a\n" * 900})
    lines = refreshed(project, body, said={why: "\x1b[31mb\n" * 900})
    assert lines[2] == f"  tests/test_it.py::test_one: {('why ' * 15).strip()} …"
    assert all(line.isprintable() and len(line) < 200 for line in lines)


def test_the_order_of_lines_does_not_matter(project: Project) -> None:
    run(project, ONE)
    cassette = project.root / CASSETTE
    head, *lines = cassette.read_text().splitlines()
    cassette.write_text("\n".join([head, *reversed(lines), ""]))
    assert refreshed(project, ONE) == ["compared with before: 2 same in 1 cassette"]


def test_an_answer_that_nobody_can_read_has_changed(project: Project) -> None:
    run(project, ONE)
    cassette = project.root / CASSETTE
    cassette.write_text(
        cassette.read_text().replace('"kind": "text", "answer": "RAIN"', '"kind": 1')
    )
    lines = refreshed(project, ONE)
    assert lines[:3] == [
        "compared with before: 1 changed, 1 same in 1 cassette",
        f"{CASSETTE}: 1 changed, 1 same",
        "  tests/test_it.py::test_one: rain",
    ]
    assert "the old answer cannot be read" in lines[3]


def test_nothing_is_shown_of_what_is_encrypted(project: Project) -> None:
    pytest.importorskip("cryptography")
    marker = f"@pytest.mark.llm_cache(encryption_key={'5' * 64!r})\n"
    run(project, marker + ONE)
    lines = refreshed(project, marker + ONE, said={"rain": "HAIL"})
    assert lines == [
        "compared with before: 1 changed, 1 same in 1 cassette",
        f"{CASSETTE}: 1 changed, 1 same",
        "  tests/test_it.py::test_one: (encrypted)",
    ]


def test_other_modes_compare_nothing(project: Project) -> None:
    run(project, ONE)
    assert "compared" not in run(project, ONE + "    say('hail')\n")


# -- the exit status ---------------------------------------------------------------------------

FAILED = "failed: answers are not as they were (--llm-cache-fail-on-change)"


def test_the_exit_status_is_left_alone_unless_it_is_asked_for(project: Project) -> None:
    run(project, ONE)
    out = run(project, ONE, "--llm-cache=refresh", said={"rain": "HAIL"})
    assert (project.status, FAILED in out) == (0, False)


def test_what_is_pruned_was_asked_no_longer(project: Project) -> None:
    run(project, ONE)
    less = ONE.replace("; say('rain')", "")
    out = run(project, less, "--llm-cache=refresh", FLAG, "--llm-cache-prune")
    assert f"{CASSETTE}: 1 no longer asked, 1 same" in out
    assert (project.status, FAILED in out) == (1, True)
    out = run(project, less, "--llm-cache=refresh", FLAG)
    assert (project.status, FAILED in out) == (0, False)


def test_a_run_that_makes_nothing_anew_cannot_fail_for_it(project: Project) -> None:
    project.test(ONE.replace("say", "ask"))
    result = project._pytester.runpytest_inprocess(*NAMED, *ALONE, FLAG, "--llm-cache=replay")
    result.stderr.fnmatch_lines(["ERROR: --llm-cache-fail-on-change * give --llm-cache=refresh*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    project.ini("llm_cache = refresh")
    project.run(FLAG)


# -- the ledger --------------------------------------------------------------------------------


def test_no_run_is_kept_beside_a_cassette(project: Project) -> None:
    run(project, ONE)
    refreshed(project, ONE)
    finish()
    assert [path.name for path in (project.root / CASSETTE).parent.iterdir()] == ["test_one.jsonl"]
    assert not (project.root / ".cache").exists()


def test_a_run_that_has_a_name_is_kept_in_the_cache_of_the_program(project: Project) -> None:
    run(project, ONE)
    project.patch.setenv("CACHEWRAP_RUN", "nightly")
    try:
        refreshed(project, ONE, said={"rain": "HAIL"})
    finally:
        finish()
    assert [path.name for path in (project.root / CASSETTE).parent.iterdir()] == ["test_one.jsonl"]
    kept = Cache.disk(cache_path_root=project.root / ".cache").runs()["nightly"]
    assert [(call.outcome, call.source) for call in kept.calls()] == [("miss", "app:say")] * 2
    assert CASSETTE in kept.calls()[0].place
    project.patch.setenv("CACHEWRAP_URL", "nothing://")
    result = project._pytester.runpytest_inprocess(*NAMED, *ALONE)
    result.stderr.fnmatch_lines(["ERROR: the run that CACHEWRAP_RUN names: *"])
