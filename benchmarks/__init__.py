"""Speed, against a hand-written loop in the same run: `python -m benchmarks --help`."""
