"""What a hit costs, beside what its store alone costs: `python -m benchmarks`."""
