"""The requests and answers that the rows are timed on: of the sizes that people send."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

_WORDS = (
    "the a of and to in is that for it as was with be by on not he his but at are this have from or"
    " had an they which one you were all her she there would their we him been has when who will no"
    " more if out so up said what its about than into them can only other time new some could these"
).split()


@dataclass(frozen=True)
class Size:
    """A conversation and its answer.

    Args:
        name: what the rows call it.
        messages: the number of messages.
        characters_in: the characters of all messages together.
        characters_out: the characters of the answer.
    """

    name: str
    messages: int
    characters_in: int
    characters_out: int

    def conversation(self) -> list[dict[str, Any]]:
        """The messages, the same in every run."""
        each = self.characters_in // self.messages
        return [
            {"role": ("user", "assistant")[index % 2], "content": text(each, index)}
            for index in range(self.messages)
        ]

    def answer(self) -> str:
        """The answer, the same in every run."""
        return text(self.characters_out, -1)


def text(characters: int, seed: int) -> str:
    """Words of English, the same for the same seed."""
    draw = random.Random(seed)
    return " ".join(draw.choices(_WORDS, k=characters))[:characters]


SMALL = Size("small", 2, 1_000, 1_200)
BIG = Size("big", 40, 40_000, 8_000)
