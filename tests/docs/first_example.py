"""The README's first example in an empty environment: run twice, the second time from the cache.

`python tests/docs/first_example.py` runs it with the Python that it is given, which needs nothing
but the package, against a stand-in on loopback.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from standin import Upstream  # by the path of a line before


def main() -> None:
    """Run the example twice, and exit with 1 unless the second run made no call."""
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"```python\n# (\w+\.py)\n(.*?)```", readme, re.S)
    assert found is not None, "the README has no example in a file"
    with Upstream() as upstream, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / found[1]).write_text(found[2], "utf-8")
        service = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": upstream.base_url}
        seen = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, found[1]],
                cwd=folder,
                env={**os.environ, **service},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            seen.append(done.stdout.splitlines())
            print(done.stdout, end="")
        if seen[0][0] != seen[1][0] or "hits=1" not in seen[1][-1] or upstream.calls != 1:
            sys.exit(f"the second run was not answered from the cache: {upstream.calls} calls")


if __name__ == "__main__":
    main()
