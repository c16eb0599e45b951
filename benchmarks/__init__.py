"""Measures finn and its peers: ``python -m benchmarks --help``."""
