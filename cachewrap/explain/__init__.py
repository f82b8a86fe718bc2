"""Explanations of a miss: the nearest requests that are stored, and how they differ from it."""

from cachewrap.explain.equal import sets_of
from cachewrap.explain.explanation import Explanation, Near
from cachewrap.explain.nearest import (
    attempt,
    explain_hit,
    explain_miss,
    explain_request,
    nearest,
)

__all__ = [
    "Explanation",
    "Near",
    "attempt",
    "explain_hit",
    "explain_miss",
    "explain_request",
    "nearest",
    "sets_of",
]
