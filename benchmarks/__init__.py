"""Measurements by command: `python -m benchmarks` lists them. Results are in docs/benchmarks.md."""
