"""The benchmarks: python -m benchmarks.run."""
