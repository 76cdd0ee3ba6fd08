"""Figures that a stranger can make again: ``python -m benchmarks``."""
