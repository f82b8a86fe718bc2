"""The page of `cachewrap report` in a real browser. Run by the tox environment `browser`."""
