"""The function itself as a part of the request: its code, and the constants that it reads."""

from __future__ import annotations

import functools
import gc
import importlib.util
import itertools
import linecache
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tenacity

from cachewrap import Cache, llm_cached
from cachewrap.format.envelope import unseal

Module = Callable[..., Any]

CALL = """
import os
from cachewrap import llm_cached

def answer(*said):
    return f"{said} {os.urandom(4).hex()}"

"""


@pytest.fixture(autouse=True)
def cache() -> Iterator[Cache]:
    with Cache.memory() as cache:
        yield cache


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Imports a module of this source, under one name however often it is edited."""
    times = itertools.count(1)

    def module(source: str, name: str = "prompts") -> Any:
        file = tmp_path / f"{name}.py"
        file.write_text(CALL + textwrap.dedent(source), encoding="utf-8")
        os.utime(file, (next(times),) * 2)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, made)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(made)
        return made

    return module


def keys(*functions: Any) -> set[str]:
    return {function.cache_key("hi") for function in functions}


ASK = "@llm_cached\ndef ask(q):\n    return answer({})\n"


class TestItsCode:
    @pytest.mark.parametrize(
        ("before", "after", "same"),
        [
            ("'Translate', q", "'Summarise', q", False),
            ("'Translate', q", "'Translate', q,  # so\n", True),
            ("f'Translate {q}'", "f'Translate {q}!'", False),
            ("f'Translate {q}'", 'f"Translate {q}"', True),
            ("q", "q, q", False),
        ],
    )
    def test_counts(self, module: Module, before: str, after: str, same: bool) -> None:
        first = module(ASK.format(before)).ask("hi")
        assert (module(ASK.format(after)).ask("hi") == first) is same

    def test_back_at_what_it_was_it_has_its_old_answers(self, module: Module) -> None:
        first = module(ASK.format("1")).ask("hi")
        assert module(ASK.format("2")).ask("hi") != first
        assert module(ASK.format("1")).ask("hi") == first

    def test_of_a_decorated_function_is_that_of_the_innermost(self, module: Module) -> None:
        source = """
        import functools
        def logged(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper
        @llm_cached
        @logged
        def ask(q):
            return answer({})
        """
        first, second, again = (module(source.format(text)).ask for text in "121")
        assert first("hi") == again("hi") != second("hi")

    @pytest.mark.parametrize(
        "kind", ["async def ask(q):\n    return 1", "def ask(q):\n    yield 1"]
    )
    def test_counts_of_every_colour(self, module: Module, kind: str) -> None:
        first, second = (module(f"@llm_cached\n{text}\n") for text in (kind, kind + "0"))
        assert len(keys(first.ask, second.ask)) == 2

    def test_counts_of_methods(self, module: Module) -> None:
        source = (
            "class A:\n    @llm_cached(ignore='self')\n    def ask(self, q):\n        return {}\n"
        )
        first, second = (module(source.format(text)).A() for text in "12")
        assert len(keys(first.ask, second.ask)) == 2

    def test_of_two_programs_is_told_apart_though_both_are_called_main(
        self, tmp_path: Path
    ) -> None:
        program = ASK + "print(ask.cache_key('hi'), ask('hi'))\n"
        told = []
        for name in ("translate", "summarise", "translate"):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "main.py").write_text(CALL + program.format(f"'{name}', q"), encoding="utf-8")
            told.append(_run([str(folder / "main.py")], tmp_path))
        assert told[0] == told[2]
        assert [one != other for one, other in zip(*told[:2], strict=True)] == CHANGED

    def test_of_programs_in_the_command_line_is_told_apart(self, tmp_path: Path) -> None:
        program = ASK + "print(ask.cache_key('hi'), ask('hi'))\n"
        told = [
            _run(["-c", CALL + program.format(text)], tmp_path) for text in ("1, q", "2, q", "1, q")
        ]
        assert told[0] == told[2]
        assert [one != other for one, other in zip(*told[:2], strict=True)] == CHANGED

    def test_of_a_cell_counts_in_a_notebook(self) -> None:
        space: dict[str, Any] = {"__name__": "__main__"}
        answers = []
        for number, text in enumerate(["one", "two", "one"]):
            name = f"<cell {number} of a notebook>"
            source = CALL + ASK.format(f"'{text}', q")
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            exec(compile(source, name, "exec"), space)
            answers.append(space["ask"]("hi"))
        assert answers[0] == answers[2] != answers[1]

    def test_is_not_looked_for_before_the_first_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(linecache, "getlines", lambda *_: pytest.fail("it was looked for"))
        llm_cached(lambda q: q)

    def test_is_looked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        echo = llm_cached(lambda q: q)
        echo("hi")
        monkeypatch.setattr(linecache, "getlines", lambda *_: pytest.fail("it was looked for"))
        assert (echo("hi"), echo("ho")) == ("hi", "ho")

    def test_key_takes_only_the_place_of_the_arguments(self, module: Module) -> None:
        source = "@llm_cached(key=lambda q: 'one')\ndef ask(q):\n    return answer({})\n"
        first, second = (module(source.format(text)).ask for text in "12")
        assert first("hi") == first("ho") != second("hi")


# Of the key and the three words of an answer; the argument is the same.
CHANGED = [True, True, False, True]


def _run(args: list[str], folder: Path) -> list[str]:
    run = subprocess.run(
        [sys.executable, *args], cwd=folder, text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


VALUES = [
    pytest.param("'one'", "'two'", id="text"),
    pytest.param("b'one'", "b'two'", id="bytes"),
    pytest.param("1", "2", id="int"),
    pytest.param("1", "1.0", id="int and float"),
    pytest.param("1", "True", id="int and bool"),
    pytest.param("0.5", "0.25", id="float"),
    pytest.param("1j", "2j", id="complex"),
    pytest.param("None", "False", id="None"),
    pytest.param("('a', 1)", "('a', 2)", id="tuple"),
    pytest.param("('a', ('b', 1))", "('a', ('b', 1.0))", id="tuple in a tuple"),
    pytest.param("frozenset({'a'})", "frozenset({'b'})", id="frozenset"),
    pytest.param("2**100", "2**100 + 1", id="large int"),
    pytest.param("float('nan')", "float('inf')", id="not a number"),
    pytest.param("'\\ud800'", "'\\udc00'", id="surrogate"),
    pytest.param("'x' * 9000 + 'a'", "'x' * 9000 + 'b'", id="long text"),
    pytest.param("'x'", "[]", id="text and no constant"),
    pytest.param("{'!tuple': 1}.popitem()", "('!tuple', 2)", id="like a tag"),
]

FACTORY = """
import functools

def one(q, x=0): return answer("one", q, x)
def other(q): return answer("other", q)

def with_prompt(prompt, function=one):
    return lambda q: answer(prompt, function(q))

def doubled(function):
    return lambda q: function(function(q))

class Made:
    def __call__(self, q): return answer("made", q)
    def ask(self, q): return answer("ask", q)
    def tell(self, q): return answer("tell", q)

def make(upstream):
    @llm_cached
    def ask(q):
        return answer(upstream(q))
    return ask
"""

CLOSED_OVER = [
    pytest.param("one", "other", id="functions"),
    pytest.param("lambda q: 'one'", "lambda q: 'other'", id="lambdas"),
    pytest.param("str.upper", "str.lower", id="builtins"),
    pytest.param("'one'.join", "'one'.strip", id="methods of builtins"),
    pytest.param("Made().ask", "Made().tell", id="methods"),
    pytest.param("with_prompt('one')", "with_prompt('two')", id="constants they close over"),
    pytest.param("doubled(one)", "doubled(other)", id="functions they close over"),
    pytest.param(
        "doubled(doubled(with_prompt('one')))",
        "doubled(doubled(with_prompt('two')))",
        id="constants further down",
    ),
    pytest.param("functools.cache(one)", "functools.cache(other)", id="decorated"),
    pytest.param("functools.partial(one)", "functools.partial(other)", id="partials"),
    pytest.param(
        "functools.partial(answer, 'one')", "functools.partial(answer, 'two')", id="of partials"
    ),
    pytest.param(
        "functools.partial(one, x='one')", "functools.partial(one, x=1)", id="of partials by name"
    ),
    pytest.param("one", "Made()", id="a function and none"),
]


class TestConstants:
    @pytest.mark.parametrize(("one", "other"), VALUES)
    def test_of_the_module_count_by_value(self, module: Module, one: str, other: str) -> None:
        made = module(f"PROMPT = {one}\n" + ASK.format("PROMPT, q"))
        first = made.ask("hi")
        made.PROMPT = eval(other)
        second = made.ask("hi")
        assert (first != second, made.ask("hi")) == (True, second)
        made.PROMPT = eval(one)
        assert made.ask("hi") == first
        edited = module(f"PROMPT = {other}\n" + ASK.format("PROMPT, q"))
        assert edited.ask("hi") == second

    @pytest.mark.parametrize(("one", "other"), VALUES)
    def test_of_the_closure_count_by_value(self, module: Module, one: str, other: str) -> None:
        source = """
        def make(prompt):
            @llm_cached
            def ask(q):
                return answer(prompt, q)
            return ask
        """
        made = module(source)
        first, second, again = (made.make(eval(text)) for text in (one, other, one))
        assert first("hi") == again("hi") != second("hi")

    def test_of_the_closure_count_as_they_are_at_the_call(self) -> None:
        @llm_cached
        def ask(q: str) -> str:
            return f"{prompt} {q} {os.urandom(4).hex()}"

        prompt = "one"
        first = ask("hi")
        prompt = "two"
        second = ask("hi")
        prompt = "one"
        assert ask("hi") == first != second

    @pytest.mark.parametrize(
        "body",
        [
            "return answer([PROMPT for _ in q])",
            "return (lambda: answer(PROMPT))()",
            "def inner():\n        return answer(PROMPT)\n    return inner()",
            "class A:\n        text = PROMPT\n    return answer(A.text)",
            "return answer(f'{PROMPT} {q}')",
            "return answer(PROMPT.format(q))",
            "return answer((lambda x=PROMPT: x)())",
        ],
    )
    def test_count_wherever_in_the_function_they_are_read(self, module: Module, body: str) -> None:
        made = module(f"PROMPT = 'one'\n@llm_cached\ndef ask(q):\n    {body}\n")
        first = made.ask("hi")
        made.PROMPT = "two"
        assert made.ask("hi") != first

    @pytest.mark.parametrize(
        ("before", "body"),
        [
            ("calls = 0", "global calls\n    calls += 1\n    return answer(q)"),
            (
                "calls = 0",
                "def f():\n        global calls\n        calls += 1\n    f()\n    return calls",
            ),
            ("calls = []", "calls.append(q)\n    return answer(len(calls))"),
            ("calls = {}", "calls[len(calls)] = q\n    return answer(calls)"),
            ("class Client:\n    n = 0", "Client.n += 1\n    return answer(Client.n)"),
            ("n = iter(range(9))", "return answer(next(n))"),
        ],
        ids=["global", "global inside", "list", "dictionary", "class", "iterator"],
    )
    def test_what_the_function_changes_does_not_count(
        self, module: Module, before: str, body: str
    ) -> None:
        made = module(f"{before}\n@llm_cached\ndef ask(q):\n    {body}\n")
        assert made.ask("hi") == made.ask("hi")

    def test_what_it_changes_of_its_closure_does_not_count(self) -> None:
        n = 0

        @llm_cached
        def ask(q: str) -> str:
            nonlocal n
            n += 1

            def deeper() -> None:
                nonlocal n
                n += 1

            deeper()
            return f"{n} {os.urandom(4).hex()}"

        assert ask("hi") == ask("hi")
        n = 7
        assert ask("hi") == ask("hi")

    def test_of_a_helper_do_not_count(self, module: Module) -> None:
        made = module(
            "PROMPT = 'one'\ndef helper(q):\n    return answer(PROMPT)\n" + ASK.format("helper(q)")
        )
        first = made.ask("hi")
        made.PROMPT = "two"
        assert made.ask("hi") == first

    @pytest.mark.parametrize(("one", "other"), CLOSED_OVER)
    def test_functions_that_it_closes_over_count(
        self, module: Module, one: str, other: str
    ) -> None:
        made = module(FACTORY)
        makes = [eval(f"lambda: make({text})", vars(made)) for text in (one, other, one)]
        first, second, again = (make() for make in makes)
        assert first("hi") == again("hi") != second("hi")
        assert first("hi") != second("hi")

    def test_functions_that_it_closes_over_count_as_they_are_at_the_call(self) -> None:
        def one(q: str) -> str:
            return f"{q} {os.urandom(4).hex()}"

        def other(q: str) -> str:
            return f"{q}, {os.urandom(4).hex()}"

        @llm_cached
        def ask(q: str) -> str:
            return upstream(q)

        upstream = one
        first = ask("hi")
        upstream = other
        second = ask("hi")
        upstream = one
        assert ask("hi") == first != second

    def test_functions_under_a_decorator_that_hides_them_are_told_apart(
        self, module: Module
    ) -> None:
        source = """
        def hide(function):
            return lambda *args: function(*args)
        @llm_cached
        @hide
        def ask(q):
            return answer("ask", q)
        @llm_cached
        @hide
        @hide
        def tell(q):
            return answer("tell", q)
        """
        made = module(source)
        assert len({made.ask("hi"), made.tell("hi")}) == 2
        edited = module(source.replace('"tell"', '"say"'))
        assert edited.ask("hi") == made.ask("hi")
        assert edited.tell("hi") != made.tell("hi")

    def test_functions_of_libraries_that_it_closes_over_count_by_name(self) -> None:
        def make(upstream: Any) -> Any:
            return llm_cached(lambda q: f"{upstream(q)} {os.urandom(4).hex()}")

        one, other, again = (make(f) for f in (textwrap.dedent, textwrap.fill, textwrap.dedent))
        assert one("hi") == again("hi") != other("hi")
        near = other.explain("x").nearest[0]
        assert near.request["constants"]["upstream"] == {"function": "textwrap:fill"}

    def test_what_a_function_that_it_closes_over_changes_does_not_count(self) -> None:
        n = 0

        def count() -> None:
            nonlocal n
            n += 1

        def upstream(q: str) -> str:
            count()
            return f"{q} {n} {os.urandom(4).hex()}"

        @llm_cached
        def ask(q: str) -> str:
            return upstream(q)

        @llm_cached
        def tell(q: str) -> str:
            count()
            return f"{q} {n} {os.urandom(4).hex()}"

        assert ask("hi") == ask("hi")
        assert tell("hi") == tell("hi")

    def test_a_proxy_that_stands_for_nothing_yet_is_no_function(self) -> None:
        class Proxy:
            @property
            def __class__(self) -> Any:
                raise RuntimeError("outside of a request")

        def make(proxy: Any) -> Any:
            return llm_cached(lambda q: f"{proxy and q} {os.urandom(4).hex()}")

        ask = make(Proxy())
        assert ask("hi") == ask("hi")

    def test_a_function_that_closes_over_itself_has_one_key(self) -> None:
        def make() -> Any:
            @llm_cached
            def ask(q: str) -> str:
                return ask(q[1:]) if q else os.urandom(4).hex()

            return ask

        first, second = make(), make()
        assert first("hi") == first("") == second("hi")

    def test_of_the_users_own_modules_count(self, module: Module) -> None:
        config = module("PROMPT = 'one'\n", "config_of_prompts")
        made = module("import config_of_prompts as config\n" + ASK.format("config.PROMPT, q"))
        first = made.ask("hi")
        config.PROMPT = "two"
        second = made.ask("hi")
        config.PROMPT = "one"
        assert made.ask("hi") == first != second

    def test_of_modules_inside_modules_count(self, module: Module) -> None:
        config = module("", "config_of_prompts")
        config.texts = module("PROMPT = 'one'\n", "texts_of_prompts")
        made = module(
            "import config_of_prompts as config\n" + ASK.format("config.texts.PROMPT.format(q)")
        )
        first = made.ask("hi")
        config.texts.PROMPT = "two"
        assert made.ask("hi") != first

    def test_of_installed_modules_do_not_count(
        self, module: Module, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = module("import tenacity\nimport string\n" + ASK.format("string.digits, tenacity.N"))
        monkeypatch.setattr(tenacity, "N", 1, raising=False)
        first = made.ask("hi")
        monkeypatch.setattr(tenacity, "N", 2)
        assert made.ask("hi") == first

    def test_where_a_module_is_does_not_count(self, module: Module) -> None:
        made = module(ASK.format("__file__, __name__, q"))
        first = made.ask("hi")
        made.__file__ = "/elsewhere/prompts.py"
        assert made.ask("hi") == first

    def test_that_come_and_go_count(self, module: Module) -> None:
        made = module("@llm_cached\ndef ask(q):\n    return answer(PROMPT if q else 1)\n")
        first = made.ask("")
        made.PROMPT = "one"
        second = made.ask("")
        del made.PROMPT
        assert made.ask("") == first != second

    def test_that_hide_a_builtin_count(self, module: Module) -> None:
        made = module(ASK.format("str(input)"))
        first = made.ask("hi")
        made.input = "text"
        second = made.ask("hi")
        made.input = "other"
        assert len({first, second, made.ask("hi")}) == 3

    def test_that_become_something_else_no_longer_count(self, module: Module) -> None:
        made = module("PROMPT = 'one'\n" + ASK.format("PROMPT, q"))
        first = made.ask("hi")
        made.PROMPT = ["one"]
        second = made.ask("hi")
        made.PROMPT = ["two"]
        assert made.ask("hi") == second != first

    def test_of_a_decorator_below_count(self, module: Module) -> None:
        source = """
        import functools
        LEVEL = 1
        def logged(prefix):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args):
                    return answer(prefix, LEVEL, function(*args))
                return wrapper
            return decorate
        PREFIX = "one"
        @llm_cached
        @logged({prefix!r})
        def ask(q, prefix="local"):
            return q, PREFIX
        """
        made = module(source.format(prefix="one"))
        first = made.ask("hi")
        made.LEVEL = 2
        assert made.ask("hi") != first
        made.LEVEL = 1
        made.PREFIX = "two"
        assert made.ask("hi") != first
        assert module(source.format(prefix="one")).ask("hi") == first
        assert module(source.format(prefix="two")).ask("hi") != first

    def test_of_one_name_in_two_places_are_two(self) -> None:
        def make(mine: str, outer: str) -> Any:
            def decorate(function: Any) -> Any:
                level = outer

                @functools.wraps(function)
                def wrapper(*args: Any) -> Any:
                    return level, function(*args)

                return wrapper

            level = mine

            @llm_cached
            @decorate
            def ask(q: str) -> Any:
                return level

            return ask

        made = [make("a", "b"), make("b", "a"), make("a", "a"), make("b", "b"), make("a", "b")]
        assert len(keys(*made)) == 4

    @pytest.mark.parametrize(
        ("name", "one", "other"),
        [
            ("API_KEY", "0123456789", "9876543210"),
            ("api_token", "first-secret", "other-secret"),
            ("SECRETS", ("first-secret",), ("other-secret",)),
            ("PASSWORD", b"first-secret", b"other-secret"),
            ("HEADER", "Bearer 0123456789abcdef", "Bearer fedcba9876543210"),
            ("MODEL", "sk-0123456789abcdef", "sk-fedcba9876543210"),
        ],
    )
    def test_that_are_credentials_do_not_count(
        self, module: Module, cache: Cache, name: str, one: Any, other: Any
    ) -> None:
        made = module(ASK.format(f"{name}, q"))
        setattr(made, name, one)
        first = made.ask("hi")
        setattr(made, name, other)
        assert made.ask("hi") == first
        (key,) = cache.keys()
        raw = cache.store.get(key)
        assert raw is not None
        request = unseal(raw).read_record()["request"]
        assert name.encode() in request
        assert str(one).strip("()b,'").encode() not in request

    @pytest.mark.parametrize(
        "upstream",
        [
            "with_key({!r})",
            "functools.partial(lambda key, q: q, {!r})",
            "functools.partial(tell, api_key={!r})",
            "functools.partial(functools.partial(tell, api_key={!r}), 'hi')",
        ],
    )
    def test_of_functions_that_it_closes_over_do_not_count_where_they_are_credentials(
        self, module: Module, cache: Cache, upstream: str
    ) -> None:
        made = module(
            FACTORY + "def tell(*q, api_key): return q\n"
            "def with_key(api_key): return lambda q: (api_key, q)[1]\n"
        )
        secrets = [f"sk-proj-{digit * 8}abcdefgh{digit * 8}" for digit in "12"]
        first, second = (eval(f"make({upstream.format(secret)})", vars(made)) for secret in secrets)
        assert first("hi") == second("hi")
        (key,) = cache.keys()
        assert secrets[0].encode() not in (cache.store.get(key) or b"")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PROMPT", "Explain why sk-abcdefgh12345 is bad, {}"),
            ("PROMPT", "Explain https://user:pass@host/x in {}"),
            ("PROMPT", "Say: bearer abcdefghijklmnopqrst, then answer in {}"),
            ("PROMPT", "You explain basic microeconomics-for-everyone to {}"),
            ("PROMPT", "What is -----BEGIN in a file of {}"),
            ("MODEL", "hf-transformers-{}"),
            ("METHOD", "RK-numerical-{}"),
            ("SECRET_WORD", "elephant{}"),
            ("PASSWORD_PROMPT", "Password-{}:"),
            ("API_KEY_URL", "https://h.example/{}"),
            ("STOP_TOKEN", "<|stop-2-{}|>"),
            ("SORT_KEY", "created-2-{}"),
        ],
    )
    @pytest.mark.parametrize("place", ["a constant", "a literal"])
    def test_that_only_look_like_one_count(
        self, module: Module, name: str, value: str, place: str
    ) -> None:
        texts = [value.format(person) for person in ("adults", "children")]
        if place == "a constant":
            sources = [f"{name} = {text!r}\n" + ASK.format(f"{name}, q") for text in texts]
        else:
            sources = [ASK.format(f"[{name} := {text!r}], q") for text in texts]
        first, other = (module(source).ask("hi") for source in sources)
        assert first != other

    @pytest.mark.parametrize("name", ["SECRET_SANTA_PROMPT", "PASSWORD"])
    def test_that_only_sound_like_one_count(self, module: Module, name: str) -> None:
        made = module(f"{name} = 'Write a riddle'\n" + ASK.format(f"{name}, q"))
        first = made.ask("hi")
        setattr(made, name, "Write a poem")
        assert made.ask("hi") != first

    def test_that_many_threads_see_are_those_of_the_call(self, module: Module) -> None:
        made = module("@llm_cached\ndef ask(q):\n    return PROMPT\n")
        made.PROMPT = "0"
        wrong = []

        expected: dict[str, str] = {}
        for number in range(7):
            made.PROMPT = str(number)
            expected[made.PROMPT] = made.ask.cache_key("hi")

        def change() -> None:
            for number in range(400):
                made.PROMPT = str(number % 7)
                time.sleep(0)

        def read() -> None:
            for _ in range(400):
                decorated = made.ask._self_plan
                told = decorated.tell()
                said = told.head["constants"]["PROMPT"]
                if told.keyer({"q": "hi"})[0] != expected[said]:
                    wrong.append(said)

        threads = [threading.Thread(target=target) for target in (change, read, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestVersion:
    def test_takes_the_place_of_code_and_constants(self, module: Module) -> None:
        source = (
            "PROMPT = {!r}\n@llm_cached(version={})\ndef ask(q):\n    return answer({}, PROMPT)\n"
        )
        first = module(source.format("one", 1, 1)).ask("hi")
        assert module(source.format("two", 1, 1)).ask("hi") == first
        assert module(source.format("one", 1, 2)).ask("hi") == first
        assert module(source.format("one", 2, 1)).ask("hi") != first
        assert module(source.format("one", "'1'", 1)).ask("hi") != first

    def test_needs_no_look_at_the_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(linecache, "getlines", lambda *_: pytest.fail("it was looked for"))
        assert llm_cached(version=1)(lambda q: q)("hi") == "hi"


class TestExplain:
    def lines(self, made: Any) -> list[str]:
        (near,) = made.ask.explain("hi").nearest
        return list(near.diff)

    def test_says_that_the_code_changed(self, module: Module) -> None:
        module(ASK.format("'Translate this', q")).ask("hi")
        made = module(ASK.format("'Summarise this', q"))
        assert self.lines(made) == [
            "the function's code changed: 8 characters differ at 24:"
            """ '…return answer("Translate this", q)' → '…return answer("Summarise this", q)'"""
        ]

    def test_says_which_constant_changed(self, module: Module) -> None:
        source = "PROMPT = {!r}\n" + ASK.format("PROMPT, q")
        module(source.format("Translate this")).ask("hi")
        made = module(source.format("Summarise this"))
        assert self.lines(made) == [
            "`PROMPT` changed: 8 characters differ at 0: 'Translate this' → 'Summarise this'"
        ]
        made.PROMPT = 3
        assert self.lines(made) == ["`PROMPT` changed: 'Translate this' → 3"]
        made.PROMPT = []
        assert self.lines(made) == ["`PROMPT` removed ('Translate this')"]

    def test_says_which_constant_is_new(self, module: Module) -> None:
        made = module("PROMPT = []\n" + ASK.format("PROMPT, q"))
        made.ask("hi")
        made.PROMPT = "Translate this"
        assert self.lines(made) == ["`PROMPT` added ('Translate this')"]

    def test_says_what_changed_in_a_tuple(self, module: Module) -> None:
        made = module("MODELS = ('a', 'b')\n" + ASK.format("MODELS, q"))
        made.ask("hi")
        made.MODELS = ("a", "c")
        assert self.lines(made) == ["`MODELS[1]` changed: 'b' → 'c'"]

    def test_says_that_long_code_changed(self, module: Module) -> None:
        source = f"@llm_cached\ndef ask(q):\n    return '{'x' * 9000}{{}}'\n"
        module(source.format("a")).ask("hi")
        assert self.lines(module(source.format("b"))) == ["the function's code changed"]

    def test_says_that_the_version_changed(self, module: Module) -> None:
        source = "@llm_cached(version={})\ndef ask(q):\n    return 1\n"
        module(source.format(1)).ask("hi")
        assert self.lines(module(source.format(2))) == ["version: 1 → 2"]

    def test_an_argument_of_the_name_is_an_argument(self) -> None:
        @llm_cached
        def ask(q: str, code: str, constants: int = 1) -> str:
            return q

        ask("hi", "abc")
        (near,) = ask.explain("hi", "abd", 2).nearest
        assert near.diff == ("code: 'abc' → 'abd'", "constants: 1 → 2")

    def test_the_log_of_a_miss_says_it_too(
        self, module: Module, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = "PROMPT = {!r}\n" + ASK.format("PROMPT, q")
        module(source.format("one")).ask("hi")
        with caplog.at_level(logging.DEBUG, "cachewrap"):
            module(source.format("two")).ask("hi")
        assert "`PROMPT` changed: 'one' → 'two'" in caplog.text


ATTRIBUTES = (
    "__code__ __defaults__ __doc__ __closure__ __globals__ __dict__ __kwdefaults__ __annotations__"
).split()


def update_function(old: Any, new: Any) -> None:
    """As IPython's autoreload makes an old function its successor."""
    for name in ATTRIBUTES:
        try:
            setattr(old, name, getattr(new, name))
        except (AttributeError, TypeError):
            continue


