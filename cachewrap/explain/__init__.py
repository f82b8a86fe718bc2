"""Explanations of a miss: the nearest requests that are stored, and how they differ from it."""

from cachewrap.explain.equal import needed
from cachewrap.explain.nearest import Explanation, Near, attempt, explain_request, nearest

__all__ = ["Explanation", "Near", "attempt", "explain_request", "nearest", "needed"]
