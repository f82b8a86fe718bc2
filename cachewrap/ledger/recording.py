"""The writing of runs: calls that have ended wait in memory, and a thread writes them down."""
