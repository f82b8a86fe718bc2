"""Suggestions: rules that would join stored requests, and pairs of them that mean the same.

Nothing here changes what is stored, and no model is asked.
"""

from cachewrap.suggest.pairs import Pair, alike

__all__ = ["Pair", "alike"]
