"""``python -m cachewrap``: the command line, where its script is not on the path."""

from cachewrap.cli.main import main

main()
