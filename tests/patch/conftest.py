"""Fixtures of the patch's own tests: the stand-in upstream, a client, a patched SDK."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from standin import Upstream

from cachewrap.cache import Cache
from cachewrap.sdk.openai import patch_openai, unpatch_openai
from cachewrap.telemetry import faults


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(up: Upstream) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-secret", base_url=up.base_url, max_retries=0) as client:
        yield client


@pytest.fixture
def cache() -> Cache:
    return Cache.memory()


@pytest.fixture
def patched() -> Iterator[None]:
    """The SDK is patched, and every warning can be given again."""
    faults.forget()
    patch_openai()
    yield
    unpatch_openai()
