"""A project with tests for each test, and what runs in this process import, imported once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standin import Upstream

from plugin.projects import Project, import_all


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """What a run imports anew is gone after it: SDKs take seconds."""
    import_all()


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with Upstream() as upstream:
        yield Project(pytester, upstream, monkeypatch)
