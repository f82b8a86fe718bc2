"""The fingerprint of a function's code: what counts, what does not, and where it comes from."""

from __future__ import annotations

import functools
import itertools
import json
import linecache
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import corpus
import pytest

from cachewrap.request.code import fingerprint

PLAIN = "def ask(q):\n    return call(f'Translate {q}')\n"

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a function as the module of a file does, that is called ``ask`` there."""
    numbers = itertools.count()

    def make(source: str, name: str = "ask", **namespace: Any) -> Any:
        file = tmp_path / f"module_{next(numbers)}.py"
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        space = {"__name__": file.stem, **namespace}
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)
        found: Any = space[name]
        return found

    return make


def is_of_bytecode(found: Any) -> bool:
    return isinstance(found, dict) and list(found) == ["bytecode"]


# -- what counts -------------------------------------------------------------------------------


EQUAL = [
    pytest.param(
        "def ask(q):\n    # why\n    return call(f'Translate {q}')  # so\n", id="comments"
    ),
    pytest.param("def ask(\n  q\n):\n\n  return (call(\n f'Translate {q}',))", id="formatting"),
    pytest.param('def ask(q):\n    return call(f"Translate {q}")', id="quotes"),
    pytest.param("def ask(q):\n    'Ask.'\n    return call(f'Translate {q}')", id="docstring"),
    pytest.param("def ask(q: str) -> str:\n    return call(f'Translate {q}')", id="annotations"),
    pytest.param("def ask(q='x'):\n    return call(f'Translate {q}')", id="defaults"),
    pytest.param("\n\nx = 1\n\ndef ask(q):\n    return call(f'Translate {q}')", id="another line"),
    pytest.param("def tell(q):\n    return call(f'Translate {q}')\nask = tell", id="name"),
    pytest.param(
        "def kept(f): return f\n@kept\n@kept\ndef ask(q):\n    return call(f'Translate {q}')",
        id="decorators",
    ),
    pytest.param("def ask(q):\n    return call('Translate ' f'{q}')", id="text in parts"),
    pytest.param("def ask(q):\n    return call(f'Translate {q:}')", id="an empty format"),
    pytest.param("if 1:\n    def ask(q):\n        return call(f'Translate {q}')", id="indented"),
]

DIFFERENT = [
    pytest.param("def ask(q):\n    return call(f'Summarise {q}')", id="text"),
    pytest.param("def ask(q):\n    return call(f'Translate {q!r}')", id="conversion"),
    pytest.param("def ask(q):\n    return call(f'Translate {q:>3}')", id="format"),
    pytest.param("def ask(q):\n    return call(f'Translate {{q}}')", id="a brace"),
    pytest.param("def ask(q):\n    return call('Translate {q}')", id="no format"),
    pytest.param("def ask(q):\n    return tell(f'Translate {q}')", id="what is called"),
    pytest.param("def ask(q):\n    return call(f'Translate {q}', 1)", id="one more argument"),
    pytest.param("def ask(q):\n    q = 1\n    return call(f'Translate {q}')", id="one more line"),
    pytest.param("async def ask(q):\n    return call(f'Translate {q}')", id="async"),
    pytest.param("def ask(*q):\n    return call(f'Translate {q}')", id="kind of parameter"),
    pytest.param("def ask(q):\n    yield call(f'Translate {q}')", id="generator"),
    pytest.param("ask = lambda q: call(f'Translate {q}')", id="lambda"),
]


class TestOfAFunction:
    @pytest.mark.parametrize("source", EQUAL)
    def test_is_the_same_whatever_cannot_change_an_answer(self, make: Make, source: str) -> None:
        assert fingerprint(make(source)) == fingerprint(make(PLAIN))

    @pytest.mark.parametrize("source", DIFFERENT)
    def test_is_another_for_other_code(self, make: Make, source: str) -> None:
        found = fingerprint(make(source))
        assert isinstance(found, str)
        assert found != fingerprint(make(PLAIN))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("1", "1.0"),
            ("1", "True"),
            ("1", "'1'"),
            ("'1'", "b'1'"),
            ("0.0", "-0.0"),
            ("1e999", "inf"),
            ("None", "...  "),
            ("'\\ud800'", "'\\\\ud800'"),
            ("'a\\nb'", "'a\\\\nb'"),
            ("(1,)", "1"),
            ("(1, 2)", "[1, 2]"),
            ("{1, 2}", "[1, 2]"),
            ("{1: 2}", "{1, 2}"),
            ("a - (b - c)", "a - b - c"),
            ("a < b < c", "(a < b) < c"),
            ("f(a)(b)", "f(a, b)"),
            ("f(*a)", "f(a)"),
            ("f(**a)", "f(*a)"),
            ("f(a=b)", "f(a, b)"),
            ("a.b", "a['b']"),
            ("a[1:2]", "a[1, 2]"),
            ("a[:, 1]", "a[:1]"),
            ("1 .real", "1.0 .real"),
            ("[x for x in a if x]", "[x for x in a]"),
            ("[x for x in a]", "(x for x in a)"),
            ("lambda x: x", "lambda *x: x"),
            ("f'{a}{b}'", "f'{a}' + f'{b}'"),
            ("f'{a!r}'", "f'{a!s}'"),
            ("f'{a}'", "a"),
            ("f'{a=}'", "f'{a}'"),
            ("a if b else c", "b if a else c"),
            ("not a == b", "(not a) == b"),
        ],
    )
    def test_tells_expressions_apart(self, make: Make, one: str, other: str) -> None:
        first, second = (make(f"def ask(a=1): return {text}") for text in (one, other))
        assert fingerprint(first) != fingerprint(second)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("def tool(x):\n  'One.'\n  return x", "def tool(x):\n  'Two.'\n  return x"),
            ("def tool(x: int): return x", "def tool(x: str): return x"),
            ("def tool(x) -> int: return x", "def tool(x) -> str: return x"),
            ("def tool(x=1): return x", "def tool(x=2): return x"),
            ("@a\ndef tool(x): return x", "@b\ndef tool(x): return x"),
            ("class Answer:\n  'One.'", "class Answer:\n  'Two.'"),
            ("class Answer:\n  x: int", "class Answer:\n  x: str"),
            ("class Answer:\n  x: int\n  y: int", "class Answer:\n  y: int\n  x: int"),
            ("if a:\n  b\nc", "if a:\n  b\n  c"),
            ("while a:\n  b\nelse:\n  c", "while a:\n  b\nc"),
            ("try:\n  a\nfinally:\n  b", "try:\n  a\nexcept E:\n  b"),
        ],
    )
    def test_tells_statements_apart_and_what_an_agent_reads_inside(
        self, make: Make, one: str, other: str
    ) -> None:
        head = "from __future__ import annotations\ndef ask(a=1, b=2):\n"
        first, second = (make(head + textwrap.indent(text, " ")) for text in (one, other))
        assert fingerprint(first) != fingerprint(second)

    def test_annotations_of_local_variables_do_not_count(self, make: Make) -> None:
        first, second, third = (
            make(f"def ask(q):\n    {line}\n    if q:\n        {line}\n    return q")
            for line in ("x: int = 1", "x: str = 1", "x = 1")
        )
        assert fingerprint(first) == fingerprint(second) == fingerprint(third)

    def test_a_bare_annotation_does_not_count(self, make: Make) -> None:
        bare = "def ask(q):\n    x: int\n    return call(f'Translate {q}')"
        assert fingerprint(make(bare)) == fingerprint(make(PLAIN))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (
                "def ask(q):\n 'One.'\n return ask.__doc__",
                "def ask(q):\n 'Two.'\n return ask.__doc__",
            ),
            (
                "def ask(q: int):\n return ask.__annotations__",
                "def ask(q: str):\n return ask.__annotations__",
            ),
            (
                "def ask(q) -> int:\n return get_type_hints(ask)",
                "def ask(q) -> str:\n return get_type_hints(ask)",
            ),
            ("def ask(q):\n 'One.'\n return tell(ask)", "def ask(q):\n 'Two.'\n return tell(ask)"),
            ("def ask(q: int):\n return tell(f=ask)", "def ask(q: str):\n return tell(f=ask)"),
            (
                "def ask(q):\n 'One.'\n return getattr(ask, '__doc__')",
                "def ask(q):\n 'Two.'\n return getattr(ask, '__doc__')",
            ),
            (
                "@wraps\ndef ask(q):\n 'One.'\n return q",
                "@wraps\ndef ask(q):\n 'Two.'\n return q",
            ),
            ("@wraps\ndef ask(q) -> int: return q", "@wraps\ndef ask(q) -> str: return q"),
        ],
        ids=[
            *("docstring", "annotations", "type hints", "handed on", "handed on and annotated"),
            *("by name", "wrapped", "wrapped and annotated"),
        ],
    )
    def test_docstring_and_annotations_count_where_something_reads_them(
        self, make: Make, one: str, other: str
    ) -> None:
        first, second = (make(text, wraps=_wraps) for text in (one, other))
        assert fingerprint(first) != fingerprint(second)

    def test_of_a_function_that_calls_itself_has_no_docstring(self, make: Make) -> None:
        one, other = (f"def ask(q):\n '{text}.'\n return ask(q)" for text in ("One", "Two"))
        assert fingerprint(make(one)) == fingerprint(make(other))

    def test_is_of_the_innermost_function(self, make: Make) -> None:
        ask = make(PLAIN)
        found = fingerprint(ask)
        assert fingerprint(functools.partial(ask, "x")) == found
        assert fingerprint(functools.partial(functools.partial(ask))) == found
        assert fingerprint(staticmethod(ask)) == found
        assert fingerprint(_wraps(ask)) == found
        assert fingerprint(_wraps(_wraps(functools.partial(_wraps(ask))))) == found

    def test_is_of_the_call_of_an_object(self) -> None:
        assert fingerprint(corpus.Methods()) == "def (self, a)\n return a"
        assert fingerprint(corpus.Methods().private) == fingerprint(corpus.Methods.private)

    @pytest.mark.parametrize("function", [len, print, int, str.upper, functools.partial(len)])
    def test_what_is_not_written_in_python_has_none(self, function: Any) -> None:
        assert fingerprint(function) is None

    def test_of_long_code_is_a_digest(self, make: Make) -> None:
        first, second = (
            fingerprint(make(f"def ask(q):\n    return '{'x' * 9000}{end}'")) for end in "ab"
        )
        assert sorted(first) == ["begins", "sha256"]
        assert first["begins"] == second["begins"]
        assert first["sha256"] != second["sha256"]


def _wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


# -- the source of what runs -------------------------------------------------------------------


class TestTheSource:
    def test_edited_since_the_import_is_not_taken_for_what_runs(self, make: Make) -> None:
        ask = make(PLAIN)
        other = make(PLAIN)
        file = Path(ask.__code__.co_filename)
        file.write_text(PLAIN.replace("Translate", "Summarise"), encoding="utf-8")
        assert is_of_bytecode(fingerprint(ask))
        assert fingerprint(other) == fingerprint(make(PLAIN))

    @pytest.mark.parametrize(
        "edited",
        [
            "\n\n# above\n" + PLAIN,
            "def ask(q):\n    return 1\n\n\ndef other(): ...\n\n\n" + PLAIN,
            PLAIN + "\n\ndef ask(q):\n    return 2\n",
            "class A:\n    x = 1\n\n\n" + PLAIN,
        ],
        ids=["lower", "below another of its name", "above another", "below a class"],
    )
    def test_is_found_where_it_has_moved_to(self, make: Make, edited: str) -> None:
        ask = make(PLAIN)
        Path(ask.__code__.co_filename).write_text(edited, encoding="utf-8")
        assert fingerprint(ask) == fingerprint(make(PLAIN))

    def test_a_docstring_that_was_edited_since_is_no_other_code(self, make: Make) -> None:
        ask = make("def ask(q):\n    'One.'\n    return q")
        found = "def ask(q):\n    'Two.'\n    return q"
        Path(ask.__code__.co_filename).write_text(found, encoding="utf-8")
        assert fingerprint(ask) == "def (q)\n return q"

    def test_what_was_read_before_the_edit_does_not_hide_it(self, make: Make) -> None:
        first = make(PLAIN)
        file = Path(first.__code__.co_filename)
        linecache.getlines(str(file))
        text = PLAIN.replace("Translate", "Summarise, if you please,")
        file.write_text(text, encoding="utf-8")
        space: dict[str, Any] = {}
        exec(compile(text, str(file), "exec"), space)
        assert fingerprint(space["ask"]) == fingerprint(make(text))

    def test_of_lambdas_on_one_line_is_each_its_own(self, make: Make) -> None:
        pair = make("ask = (lambda q: q + 1), (lambda q: q + 2), (lambda q, r: q + 1)")
        assert [fingerprint(each) for each in pair] == [
            "lambda (q) (q + 1)",
            "lambda (q) (q + 2)",
            "lambda (q, r) (q + 1)",
        ]

    def test_of_a_lambda_inside_a_call(self, make: Make) -> None:
        ask = make("ask = dict(\n  a=1,\n  b=lambda q: (\n    q\n  ),\n)['b']")
        assert fingerprint(ask) == "lambda (q) q"

    def test_of_a_cell_that_was_run_again(self) -> None:
        found = []
        for number, text in enumerate(["one", "two", "one"]):
            name = f"<cell {number}>"
            source = f"def ask(q):\n    return '{text}'\n"
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            space: dict[str, Any] = {"__name__": "__main__"}
            exec(compile(source, name, "exec"), space)
            found.append(fingerprint(space["ask"]))
        assert found == ["def (q)\n return 'one'".replace("'", '"'), found[1], found[0]]
        assert found[1] != found[0]

    @pytest.mark.parametrize("magic", ["%%time\n", "\n%%capture\n%%time\n"])
    def test_of_a_cell_that_was_timed(self, monkeypatch: pytest.MonkeyPatch, magic: str) -> None:
        """IPython keeps no lines of it but in its history."""
        source = "x = 1\ndef ask(q):\n    return 'one'\n"
        cells = ["", magic + source, magic + source.replace("one", "two"), "%%time\n1 1", "ask(1)"]
        shell = SimpleNamespace(
            history_manager=SimpleNamespace(input_hist_raw=cells), transform_cell=lambda text: text
        )
        monkeypatch.setitem(
            sys.modules,
            "IPython",
            SimpleNamespace(get_ipython=lambda: shell),  # type: ignore[arg-type]
        )
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(source, "<timed exec>", "exec"), space)
        assert fingerprint(space["ask"]) == 'def (q)\n return "one"'

    def test_of_a_function_with_assertions_that_pytest_has_rewritten(self) -> None:
        def ask(q: str) -> str:
            assert q, "a question"
            return f"Translate {q}"

        def tell(q: str) -> str:
            assert q, "a question"
            return f"Summarise {q}"

        assert any("@pytest_ar" in name for name in ask.__code__.co_names)
        assert fingerprint(ask).split("\n") == [
            "def (q)",
            ' assert test=q msg="a question"',
            ' return f{"Translate ", {q}}',
        ]
        assert fingerprint(tell) != fingerprint(ask)

    @pytest.mark.parametrize("name", ["private", "calls_super", "inner_init", "inside", "wrapped"])
    def test_is_found_whatever_is_around_it(self, name: str) -> None:
        assert isinstance(fingerprint(corpus.FUNCTIONS[name]), str)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="a syntax of 3.12")
    def test_type_parameters_do_not_count(self, make: Make) -> None:
        plain = make("def ask(x): return x")
        generic = make("def ask[T](x: T) -> T: return x")
        using = make("def ask[T](x: T) -> T: return T")
        of_class = make("class A[T]:\n    def ask(self, x: T): return T, x\nask = A.ask")
        assert fingerprint(generic) == fingerprint(plain)
        assert fingerprint(using) == "def (x)\n return T"
        assert fingerprint(of_class) == "def (self, x)\n return (T, x, )"


class TestWithoutSource:
    def made(self, source: str, name: str = "<string>") -> Any:
        space: dict[str, Any] = {"__name__": "somewhere"}
        exec(compile(source, name, "exec"), space)
        return space["ask"]

    def test_is_of_the_bytecode(self) -> None:
        first = fingerprint(self.made(PLAIN))
        assert is_of_bytecode(first)
        assert fingerprint(self.made(PLAIN)) == first

    @pytest.mark.parametrize("source", DIFFERENT)
    def test_is_another_for_other_code(self, source: str) -> None:
        assert fingerprint(self.made(source)) != fingerprint(self.made(PLAIN))

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("1", "1.0", False),
            ("1", "True", False),
            ("0.0", "-0.0", False),
            ("'a'", "b'a'", False),
            ("(1, 2)", "(1, 2.0)", False),
            ("x in {1, 2}", "x in {2, 1}", True),
            ("x in {'a', 'b', 'c'}", "x in {'c', 'b', 'a'}", True),
            ("lambda: 1", "lambda: 2", False),
        ],
    )
    def test_constants_count_with_their_types(self, one: str, other: str, same: bool) -> None:
        first, second = (fingerprint(self.made(f"def ask(x): return {t}")) for t in (one, other))
        assert (first == second) is same

    def test_docstring_and_lines_do_not_count(self) -> None:
        first = self.made("def ask(q):\n    'One.'\n    return q")
        second = self.made("\n\n\ndef ask(q):\n    'Two.'\n    return q", "<elsewhere>")
        assert fingerprint(first) == fingerprint(second)

    def test_is_the_same_when_the_interpreter_has_warmed_to_it(self) -> None:
        ask = self.made("def ask(q):\n    return sum(i + q for i in range(50))")
        before = fingerprint(ask)
        for _ in range(200):
            ask(1)
        assert fingerprint(ask) == before


# -- credentials -------------------------------------------------------------------------------


class TestCredentials:
    @pytest.mark.parametrize(
        "line",
        [
            "client(api_key='{}')",
            "api_key = '{}'",
            "self.api_key = '{}'",
            "api_key: str = '{}'",
            "headers['x-api-key'] = '{}'",
            "dict = {{'password': '{}'}}",
            "(client_secret := '{}')",
            "token = q or '{}'",
            "token = q if q else '{}'",
            "token = ('{}', '{}')",
            "token = b'{}'",
            "def inner(password='{}'): ...",
            "client('sk-{}')",
            "headers = 'Bearer {}abcdef'",
            "url = 'https://user:{}@example.com'",
            "print(f'Bearer {}abcdef {{q}}')",
        ],
    )
    def test_never_count(self, make: Make, line: str) -> None:
        found = [
            fingerprint(make(f"def ask(q):\n    {line.format(text, text)}"))
            for text in ("0123456789abcdef", "fedcba9876543210")
        ]
        assert found[0] == found[1]
        assert "(hidden)" in found[0]
        assert "0123456789" not in found[0]

    @pytest.mark.parametrize(
        "line",
        [
            "password = 'What is your password?'",
            "token = ''",
            "sort_key = '{}'",
            "max_tokens = '{}0123456789'",
            "secret = fetch('{}-0123456789')",
        ],
    )
    def test_are_no_other_texts(self, make: Make, line: str) -> None:
        assert "(hidden)" not in fingerprint(make(f"def ask(q):\n    {line.format('relevance')}"))

    def test_never_count_without_source_either(self) -> None:
        made = TestWithoutSource().made
        first, second = (
            fingerprint(made(f"def ask(q):\n    return q('sk-{text}')"))
            for text in ("0123456789abcdef", "fedcba9876543210")
        )
        assert first == second


# -- every Python ------------------------------------------------------------------------------


GOLDEN = json.loads(corpus.GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", corpus.FUNCTIONS)
def test_is_the_same_on_every_python(name: str) -> None:
    assert fingerprint(corpus.FUNCTIONS[name]) == GOLDEN[name]


def test_every_kept_fingerprint_has_its_function() -> None:
    assert set(GOLDEN) == set(corpus.FUNCTIONS)
