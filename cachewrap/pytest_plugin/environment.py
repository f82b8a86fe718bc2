"""The environment of a run: the mode that it asks for, and placeholders for keys in mode replay."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

PLACEHOLDER: Final = "placeholder-of-cachewrap"
"""What stands for a key that no call in mode replay needs."""

FOLDER: Final = "cassettes"

# As `cachewrap.policy` has it, which is not imported before a test asks for a cassette.
_MODE_VARIABLE: Final = "CACHEWRAP_MODE"

_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("CO_API_KEY", "COHERE_API_KEY"),
    "google.genai": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistralai": ("MISTRAL_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
}
"""The variables that an SDK reads its key from. None is set where one of the same SDK is set.

Those that other tools read as well are not here: ``HF_TOKEN`` opens public files no longer where
it is wrong, and ``AWS_ACCESS_KEY_ID`` comes before the roles and profiles of a machine.
"""

_INSTEAD: Final[dict[str, tuple[str, ...]]] = {
    "anthropic": ("ANTHROPIC_AUTH_TOKEN",),
    "openai": ("OPENAI_ADMIN_KEY",),
}
"""What is given to an SDK in place of a key: then it needs none."""

_AZURE: Final = "AZURE_OPENAI_ENDPOINT", ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN")
_WITH_OPENAI: Final = {"OPENAI_AGENTS_DISABLE_TRACING": "1"}
"""What goes with the key of OpenAI: without one, the Agents SDK sends its traces to nobody."""

_OPTIONS: Final = (
    *("llm_cache", "llm_cache_allowed_hosts", "llm_cache_auto", "llm_cache_block_network"),
    *("llm_cache_dir", "llm_cache_placeholders", "llm_cache_same"),
)
"""The ini options of this plugin: a project that has one uses it."""

_LOOKED: Final = 2000  # folders that are searched for a cassette
_NEVER: Final = frozenset({"node_modules", "site-packages", "venv", "__pycache__"})


def asked_mode(config: pytest.Config, marked: str | None = None) -> tuple[str, str]:
    """The mode of a test, and what asks for it, neither of which is checked.

    It is that of the command line, else the test's marker's, the environment's, the ini file's;
    without any of them it is replay where ``CI`` is set, else normal.
    """
    options = getattr(config, "known_args_namespace", None) or config.option
    sources = (
        (getattr(options, "llm_cache", None), "--llm-cache"),
        (getattr(config.option, "llm_cache", None), "--llm-cache"),  # of a worker of pytest-xdist
        (marked, "@pytest.mark.llm_cache(mode=...)"),
        (os.environ.get(_MODE_VARIABLE), _MODE_VARIABLE),
        (config.getini("llm_cache"), "the ini option llm_cache"),
    )
    for given, name in sources:
        if given:
            return given, name
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return ("replay" if in_ci else "normal"), "CI"


class Placeholders:
    """The placeholders of a run, for SDKs that take no client without a key.

    They are there from before the first ``conftest.py`` on, in mode replay and where the project
    has cassettes or an option of this plugin, and are taken out at the end.

    Attributes:
        names: the variables that hold one.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._values: dict[str, str] = {}
        self._before: dict[str, str | None] = {}

    def put(self, config: pytest.Config) -> None:
        """Set the variables that are not set, if the run wants them."""
        chosen = config.getini("llm_cache_placeholders")
        values = {}
        if "none" not in chosen and asked_mode(config)[0] == "replay" and _uses(config):
            values = _missing()
            values |= {name: PLACEHOLDER for name in chosen if not os.environ.get(name)}
        self._before = {name: os.environ.get(name) for name in values}
        # Those that the process began with are of the run that it is a worker of.
        kept = {n: value for n, value in os.environ.items() if value == PLACEHOLDER}
        self._values = {**kept, **values}
        self.names = tuple(sorted(n for n, v in self._values.items() if v == PLACEHOLDER))
        os.environ.update(values)

    def remove(self) -> None:
        """Take back what was set."""
        self._take(self._before)

    def _take(self, names: Iterable[str]) -> list[str]:
        taken = [name for name in names if os.environ.get(name) == self._values[name]]
        for name in taken:
            before = self._before.get(name)
            if before is None:
                del os.environ[name]
            else:  # a forge gives a secret that is not there as an empty text
                os.environ[name] = before
        return taken

    def _give(self, names: Iterable[str]) -> list[str]:
        given = [name for name in names if not os.environ.get(name)]
        os.environ.update({name: self._values[name] for name in given})
        return given

    @contextmanager
    def absent(self) -> Iterator[None]:
        """Have none inside: a test without a cassette sees the environment as it is."""
        taken = self._take(self._values)
        try:
            yield
        finally:
            self._give(taken)

    @contextmanager
    def present(self) -> Iterator[None]:
        """Have them inside, where they are `absent`."""
        given = self._give(self._values)
        try:
            yield
        finally:
            self._take(given)

    def explain(self, error: BaseException) -> None:
        """Add to an error for a wrong key that there was none."""
        holder = getattr(error, "response", None)
        status = getattr(error, "status_code", None) or getattr(holder, "status_code", None)
        if isinstance(error, AssertionError):
            return
        if self.names and (status in (401, 403) or PLACEHOLDER[:8] in str(error)):
            error.add_note(
                "(no key is set: in mode replay cachewrap's pytest plugin puts placeholders in the"
                f" place of keys: {', '.join(self.names)}. This call went upstream all the same:"
                " give the test a cassette, or set the key)"
            )


def _missing() -> dict[str, str]:
    """The variables of the SDKs that are installed and have no key."""
    found: dict[str, str] = {}
    for sdk, names in _KEYS.items():
        if not _is_there(sdk):
            continue
        if not any(os.environ.get(name) for name in (*names, *_INSTEAD.get(sdk, ()))):
            found.update(dict.fromkeys(names, PLACEHOLDER))
    if "OPENAI_API_KEY" in found:
        found |= {name: v for name, v in _WITH_OPENAI.items() if name not in os.environ}
    endpoint, names = _AZURE
    # Where it is not used, its key would have the SDK ask which of the two services is meant.
    if os.environ.get(endpoint) and not any(os.environ.get(name) for name in names):
        found[names[0]] = PLACEHOLDER
    return found


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _uses(config: pytest.Config) -> bool:
    """Whether a project uses this plugin: it says so, or has a cassette."""
    options = getattr(config, "known_args_namespace", config.option)
    if getattr(options, "llm_cache", None) or any(map(config.getini, _OPTIONS)):
        return True
    given = [arg.partition("::")[0] for arg in getattr(options, "file_or_dir", None) or ()]
    here = config.invocation_params.dir
    places = [here / arg for arg in given]
    places = places or [config.rootpath / place for place in config.getini("testpaths")]
    return any(_has_cassettes(place) for place in places or [config.rootpath])


def _has_cassettes(place: Path) -> bool:
    root = place.parent if place.is_file() else place
    for looked, (folder, inner, _) in enumerate(os.walk(root)):
        if FOLDER in inner and any(Path(folder, FOLDER).rglob("*.jsonl")):
            return True
        inner[:] = [name for name in inner if name[:1] != "." and name not in _NEVER]
        if looked > _LOOKED:
            break
    return False
