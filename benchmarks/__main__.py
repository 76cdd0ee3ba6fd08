"""``python -m benchmarks``: every figure, one table each."""

from __future__ import annotations

import sys

from benchmarks.tables import print_limits

if __name__ == "__main__":
    sys.exit(print_limits())
