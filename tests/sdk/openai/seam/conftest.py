"""A plain client of the SDK, for tests that look at the seam from both sides."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from standin import Upstream


@pytest.fixture
def client(up: Upstream) -> Iterator[openai.OpenAI]:
    """A client that does not retry."""
    with openai.OpenAI(api_key="sk-secret", base_url=up.base_url, max_retries=0) as client:
        yield client
