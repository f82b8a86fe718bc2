"""The real SDKs of OpenAI and Anthropic for Node, told what to call."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an SDK.

    Args:
        sdk: ``openai`` or ``anthropic``.
        url: the base URL of its client.
        method: such as ``chat.completions.create``.
        params: its arguments.
        headers: further ones of the request.
        file: the content of a file that the parameter ``file`` gets.
        key: the credential.
        leave_after: how many pieces of a stream are read before it is left.
    """

    sdk: str
    url: str
    method: str
    params: Any
    headers: Any = None
    file: str | None = None
    key: str = "sk-test"
    leave_after: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an SDK made of a call.

    Args:
        value: the model, as JSON; of a stream, the list of its pieces.
        status: of the answer.
        headers: of the answer.
        error: the class of the error, its message, code and type; None where there is none.
    """

    value: Any = None
    status: int | None = None
    headers: Any = None
    error: Any = None

    @property
    def mark(self) -> str | None:
        """What the proxy says of the answer."""
        mark: str | None = (self.headers or {}).get("x-cachewrap")
        return mark


@dataclass(frozen=True, slots=True)
class Node:
    """A way to run calls in a Node process.

    Args:
        modules: the folder where the SDKs are.
    """

    modules: Path

    def run(self, *calls: Call, together: bool = False) -> list[Outcome]:
        """What the calls came to, one after the other or all at once."""
        work = [{name: getattr(call, name) for name in Call.__dataclass_fields__} for call in calls]
        done = subprocess.run(
            ["node", str(Path(__file__).parent / "calls.cjs")],
            input=json.dumps({"calls": work, "together": together}),
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "NODE_PATH": str(self.modules)},
        )
        assert done.returncode == 0, done.stderr
        return [Outcome(**one) for one in json.loads(done.stdout)]

    def one(self, call: Call) -> Outcome:
        """What one call came to."""
        return self.run(call)[0]
