"""Each block of code of the documentation does what it says, one after the other on its page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from docs.answers import Answers
from docs.pages import PAGES, Block, blocks, name_of, needed
from docs.reader import Reader
from standin import Upstream

BLOCKS = {page: blocks(page) for page in PAGES}


@pytest.fixture(scope="module")
def reader_of(
    answering: tuple[Upstream, list[Callable[[str], str | None]]],
    redis_address: Callable[[], str],
    folders: Callable[[str], Path],
) -> Iterator[Callable[[Path], Reader]]:
    """The reader of a page, until the next one's turn.

    A fixture with a parameter would begin the page anew for each of its blocks.
    """
    there: dict[Path, Reader] = {}

    def close() -> None:
        for reader in there.values():
            reader.close()
        there.clear()

    def reader_of(page: Path) -> Reader:
        if page not in there:
            close()
            there[page] = open_page(page, answering, redis_address, folders)
        return there[page]

    yield reader_of
    close()


def open_page(
    page: Path,
    answering: tuple[Upstream, list[Callable[[str], str | None]]],
    redis_address: Callable[[], str],
    folders: Callable[[str], Path],
) -> Reader:
    """A reader at the beginning of a page."""
    upstream, current = answering
    answers = Answers()
    current[0] = answers.say
    upstream.requests.clear()
    environment = {
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": upstream.base_url,
        "OPENAI_API_BASE": upstream.base_url,
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": upstream.root_url,
        "GROQ_API_KEY": "none",
        "GROQ_BASE_URL": upstream.root_url,
        "TOGETHER_API_KEY": "none",
        "TOGETHER_BASE_URL": upstream.base_url,
        # What is here for other pages takes two seconds to import.
        "PYTEST_ADDOPTS": "-p no:langsmith_plugin -p no:valkey",
    }
    names: dict[str, object] = {"upstream": upstream, "answers": answers}
    return Reader(folders(name_of(page)), environment, redis_address, names)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.name)
        for found in BLOCKS.values()
        for block in found
        if block.language != "text"
    ],
)
def test_a_block_does_what_its_page_says(reader_of: Callable[[Path], Reader], block: Block) -> None:
    __tracebackhide__ = True
    module = needed(block.page)
    if module is not None and not find_spec(module):
        pytest.skip(f"{module} is not here: its page runs in `libraries` or `earlier`")
    found = BLOCKS[block.page]
    reader_of(block.page).has_done(found, found.index(block))
