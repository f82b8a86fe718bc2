"""The shared seam of the Stainless family of SDKs, and a few lines for each SDK.

The package is callable: ``cachewrap.patch("groq")`` is `cachewrap.patch.family.patch`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package and a function have one name here, and the import system knows only the package."""

    def __call__(
        self,
        package: str,
        cache: Any = None,
        *,
        paths: Iterable[str] = (),
        when: Any = None,
        threads: bool = True,
    ) -> Any:
        from cachewrap.patch.family import patch

        return patch(package, cache, paths=paths, when=when, threads=threads)


sys.modules[__name__].__class__ = _Callable