class TestAutoreload:
    OLD = "@llm_cached\ndef ask(q):\n    return answer('one', q)\n"

    def reloaded(self, module: Module, source: str) -> Any:
        ask = module(self.OLD).ask
        assert ask("hi").startswith("('one', 'hi')")
        update_function(ask, module(source).ask)
        gc.collect()
        return ask

    def test_the_new_code_counts(self, module: Module) -> None:
        ask = self.reloaded(module, self.OLD.replace("one", "two"))
        assert ask("hi").startswith("('two', 'hi')")
        assert ask("hi") == ask("hi")

    def test_a_new_parameter_counts(self, module: Module) -> None:
        source = "@llm_cached\ndef ask(q, tone='kind'):\n    return answer(tone, q)\n"
        ask = self.reloaded(module, source)
        assert ask("hi") == ask("hi", "kind") == ask("hi", tone="kind") != ask("hi", "rude")

    def test_a_new_version_counts(self, module: Module) -> None:
        ask = self.reloaded(module, self.OLD.replace("llm_cached\n", "llm_cached(version=1)\n"))
        first = ask("hi")
        update_function(
            ask, module(self.OLD.replace("llm_cached\n", "llm_cached(version=2)\n")).ask
        )
        assert ask("hi") != first

    def test_a_new_list_of_what_is_ignored_counts(self, module: Module) -> None:
        source = "@llm_cached(ignore='log')\ndef ask(q, log=None):\n    return answer(q)\n"
        ask = self.reloaded(module, source)
        assert ask("hi", 1) == ask("hi", 2) == ask("hi")

    @pytest.mark.parametrize("options", ["key=lambda q: 'one'", "seed=None", "samples=True"])
    def test_new_options_count(self, module: Module, options: str) -> None:
        ask = self.reloaded(module, self.OLD.replace("llm_cached\n", f"llm_cached({options})\n"))
        first = ask("hi")
        if "key" in options:
            assert ask("ho") == first
        else:
            assert ask("hi") != first

    def test_a_new_colour_counts(self, module: Module) -> None:
        ask = self.reloaded(module, "@llm_cached\ndef ask(q):\n    yield answer(q)\n")
        assert list(ask("hi")) == list(ask("hi"))

    def test_what_is_asked_beside_the_call_counts(self, module: Module) -> None:
        ask = self.reloaded(module, "@llm_cached\ndef ask(q, n=1):\n    return answer(q)\n")
        assert ask.cache_key("hi", 1) == ask.cache_key("hi") != ask.cache_key("hi", 2)

    def test_a_method_takes_its_new_parameter(self, module: Module) -> None:
        head = "class A:\n    @llm_cached(ignore='self')\n"
        source = head + "    def ask(self, q{}):\n        return answer(q)\n"
        old = module(source.format("")).A
        agent = old()
        agent.ask("hi")
        update_function(old.ask, module(source.format(", tone='kind'")).A.ask)
        assert agent.ask("hi", "kind") == agent.ask("hi") != agent.ask("hi", "rude")

    def test_what_a_decoration_was_given_goes_with_its_code(self) -> None:
        from cachewrap.function import calls

        def make() -> Any:
            space: dict[str, Any] = {"llm_cached": llm_cached}
            exec("@llm_cached\ndef ask(q): return q", space)
            return space["ask"]

        made = make()
        made("hi")
        gone, held = weakref.ref(made.__code__), len(calls._settings)
        del made
        gc.collect()
        assert gone() is None
        assert len(calls._settings) < held


