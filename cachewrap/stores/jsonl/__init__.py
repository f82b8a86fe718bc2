"""The JSONL store: entries live in one text file, a line each, that people read and review."""

from cachewrap.stores.jsonl.store import JsonlStore

__all__ = ["JsonlStore"]
