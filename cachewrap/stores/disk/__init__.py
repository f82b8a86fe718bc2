"""The disk store: entries live in a diskcache folder, as bytes, one folder for each seed."""

from cachewrap.stores.disk.store import DiskStore

__all__ = ["DiskStore"]
