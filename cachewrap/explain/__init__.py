"""Explanations of a miss: the nearest requests that are stored, and how they differ from it."""

from cachewrap.explain.nearest import COMPARED, Explanation, Near, attempt, explain_request, nearest

__all__ = ["COMPARED", "Explanation", "Near", "attempt", "explain_request", "nearest"]
