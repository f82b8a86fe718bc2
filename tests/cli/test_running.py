"""`cachewrap run`, end to end: the program is cached, and otherwise what it was."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from standin import Upstream

from cachewrap import Cache
from cachewrap.errors import ConfigurationError, StoreError
from cachewrap.stores.base import Seeds

ASKING = """
import os, sys, openai

def ask(prompt):
    client = openai.OpenAI(base_url=os.environ["UP"], api_key="none", max_retries=0)
    said = [{"role": "user", "content": prompt}]
    return client.chat.completions.create(model="gpt-4o", messages=said).choices[0].message.content
"""

EVERYWHERE = """
import multiprocessing, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from asking import ask

if __name__ == "__main__":
    print(ask("main"))
    thread = threading.Thread(target=ask, args=("thread",))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        print(pool.submit(ask, "pool").result())
    for manner in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(manner)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            print(pool.submit(ask, manner).result())
    subprocess.run([sys.executable, "-c", "from asking import ask; ask('child')"], check=True)
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def starting(folder: Path, up: Upstream) -> Run:
    """Runs a command in a folder, with the stand-in as its upstream."""
    (folder / "asking.py").write_text(ASKING)
    # tox sets PYTHONSAFEPATH, and then a program does not find the modules beside it.
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CACHEWRAP_") and name != "PYTHONSAFEPATH"
    }

    def start(*words: str, **given: str) -> subprocess.CompletedProcess[str]:
        stdin = given.pop("stdin", "")
        return subprocess.run(
            words,
            cwd=folder,
            env={**clean, "UP": up.base_url, **given},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return start


def running(start: Run) -> Run:
    """`cachewrap run` where a command is started."""

    def run(*words: str, **given: str) -> subprocess.CompletedProcess[str]:
        return start(sys.executable, "-m", "cachewrap", "run", *words, **given)

    return run


@pytest.fixture
def start(tmp_path: Path, up: Upstream) -> Run:
    """Runs a command in the test's own folder, with the stand-in as its upstream."""
    return starting(tmp_path, up)


@pytest.fixture
def run(start: Run) -> Run:
    """`cachewrap run` in the test's own folder."""
    return running(start)


@dataclass
class Twice:
    """A program that calls from every corner, run twice.

    Args:
        runs: what each run said.
        calls: how many calls had reached upstream after each run.
        folder: where.
    """

    runs: list[subprocess.CompletedProcess[str]]
    calls: list[int]
    folder: Path


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Twice:
    folder = tmp_path_factory.mktemp("everywhere")
    (folder / "program.py").write_text(EVERYWHERE)
    runs, calls = [], []
    with Upstream() as up:
        run = running(starting(folder, up))
        for _ in range(2):
            runs.append(run("--name", "everywhere", "program.py"))
            calls.append(up.calls)
    return Twice(runs, calls, folder)


def test_every_corner_of_a_program_is_cached(everywhere: Twice) -> None:
    first, again = everywhere.runs
    assert (first.returncode, again.returncode, everywhere.calls) == (0, 0, [7, 7])
    assert first.stderr.startswith("cachewrap: 0 of 7 calls answered from disk://")
    assert again.stdout == first.stdout
    assert again.stderr.startswith("cachewrap: 7 of 7 calls answered from disk://")
    assert again.stderr.splitlines()[1:] == [
        "cachewrap: run everywhere: cachewrap runs show everywhere"
    ]


def test_a_run_is_kept_by_every_process(everywhere: Twice) -> None:
    runs = Cache.disk(41, everywhere.folder / ".cache").runs()
    counted = [Counter(call.outcome for call in run.calls()) for run in runs]
    assert [run.name for run in runs] == ["everywhere"] * 2
    assert counted == [{"miss": 7}, {"hit": 7}]
    assert [len({begin.family for begin in run.processes}) for run in runs] == [1, 1]


MASTERS = {
    "subprocess": "subprocess.run([sys.executable, '-c', CALL], check=True)",
    "fork": "os.fork() or (exec(CALL), sys.exit()); os.wait()",  # as gunicorn's workers begin
}


@pytest.mark.parametrize("work", MASTERS.values(), ids=MASTERS)
def test_one_that_leaves_the_calls_to_others_tells_of_them(
    run: Run, up: Upstream, tmp_path: Path, work: str
) -> None:
    call = "CALL = \"from asking import ask; ask('a worker')\""
    (tmp_path / "program.py").write_text(f"import os, subprocess, sys\n{call}\n{work}\n")
    done = [run("program.py").stderr for _ in range(2)]
    assert [line.partition(" answered")[0] for line in done] == [
        "cachewrap: 0 of 1 call",
        "cachewrap: 1 of 1 call",
    ]
    assert up.calls == 1


@pytest.mark.stores("redis")
def test_on_redis(run: Run, up: Upstream, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("from asking import ask\nprint(ask('on redis'))")
    for _ in range(2):
        done = run("--redis", redis_url, "--seed", tmp_path.name, "program.py")
        assert done.returncode == 0
    assert "1 of 1 call answered from redis://" in done.stderr
    assert up.calls == 1
    Cache.redis(tmp_path.name, redis_url).clear()


@pytest.mark.stores("redis")
def test_no_password_is_told_of_a_cache_that_others_used(
    run: Run, redis_url: str, tmp_path: Path
) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    url = redis_url.replace("://", "://default:sesame@", 1)
    ask = "import asking; asking.ask('x')"
    done = run("--redis", url, "--seed", tmp_path.name, "-c", code, ask)
    assert ("of 1 call answered from redis://" in done.stderr, "sesame" in done.stderr) == (
        True,
        False,
    )
    Cache.redis(tmp_path.name, redis_url).clear()


DEEDS = {
    "exit status and outputs": """
import signal, sys
print(sys.argv, __name__, __file__, sys.path, sys.flags, 'openai' in sys.modules)
print(sys.stdin.read()[::-1], [signal.getsignal(s) for s in signal.Signals])
sys.exit('it failed')
""",
    "traceback": "def f():\n    raise ValueError('wrong')\nf()",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "at once": "import os; os._exit(3)",
}


@pytest.mark.parametrize("code", DEEDS.values(), ids=DEEDS)
def test_a_program_is_what_it_was(run: Run, start: Run, tmp_path: Path, code: str) -> None:
    (tmp_path / "program.py").write_text(code)
    (tmp_path / "sitecustomize.py").write_text("")
    words = ["program.py", "--quiet", "-m", "x y", "--", "--disk"]
    plain = start(sys.executable, *words, stdin="abc")
    ours = run("--quiet", *words, stdin="abc")
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )


def test_where_no_program_takes_the_place_of_another_its_status_is_passed_on() -> None:
    """As on Windows."""
    command = """
import sys
from cachewrap import systems
from cachewrap.cli.main import main
systems.HAS_FORKS = False
main(["run", "--url", "memory:", "-c", "import sys; print(sys.argv); sys.exit(7)", "a b"])
"""
    words = [sys.executable, "-c", command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (7, "['-c', 'a b']\n")


def test_a_module_a_folder_and_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("import sys; print(sys.argv[1:])")
    for words in (["-m", "package"], ["package"], ["--", "package"]):
        assert run("-q", *words, "--seed", "1").stdout == "['--seed', '1']\n"
    assert run("-q", "-c", "import sys; print(sys.argv)", "-q").stdout == "['-c', '-q']\n"


def test_a_command_that_starts_python(run: Run, up: Upstream, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(
        f"#!/bin/sh\n{sys.executable} -c 'import asking; asking.ask(\"x\")'\nexit 5\n"
    )
    script.chmod(0o700)
    done = [run("./script.sh") for _ in range(2)]
    assert ([d.returncode for d in done], up.calls) == ([5, 5], 1)
    assert "1 of 1 call answered" in done[1].stderr


def test_a_decorated_function_is_served_from_the_programs_cache(run: Run, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from cachewrap import llm_cached\n"
        "@llm_cached(seed='its own')\n"
        "def shout(prompt): return prompt.upper()\n"
        "shout('hi')\n"
    )
    run("--disk", "answers", "program.py")
    assert (tmp_path / "answers" / "41").is_dir()
    assert not (tmp_path / ".cache").exists()


def test_a_block_of_the_programs_own_goes_before(run: Run, up: Upstream, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "from cachewrap import Cache\nfrom asking import ask\n"
        "with Cache.memory() as own:\n    ask('x'); ask('x')\nprint(own.stats.hits)\n"
    )
    done = run("program.py")
    assert (done.stdout, up.calls) == ("1\n", 1)
    assert done.stderr.startswith(
        "cachewrap: 1 of 2 calls answered from memory (the program's own)"
    )


def test_a_mode(run: Run, up: Upstream) -> None:
    done = run("--mode", "replay", "-c", "import asking; asking.ask('never asked before')")
    assert (done.returncode, up.calls) == (1, 0)
    assert "ReplayMissError" in done.stderr


def test_samples(run: Run, up: Upstream) -> None:
    code = "import asking; print(len({asking.ask('a die') for _ in range(3)}))"
    done = [run("--samples", "-q", "-c", code) for _ in range(2)]
    assert ([d.stdout for d in done], up.calls) == (["3\n", "3\n"], 3)


def test_variables_of_the_environment_do_the_same(start: Run, up: Upstream, tmp_path: Path) -> None:
    told = start(sys.executable, "-m", "cachewrap", "env", "--disk", "answers", "--seed", "7")
    code = "import asking; asking.ask('x')"
    script = f'{told.stdout}\n{sys.executable} -c "{code}"\n{sys.executable} -c "{code}"'
    done = start("sh", "-c", script)
    assert (done.returncode, up.calls) == (0, 1)
    assert "1 of 1 call answered" in done.stderr
    assert (tmp_path / "answers" / "7").is_dir()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_service_without_input_or_output(start: Run, tmp_path: Path, closed: str) -> None:
    Cache.disk(41, tmp_path / ".cache").set("a", 1)
    cachewrap = f"{sys.executable} -m cachewrap"
    assert start("sh", "-c", f"{cachewrap} run -c 'exit(7)' {closed}").returncode == 7
    assert start("sh", "-c", f"{cachewrap} ls {closed}").returncode == 0
    assert start("sh", "-c", f"{cachewrap} verify {closed}").returncode == 0
    status = 2 if closed == "<&-" else 0
    words = "clear" if closed == "<&-" else "clear --yes"
    assert start("sh", "-c", f"{cachewrap} {words} {closed}").returncode == status


def test_a_file_is_the_same_from_every_folder(start: Run, tmp_path: Path) -> None:
    told = start(sys.executable, "-m", "cachewrap", "env", "--url", "jsonl:answers.jsonl?ttl=60")
    assert f"CACHEWRAP_URL='jsonl://{tmp_path}/answers.jsonl?ttl=60" in told.stdout


ASK = "import asking; asking.ask('x')"


@pytest.mark.parametrize(
    ("words", "variables", "kept"),
    [
        pytest.param([], {}, [False], id="without a name"),
        pytest.param(["--name", "a"], {}, [True], id="with one"),
        pytest.param([], {"CACHEWRAP_RUN": "a"}, [True], id="of the environment"),
        pytest.param(["--name", "a"], {"CACHEWRAP_LEDGER": "0"}, [True], id="a name says enough"),
        pytest.param(["--no-ledger"], {}, [], id="not at all"),
        pytest.param(["--no-ledger"], {"CACHEWRAP_RUN": "a"}, [], id="not under a name either"),
        pytest.param([], {"CACHEWRAP_LEDGER": "0"}, [], id="not in this environment"),
    ],
)
def test_what_a_program_asks_is_kept(
    run: Run, tmp_path: Path, words: list[str], variables: dict[str, str], kept: list[bool]
) -> None:
    done = run(*words, "-c", ASK, **variables)
    runs = Cache.disk(41, tmp_path / ".cache").runs()
    assert [one.named for one in runs] == kept, done.stderr
    told = "cachewrap: run a: cachewrap runs show a\n" if True in kept else ""
    assert done.stderr.partition("\n")[2] == told


def test_the_processes_of_one_command_are_one_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(ASK)
    done = run("sh", "-c", f"{sys.executable} p.py && {sys.executable} p.py")
    (one,) = Cache.disk(41, tmp_path / ".cache").runs()
    assert [call.outcome for call in one.calls()] == ["miss", "hit"], done.stderr
    assert (len(one.processes), one.state, one.processes[0].program) == (2, "ended", "p.py")


def test_a_command_inside_another_is_a_run_of_its_own(run: Run, tmp_path: Path) -> None:
    inner = f'{sys.executable} -m cachewrap run -q --name inner -c "{ASK}"'
    run("--name", "outer", "sh", "-c", f'{sys.executable} -c "{ASK}"; {inner}')
    assert [one.name for one in Cache.disk(41, tmp_path / ".cache").runs()] == ["outer", "inner"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        pytest.param(["--disk", "a b"], "'a b' x", id="another folder"),
        pytest.param(["--url", "jsonl:a.jsonl"], "a.jsonl x", id="a file"),
        pytest.param(["--seed", "7"], "x", id="another seed"),
    ],
)
def test_the_end_tells_how_a_run_is_looked_at(run: Run, words: list[str], shown: str) -> None:
    done = run(*words, "--name", "x", "-c", ASK)
    assert done.stderr.endswith(f"cachewrap: run x: cachewrap runs show {shown}\n")


def test_the_environments_url_is_used(run: Run, tmp_path: Path) -> None:
    code = "import asking; asking.ask('x')"
    run("-c", code, CACHEWRAP_URL="disk:elsewhere?cache_seed=5")
    assert (tmp_path / "elsewhere" / "5").is_dir()


def test_the_users_own_sitecustomize_runs(run: Run, up: Upstream, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.stderr.write('mine ')")
    code = "import asking, sitecustomize; asking.ask('x')"
    done = run("-q", "-c", code, PYTHONPATH=_path(tmp_path))
    # Once in the command itself, and once in the program that takes its place.
    assert (done.returncode, done.stderr, up.calls) == (0, "mine mine ", 1)
    store = Cache.from_url(f"disk:{tmp_path / '.cache'}").store
    assert isinstance(store, Seeds) and store.seeds() == ["41"]


def _path(first: Path) -> str:
    return os.pathsep.join(filter(None, [str(first), os.environ.get("PYTHONPATH")]))


def test_a_python_of_another_environment_is_left_alone(run: Run, tmp_path: Path) -> None:
    venv.create(tmp_path / "other", symlinks=True)
    other = str(tmp_path / "other" / "bin" / "python")
    done = run(other, "-c", "print('hello')", PYTHONPATH="")
    if "goes without a cache: No module named 'cachewrap'" not in done.stderr:
        # The tests run from a source tree, which every Python finds; what it needs is not there.
        pytest.skip("cachewrap is on the path of every Python here")
    assert (done.returncode, done.stdout) == (0, "hello\n")


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_isolated_python_is_left_alone(run: Run, option: str) -> None:
    done = run(sys.executable, option, "-c", "print('hello')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_a_cache_that_cannot_be_opened_does_not_stop_a_service(start: Run, up: Upstream) -> None:
    told = start(sys.executable, "-m", "cachewrap", "env").stdout
    code = f'{sys.executable} -c "import asking; print(bool(asking.ask(1*str(1))))"'
    done = start("sh", "-c", f"{told}\nexport CACHEWRAP_URL=nonsense:\n{code}")
    assert (done.returncode, done.stdout, up.calls) == (0, "True\n", 1)
    assert "cachewrap: this program goes without a cache: no store for the scheme" in done.stderr


def test_nothing_of_the_cache_is_imported_by_a_program_that_calls_no_model(run: Run) -> None:
    code = "import sys; print([m for m in sys.modules if m.startswith(('cachewrap.', 'wrapt'))])"
    imported = [
        *("cachewrap.run", "cachewrap.systems", "cachewrap.blocks"),
        *("cachewrap.run.clients", "cachewrap.run.own", "cachewrap.run.program"),
    ]
    assert run("-c", code).stdout == f"{imported}\n"


def test_every_sdk_that_is_patched_opens_the_cache() -> None:
    from cachewrap.run import clients
    from cachewrap.sdk import others

    modules = set[str]().union(*(patcher._targets for patcher in others._HTTP_PATCHERS))
    plain = {module.partition(".")[0] for module in modules}
    assert {*others._BY_NAME, *others._METHODS, *plain} == clients.CLIENTS.keys()


IMPORTING = """
import sys
import {package}
imported = [m for m in sys.modules if m.startswith(("cachewrap.", "wrapt"))]
print("cachewrap.cache" in imported)
{client}
print("cachewrap.cache" in sys.modules)
"""


@pytest.mark.parametrize(
    ("package", "client"),
    [
        pytest.param("openai", "openai.OpenAI(api_key='none')", id="openai"),
        pytest.param("openai", "openai.AsyncAzureOpenAI", id="openai, no client"),
        pytest.param("requests", "requests.Session()", id="requests"),
        pytest.param("httpx2", "httpx2.AsyncClient()", id="httpx2"),
        pytest.param(
            "aiohttp",
            "import asyncio\nasync def make(): await aiohttp.ClientSession().close()\n"
            "asyncio.run(make())",
            id="aiohttp",
        ),
    ],
)
def test_the_cache_is_imported_with_the_first_client(run: Run, package: str, client: str) -> None:
    pytest.importorskip(package)
    made = "(" in client
    done = run("-c", IMPORTING.format(package=package, client=client))
    assert (done.returncode, done.stdout) == (0, f"False\n{made}\n"), done.stderr


def test_an_adapter_that_was_pickled_is_seen(run: Run, up: Upstream, tmp_path: Path) -> None:
    pytest.importorskip("requests")
    code = """
import os, pickle, requests
adapter = pickle.loads(%r)
body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
request = requests.Request("POST", os.environ["UP"] + "/chat/completions", json=body).prepare()
print([adapter.send(request).status_code for _ in range(2)])
"""
    import requests

    done = run("-c", code % pickle.dumps(requests.adapters.HTTPAdapter()))
    assert (done.returncode, done.stdout, up.calls) == (0, "[200, 200]\n", 1), done.stderr


def test_what_saw_a_client_made_is_gone_behind_it(run: Run) -> None:
    code = """
import inspect, sys, openai
before = openai._base_client.BaseClient.__init__
openai.OpenAI(api_key="none")
after = openai._base_client.BaseClient.__init__
print(before.__wrapped__ is after, [f for f in sys.meta_path if "cachewrap" in type(f).__module__])
"""
    assert run("-c", code).stdout == "True []\n"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--disk", "{}/file"), id="a file"),
        pytest.param(("--disk", "{}/damaged"), id="no database"),
        pytest.param(("--unkeyed", "model"), id="unkeyed"),
        pytest.param(("--url", "disk:x?ttl=-1"), id="ttl"),
        pytest.param(("--url", "disk:x?max_bytes=0"), id="max_bytes"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_the_words_of_the_cache(
    run: Run, tmp_path: Path, options: tuple[str, str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "damaged" / "41").mkdir(parents=True)
    (tmp_path / "damaged" / "41" / "cache.db").write_text("no database")
    name, value = options[0], options[1].format(tmp_path)
    urls = {"--disk": f"disk:{value}", "--url": value}
    url = urls.get(name) or f"disk:x?unkeyed={value}"
    with pytest.raises((ConfigurationError, StoreError)) as refused:
        Cache.from_url(url).check()
    done = run(name, value, "-c", "print('ran')")
    assert (done.returncode in (2, 3), done.stdout) == (True, "")
    assert str(refused.value).split(":")[0] in done.stderr


# -- what is a program ----------------------------------------------------------------------------


def test_a_folder_of_the_name_of_a_command_is_passed_over(
    start: Run, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "llm").mkdir()
    command = tmp_path / "bin" / "llm"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho the command\n")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    assert run("llm", PATH=path).stdout == "the command\n"
    (tmp_path / "llm" / "__main__.py").write_text("print('the folder')")
    assert run("llm", PATH=path).stdout == "the folder\n"


def test_an_option_behind_a_program_is_told_as_the_programs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("import sys; print(sys.argv[1:])")
    done = run("agent.py", "--disk", "x")
    assert done.stdout == "['--disk', 'x']\n"
    told = "cachewrap: --disk is given to agent.py: for cachewrap it stands in front of it\n"
    assert done.stderr.startswith(told)


# -- what is said at the end ----------------------------------------------------------------------

OWN = """
from asking import ask
from cachewrap import Cache

def own():
    with Cache.disk(7, "mine"):
        ask("own")
own()
"""


def test_what_blocks_of_its_own_served_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(OWN)
    told = [run("agent.py").stderr.splitlines()[0] for _ in range(2)]
    assert told[0].startswith("cachewrap: 0 of 1 call answered from disk:///")
    assert "/mine?cache_seed=7 (the program's own); 1 asked upstream" in told[0]
    assert told[1].startswith("cachewrap: 1 of 1 call answered from disk:///")
    assert "/mine?cache_seed=7 (the program's own), which saved" in told[1]


def test_both_are_told_where_both_served(run: Run, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(f"{OWN}\nask('run')\nown()\n")
    told = run("agent.py").stderr.splitlines()
    assert "0 of 1 call answered from disk:///" in told[0] and "/.cache?cache_seed=41" in told[0]
    assert "1 of 2 calls answered" in told[1] and "(the program's own)" in told[1]


def test_a_cache_that_a_program_activates_is_told(run: Run, tmp_path: Path) -> None:
    code = "import cachewrap; cachewrap.activate('disk:mine'); from asking import ask; ask('a')"
    told = run("-c", code).stderr
    assert "0 of 1 call answered from" in told
    assert "/mine?cache_seed=41 (the program's own)" in told


def test_a_block_on_the_same_cache_is_counted_with_it(run: Run) -> None:
    code = (
        "from cachewrap import Cache; from asking import ask\nask('a')\nwith Cache.disk(): ask('a')"
    )
    told = run("-c", code).stderr.splitlines()
    assert told[0].startswith("cachewrap: 1 of 2 calls answered from disk:///")
    assert "(the program's own)" not in "".join(told)


def test_many_caches_of_its_own_are_told_together(run: Run) -> None:
    code = (
        "from cachewrap import Cache; from asking import ask\n"
        "for seed in range(8):\n  with Cache.disk(seed, 'mine'): ask('a')"
    )
    told = run("-c", code).stderr
    assert "0 of 8 calls answered from 8 caches of the program's own; 8 asked upstream" in told


def test_a_forked_child_tells_what_it_counted_itself(run: Run) -> None:
    code = (
        "import os; from cachewrap import Cache; from asking import ask\n"
        "with Cache.disk(7, 'mine'):\n"
        "  ask('a')\n"
        "  if os.fork(): os.wait()\n"
        "  ask('a')\n"
    )
    assert "2 of 3 calls answered from" in run("-c", code).stderr


def test_no_call_at_all_is_told_with_what_would_be_one(run: Run) -> None:
    told = "no call of a model was seen: no client of one was made, no function cached\n"
    assert run("-c", "pass").stderr == f"cachewrap: {told}"
