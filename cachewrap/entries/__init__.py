"""What is stored, as objects: `StoredEntry`, and the filters that choose among them."""

from __future__ import annotations

from cachewrap.entries.conversation import Turn
from cachewrap.entries.stored import StoredEntry

__all__ = ["StoredEntry", "Turn"]
