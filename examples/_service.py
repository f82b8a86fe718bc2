"""Which service the examples talk to: the real one with a key, without one a local stand-in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from standin import Upstream

PORT = int(os.environ.get("EXAMPLES_PORT", "14141"))
MANNER = {"delay": 0.4, "gap": 0.02}


@dataclass(frozen=True)
class Service:
    """Where an example sends its requests.

    Args:
        model: the model to ask for.
        client: the arguments of the provider's client that reach the service.
        stand_in: the stand-in, or None for the real service.
    """

    model: str
    client: dict[str, Any]
    stand_in: Upstream | None

    def calls(self, misses: int) -> int:
        """Requests that reached the service: the stand-in counts them itself, and for the real
        one the cache's own count of ``misses`` has to do."""
        return misses if self.stand_in is None else self.stand_in.calls


@dataclass(frozen=True)
class Provider:
    """One of the services: its name, where its client looks for a key, and a model to ask for."""

    name: str
    variable: str
    model: str


OPENAI = Provider("OpenAI", "OPENAI_API_KEY", os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))
ANTHROPIC = Provider(
    "Anthropic", "ANTHROPIC_API_KEY", os.environ.get("ANTHROPIC_MODEL", "claude-haiku-4-5")
)


@contextmanager
def service(provider: Provider = OPENAI) -> Iterator[Service]:
    """The service to talk to; says which on the first line of output.

    A service's address is part of every request. So the stand-in takes the same port each time,
    if that is free, and a second run of an example finds the answers of the first.
    """
    with ExitStack() as stack:
        name, variable, model = provider.name, provider.variable, provider.model
        if os.environ.get(variable):
            print(f"Service: {name} with model {model} ({variable} is set).", flush=True)
            yield Service(model, {}, None)
            return
        try:
            upstream = stack.enter_context(Upstream(PORT, **MANNER))
        except OSError:
            upstream = stack.enter_context(Upstream(**MANNER))
        base_url = upstream.root_url if provider is ANTHROPIC else upstream.base_url
        print(f"Service: a stand-in at {base_url} ({variable} is not set).", flush=True)
        yield Service("stand-in", {"base_url": base_url, "api_key": "none"}, upstream)
