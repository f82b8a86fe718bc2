"""The start of every Python that `cachewrap run` starts, before its program: then the user's own.

Also a Python of another version or environment reads it, and is left as it is.
"""

import os
import sys


def _absolute(place):  # type: ignore[no-untyped-def]
    try:
        return os.path.abspath(place)
    except OSError:  # the working directory was deleted
        return place


_here = os.path.dirname(_absolute(__file__))  # type: ignore[no-untyped-call]
sys.path[:] = [_place for _place in sys.path if _absolute(_place) != _here]  # type: ignore[no-untyped-call]


def _start():  # type: ignore[no-untyped-def]
    quiet = os.environ.get("CACHEWRAP_QUIET") or os.environ.get("CACHEWRAP_TALLY")
    try:
        if sys.version_info < (3, 11):  # noqa: UP036
            raise ImportError("it needs Python 3.11")
        from cachewrap.run.program import serve_program
    except ImportError as error:
        if not quiet:
            sys.stderr.write(
                "cachewrap: %s goes without a cache: %s\n" % (sys.executable, error)  # noqa: UP031
            )
        return
    serve_program()


_start()  # type: ignore[no-untyped-call]

_own = sys.modules.pop(__name__, None)
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
except ImportError as _error:
    if _own is not None:
        sys.modules[__name__] = _own
    if getattr(_error, "name", "sitecustomize") != "sitecustomize":
        raise
