"""Decisions: no await, no I/O, no clock. The time is an argument."""
