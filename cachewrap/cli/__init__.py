"""The command line: look at what is stored, prune and move it, run programs with it."""
