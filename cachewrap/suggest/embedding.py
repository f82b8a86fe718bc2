"""Embeddings of texts by a small static model, and an index of them; both come with packages.

The model is a table of a vector for each piece of a word, which the wheel of `wordllama` brings: it
is read from there, so that nothing is downloaded. A text is the mean of its pieces. That tells what
a text is about, and neither the order of its words nor what turns its meaning around.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cachewrap.errors import ConfigurationError

_WEIGHTS: Final = ("weights", "l2_supercat_256.safetensors")
_TOKENS: Final = ("tokenizers", "l2_supercat_tokenizer_config.json")
_PIECES: Final = 512
"""Pieces of a text that count."""

_AT_ONCE: Final = 1024
_FEW: Final = 1024
"""Texts that are compared each with each; more of them go through an index."""


class Model:
    """The model, loaded.

    Raises `ConfigurationError` where it is not installed.
    """

    def __init__(self) -> None:
        try:
            numpy: Any = import_module("numpy")
            load_file: Any = import_module("safetensors.numpy").load_file
            tokenizer: Any = import_module("tokenizers").Tokenizer
            found = find_spec("wordllama")  # itself it would set up the program's logging
            home = Path(next(iter((found and found.submodule_search_locations) or ())))
            table = load_file(home.joinpath(*_WEIGHTS))["embedding.weight"]
            self._tokens: Any = tokenizer.from_file(str(home.joinpath(*_TOKENS)))
        except (ImportError, StopIteration, OSError, KeyError) as error:
            name = getattr(error, "name", None) or "wordllama"
            raise ConfigurationError(
                f"what means the same needs {name}: pip install 'cachewrap[meaning]'"
            ) from None
        self._numpy = numpy
        self._table: Any = table.astype(numpy.float32)
        self._tokens.no_padding()
        self._tokens.enable_truncation(_PIECES)

    def vectors(self, texts: Sequence[str]) -> Any:
        """A vector of length one for each text, of length none for a text without a word."""
        numpy = self._numpy
        made = numpy.zeros((len(texts), self._table.shape[1]), dtype=numpy.float32)
        for start in range(0, len(texts), _AT_ONCE):
            batch = list(texts[start : start + _AT_ONCE])
            for at, told in enumerate(
                self._tokens.encode_batch(batch, add_special_tokens=False), start
            ):
                if told.ids:
                    made[at] = self._table[told.ids].mean(axis=0)
        lengths = numpy.linalg.norm(made, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        return made / lengths


@lru_cache(maxsize=1)
def model() -> Model:
    """The model, loaded once. Raises `ConfigurationError` where it is not installed."""
    return Model()


def alike(texts: Sequence[str], at_least: float, most: int) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts that are alike: the places of both, and how much, from 0 to 1.

    Args:
        texts: the texts, all different.
        at_least: pairs are at least so much alike.
        most: pairs, at most, of each text: its nearest ones.

    Raises `ConfigurationError` where what it takes is not installed.
    """
    try:
        usearch: Any = import_module("usearch.index")
    except ImportError as error:
        raise ConfigurationError(
            f"what means the same needs {error.name}: pip install 'cachewrap[meaning]'"
        ) from None
    vectors = model().vectors(texts)
    most = min(most + 1, len(texts))  # each is the nearest of itself
    if len(texts) <= _FEW:
        found = usearch.search(vectors, vectors, most, usearch.MetricKind.Cos, exact=True)
    else:
        index = usearch.Index(ndim=vectors.shape[1], metric="cos", dtype="i8", expansion_add=64)
        index.expansion_search = 32
        index.add(None, vectors)
        found = index.search(vectors, most)
    seen: set[tuple[int, int]] = set()
    for one, others in enumerate(found.keys.tolist()):
        for other in others:
            pair = (min(one, other), max(one, other))
            if other == one or pair in seen:
                continue
            seen.add(pair)
            likeness = min(1.0, float(vectors[one] @ vectors[other]))  # the index rounds
            if likeness >= at_least:
                yield *pair, likeness
