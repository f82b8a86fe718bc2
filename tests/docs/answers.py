"""What the stand-in upstream says on the pages: answers as a model would give them."""

from __future__ import annotations

ANSWERS: dict[str, list[str]] = {
    "Name a river.": ["The Danube.", "The Mekong.", "The Nile.", "The Loire.", "The Amazon."],
    "Name a lake.": ["Lake Victoria.", "Lake Geneva.", "Loch Ness."],
    "What is the capital of France?": ["Paris."],
    "Where can I see puffins?": ["On Skomer, from April to July."],
    "Say hello.": ["Hello!", "Hi there!"],
    "hello": ["Hello! How can I help you today?"],
    "and bye": ["Goodbye!"],
}
"""Questions and their answers, in turn; a page adds its own in a block that is hidden."""


class Answers(dict[str, list[str]]):
    """The answers of one page: to each question one after the other, and from the first again."""

    def __init__(self) -> None:
        super().__init__(ANSWERS)
        self._given: dict[str, int] = {}

    def say(self, subject: str) -> str | None:
        """The next answer to the last message of a request, or None if there is none."""
        known = self.get(subject)
        if not known:
            return None
        turn = self._given[subject] = self._given.get(subject, -1) + 1
        return known[turn % len(known)]