cloudpickle: Any = None
for name in ("cloudpickle", "joblib.externals.cloudpickle"):
    try:
        cloudpickle = importlib.import_module(name)
        break
    except ImportError:
        continue

MAIN = """
import os, sys, pickle
from cachewrap import Cache, llm_cached

TONE = "kind"

@llm_cached(seed=7, ignore="log", ttl=50, version=VERSION)
def ask(q, log=None):
    if q == "again":
        return ask("hi")
    return f"{q} {TONE} {os.urandom(4).hex()}"

def indirect(q):
    return ask(q)

echo = llm_cached(lambda q: f"{q} {TONE} {os.urandom(4).hex()}")

def closing(upstream, tone):
    return llm_cached(lambda q: upstream(q, tone) + os.urandom(4).hex())

def make(model):
    @llm_cached
    def inner(q):
        return f"{model} {q} {os.urandom(4).hex()}"
    return inner

class Agent:
    @llm_cached(ignore="self")
    def ask(self, q):
        return f"{q} {os.urandom(4).hex()}"

    @llm_cached(ignore="cls")
    @classmethod
    def of_class(cls, q):
        return f"{q} {os.urandom(4).hex()}"

    @llm_cached
    @staticmethod
    def static(q):
        return f"{q} {os.urandom(4).hex()}"

made = closing(lambda q, tone: q + tone, "kind")
THINGS = [ask, echo, made, make("m"), Agent().ask, Agent.of_class, Agent.static]
"""

