"""Modelled times of the Ascend C kernels: python -m benchmarks.ascend.run."""
