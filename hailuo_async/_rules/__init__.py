"""Decisions: nothing here waits, does I/O or reads a clock. The time is an argument."""
