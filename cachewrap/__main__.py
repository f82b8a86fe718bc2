"""The command line as ``python -m cachewrap``, where its script is not on the path."""

from cachewrap.cli.main import main

main()
