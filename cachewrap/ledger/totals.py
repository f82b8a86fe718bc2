"""The totals of a run."""
