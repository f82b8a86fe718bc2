"""A reader who does what a page says, block by block, in a folder of his own."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import contextvars
import inspect
import io
import itertools
import os
import re
import select
import signal
import subprocess
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docs.data import check_install, parse
from docs.pages import Block
from docs.seen import HOME, differences, keys

import cachewrap

MARK = "\x1e"
REDIS = "localhost:6379"  # the server of the pages
PROXY = "127.0.0.1:8141"  # what `cachewrap serve` begins to be on them
TAKEN = (
    "CACHEWRAP_",
    "OPENAI_",
    "ANTHROPIC_",
    "PYTEST_",
    "COV_",
    "CI",
    "GITHUB_",
    "PYTHONSAFEPATH",
)
INSTALLS = ("pip install", "uv add", "uv sync", "uv tool install", "pipx ", "poetry add")


class Reader:
    """One page's folder, environment and namespace, and what has been done of the page.

    Args:
        folder: an empty folder, in which everything happens.
        environment: what else programs find in their environment.
        redis: the address of the Redis server that stands for `REDIS`, when it is asked for.
        names: what the page's Python finds defined.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        redis: Callable[[], str],
        names: dict[str, object],
    ) -> None:
        self.folder = folder
        self._redis = redis
        self._keys: dict[str, str] = {}
        self._outcomes: list[BaseException | None] = []
        self._groups: list[int] = []
        self._proxy = PROXY
        self._module = types.ModuleType("__main__")
        self._module.__dict__.update(names)
        self._loop: asyncio.Runner | None = None
        self._context = contextvars.copy_context()
        kept = {name: text for name, text in os.environ.items() if not name.startswith(TAKEN)}
        found = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
        self._environment = {
            **kept,
            **environment,
            "PATH": found,
            "HOME": str(folder),
            "COLUMNS": "80",
            "LINES": "40",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "TZ": "UTC",
            "PAGER": "cat",
            "BROWSER": "true",
            "LC_ALL": "C.UTF-8",
        }

    def has_done(self, blocks: list[Block], upto: int) -> None:
        """Do what is not done yet of the blocks before one, and that one.

        Raises:
            BaseException: what came of that one.
        """
        __tracebackhide__ = True
        while len(self._outcomes) <= upto:
            self._outcomes.append(self._outcome(blocks[len(self._outcomes)]))
        if (error := self._outcomes[upto]) is not None:
            raise error

    def _outcome(self, block: Block) -> BaseException | None:
        __tracebackhide__ = True
        try:
            self._do(block)
        except (Exception, SystemExit, pytest.fail.Exception) as error:
            return error
        return None

    def _do(self, block: Block) -> None:
        __tracebackhide__ = True
        if block.not_run or block.language == "text":
            return
        if block.language == "console":
            self._type(block)
            return
        if block.language == "python":
            compile(block.code, block.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        else:
            parse(block.language, block.code)
        if block.file is not None:
            file = self.folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a" if block.continues else "w", encoding="utf-8") as written:
                written.write(self._here(block.code))
        elif block.language == "python":
            self._run(block)

    # Python

    def _run(self, block: Block) -> None:
        __tracebackhide__ = True
        printed, seen = io.StringIO(), ""
        with self._entered(), contextlib.redirect_stdout(printed):
            try:
                value = self._execute(block)
            except Exception as error:
                name = type(error).__name__
                if block.shown is None or name not in block.shown:
                    raise
                seen = "".join(traceback.format_exception_only(error))
            else:
                seen = "" if value is None else f"{value!r}\n"
        if block.shown is not None:
            out, folder = printed.getvalue(), str(self.folder)
            # The value at the end is a notebook's: a program does not show it.
            if not seen or differences(block.shown, out, folder):
                self._compare(block, block.shown_line, block.shown, out + seen)

    def _execute(self, block: Block) -> object:
        """Run the code; give the value of an expression at its end, as a notebook shows it."""
        __tracebackhide__ = True
        source = "\n" * (block.line - 1) + self._here(block.code)
        tree = ast.parse(source, str(block.page))
        last = tree.body[-1] if tree.body else None
        self._evaluate(ast.Module(tree.body[:-1], []), block)
        if isinstance(last, ast.Expr):
            return self._evaluate(ast.Expression(last.value), block)
        return self._evaluate(ast.Module(tree.body[-1:], []), block)

    def _evaluate(self, tree: ast.Module | ast.Expression, block: Block) -> object:
        __tracebackhide__ = True
        kind = "eval" if isinstance(tree, ast.Expression) else "exec"
        code = compile(
            tree, str(block.page), kind, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        names = self._module.__dict__
        if not code.co_flags & inspect.CO_COROUTINE:
            return self._context.run(eval, code, names)
        if self._loop is None:
            self._loop = asyncio.Runner()

        async def awaited() -> object:
            return await eval(code, names)

        return self._loop.run(awaited(), context=self._context)

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        """The folder, the environment and the names of the page, for as long as a block runs."""
        with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
            warnings.simplefilter("error", cachewrap.CacheWarning)
            patched.chdir(self.folder)
            patched.syspath_prepend(str(self.folder))
            patched.setitem(sys.modules, "__main__", self._module)
            for name, text in {**self._environment, "CACHEWRAP_HINTS": "0"}.items():
                patched.setenv(name, text)
            for name in os.environ.keys() - self._environment.keys() - {"CACHEWRAP_HINTS"}:
                patched.delenv(name)
            yield

    # A console

    def _type(self, block: Block) -> None:
        steps = commands(block)
        for _, command, _ in steps:
            if is_install(command):
                check_install(command)
        typed = [step for step in steps if not is_install(step[1])]
        for (line, command, expected), (status, seen) in zip(
            typed, self._typed([self._keyed(command) for _, command, _ in typed]), strict=True
        ):
            if expected.strip():
                self._compare(block, line, expected, seen, command)
            elif status:
                told = f"$ {command}\n{seen}"
                pytest.fail(f"{block.page}:{line}: exit status {status}\n{told}", pytrace=False)

    def _typed(self, typed: list[str]) -> list[tuple[int, str]]:
        """What came of commands, of which some go on for ever."""
        came: list[tuple[int, str]] = []
        for is_server, some in itertools.groupby(typed, is_proxy):
            commands = list(some)
            came += map(self._serve, commands) if is_server else self._shell(commands)
        return came

    def _serve(self, command: str) -> tuple[int, str]:
        """Start a proxy, in the place of the one before, whose upstream is the stand-in."""
        root = self._environment["ANTHROPIC_BASE_URL"]
        upstreams = "".join(
            f" --upstream {name}={root}"
            for name in ("openai", "anthropic")
            if f"--upstream {name}=" not in command
        )
        port = "" if "--port" in command else " --port 0"
        with (self.folder.parent / f"{self.folder.name}.served").open("a") as told:
            process = subprocess.Popen(
                ["bash", "-c", f"{self._here(command)}{port}{upstreams}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
                start_new_session=True,
                text=True,
            )
        self._groups.append(process.pid)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30)
        line = process.stdout.readline() if ready else ""
        if found := re.search(r":(\d+)\s*$", line):
            self._proxy = f"127.0.0.1:{found[1]}"
            return 0, line
        return process.wait(10), Path(told.name).read_text()

    def _shell(self, typed: list[str]) -> list[tuple[int, str]]:
        """The status of each command and what was seen of it, typed one after the other."""
        if not typed:
            return []
        script = "".join(
            f"{{ {self._here(command)}\n}} </dev/null\nprintf '%s%s%s' '{MARK}' $? '{MARK}'\n"
            for command in typed
        )
        screen = self.folder.parent / f"{self.folder.name}.screen"
        with screen.open("w+", encoding="utf-8", errors="replace") as written:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups.append(process.pid)
            process.wait(150)
            written.seek(0)
            parts = written.read().split(MARK)
        if len(parts) != 2 * len(typed) + 1:
            pytest.fail(f"bash ended before the last command:\n{parts[-1]}", pytrace=False)
        return [(int(parts[at + 1]), parts[at]) for at in range(0, 2 * len(typed), 2)]

    def _keyed(self, command: str) -> str:
        """The command with the keys of this run in the place of those that the page has shown."""

        def found(match: re.Match[str]) -> str:
            known = (key for key in self._keys if key.startswith(match[0]))
            return next((self._keys[key] for key in known), match[0])

        return re.sub(r"(?<= )[0-9a-f]{3,64}\b", found, command)

    # Both

    def _here(self, code: str) -> str:
        """The code with the addresses of this run in it."""
        code = code.replace(HOME, str(self.folder)).replace(PROXY, self._proxy)
        return code.replace(REDIS, self._redis()) if REDIS in code else code

    def _compare(self, block: Block, line: int, page: str, seen: str, command: str = "") -> None:
        told = differences(page, seen, str(self.folder))
        if told:
            typed = f"$ {command}\n" if command else ""
            pytest.fail(f"{block.page}:{line}\n{typed}{told}", pytrace=False)
        self._keys |= keys(page, seen)

    def close(self) -> None:
        """Close what the page has left open, and undo what it has done to this process."""
        with self._entered():
            for value in list(self._module.__dict__.values()):
                if isinstance(value, cachewrap.Cache):
                    value.close()
            cachewrap.unpatch_all()
            if (deactivate := getattr(cachewrap, "deactivate", None)) is not None:
                self._context.run(deactivate)
        if self._loop is not None:
            self._loop.close()
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{self.folder}{os.sep}"):
                del sys.modules[name]


def commands(block: Block) -> list[tuple[int, str, str]]:
    """What is typed in a block: the line where what is seen of it begins, the command, and that.

    A command goes on in lines that begin with ``> ``, and after a backslash.
    """
    steps: list[tuple[int, str, str]] = []
    open_line = False
    for number, line in enumerate(block.code.splitlines(), block.line):
        if open_line or (steps and not steps[-1][2] and line.startswith("> ")):
            at, command, _ = steps[-1]
            text = line.removeprefix("> ")
            steps[-1] = (at + 1, f"{command}\n{text}", "")
            open_line = text.endswith("\\")
        elif line.startswith("$ "):
            steps.append((number + 1, line[2:], ""))
            open_line = line.endswith("\\")
        elif not steps:
            pytest.fail(f"{block.page}:{number}: a console begins with `$ `", pytrace=False)
        else:
            at, command, seen = steps[-1]
            steps[-1] = (at, command, f"{seen}{line}\n")
    return steps


def is_proxy(command: str) -> bool:
    """Whether a command is a server that goes on."""
    return re.match(r"(\w+=\S* )*cachewrap serve\b", command) is not None


def is_install(command: str) -> bool:
    """Whether a command installs packages."""
    return any(words in command for words in INSTALLS)
