"""How many examples property tests try: a quarter for each change, and all of them by name."""

from __future__ import annotations

import os
from typing import Final

_SHARE: Final = 1 if os.environ.get("CACHEWRAP_TEST_WHOLE") else 4


def many(count: int) -> int:
    """As many examples, or a quarter of them where not all of it is tried."""
    return count // _SHARE
