"""The stand-in as a program: prints its base URL and serves until its standard input ends."""

from __future__ import annotations

import sys

from standin.server import Upstream


def main() -> None:
    """Serve until standard input ends or the program is interrupted."""
    with Upstream() as upstream:
        print(upstream.base_url, flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