SENDS = """
import importlib
cloudpickle = importlib.import_module(sys.argv[1])
with open("sent", "wb") as file:
    file.write(cloudpickle.dumps([*THINGS, indirect]))
print(*[thing.cache_key("hi") for thing in THINGS])
"""

RECEIVES = """
import pickle
from cachewrap import Cache
with open("sent", "rb") as file:
    *things, indirect = pickle.load(file)
print(*[thing.cache_key("hi") for thing in things])
with Cache.memory():
    for thing in things:
        assert thing("hi") == thing("hi"), thing
    assert things[0]("hi", log=1) == things[0]("again") == indirect("hi")
"""


@pytest.mark.skipif(cloudpickle is None, reason="there is no cloudpickle")
class TestCloudpickle:
    @pytest.mark.parametrize("version", [None, 3])
    def test_functions_of_a_program_arrive_decorated_and_with_their_keys(
        self, tmp_path: Path, version: int | None
    ) -> None:
        (tmp_path / "main.py").write_text(
            MAIN.replace("VERSION", str(version)) + SENDS, encoding="utf-8"
        )
        sent = _run(["main.py", cloudpickle.__name__], tmp_path)
        (tmp_path / "main.py").unlink()
        assert _run(["-c", RECEIVES], tmp_path) == sent

    def test_constants_count_where_the_function_arrives(self) -> None:
        space: dict[str, Any] = {"__name__": "__main__", "llm_cached": llm_cached}
        exec("N = 1\n@llm_cached\ndef ask(q): return N", space)
        here = space["ask"]
        there = pickle.loads(cloudpickle.dumps(here))
        assert there is not here
        assert keys(here, there) == keys(here)
        there.__globals__["N"] = 2
        assert len(keys(here, there)) == 2

    def test_what_the_decorator_was_given_arrives(self) -> None:
        retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(4), reraise=True)
        cache = Cache.memory(7)

        def make() -> Any:
            @llm_cached(
                cache=cache,
                when=lambda answer: True,
                key=lambda q: "one",
                retry=retry,
                samples=True,
            )
            def ask(q: str) -> str:
                return q

            return ask

        given = pickle.loads(cloudpickle.dumps(make()))._self_plan.settings
        assert given["cache"].seed == "7"
        assert (given["when"]("x"), given["key"]("x"), given["samples"]) == (True, "one", True)
        assert (given["retry"].stop.max_attempt_number, given["retry"].reraise) == (4, True)

    def test_an_importable_function_goes_by_its_name(self, module: Module) -> None:
        made = module(
            ASK.format("q") + "class A:\n    @llm_cached\n    def ask(self, q): return q\n"
        )
        assert pickle.loads(cloudpickle.dumps(made.ask)) is made.ask
        assert b"llm_cached" not in cloudpickle.dumps(made.ask)

    def test_a_function_of_a_module_that_goes_by_value_arrives_decorated(
        self, module: Module
    ) -> None:
        made = module(ASK.format("q"))
        cloudpickle.register_pickle_by_value(made)
        try:
            there = pickle.loads(cloudpickle.dumps(made.ask))
        finally:
            cloudpickle.unregister_pickle_by_value(made)
        assert there is not made.ask
        assert keys(there, made.ask) == keys(there)

    @pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="there is no joblib")
    def test_joblibs_workers_share_the_answers_of_all_runs(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").write_text(
            "import os\nfrom joblib import Parallel, delayed\nfrom cachewrap import llm_cached\n"
            "@llm_cached\ndef ask(q):\n    return f'{q} {os.urandom(4).hex()}'\n"
            "if __name__ == '__main__':\n"
            "    print(*Parallel(2)(delayed(ask)(q) for q in ['a', 'b']), ask('a'))\n",
            encoding="utf-8",
        )
        first, second = (_run(["main.py"], tmp_path) for _ in range(2))
        assert first == second
        assert first[:2] == first[-2:]


def test_a_method_that_is_asked_of_its_class_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(Sender.ask))(Sender(), "hi") == "hi"
    assert pickle.loads(pickle.dumps(Sender.static))("hi") == "hi"


class Sender:
    @llm_cached(ignore="self")
    def ask(self, q: str) -> str:
        return q

    @llm_cached
    @staticmethod
    def static(q: str) -> str:
        return q


def test_a_decorated_function_is_still_a_function_to_those_who_ask() -> None:
    ask = llm_cached(lambda q: q)
    assert isinstance(ask, type(lambda: 0))
    assert not isinstance(ask, ModuleType)
