"""``python -m benchmarks``: every figure of the simulation, one table each; ``python -m benchmarks soak``: the soak."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.soak import soak
from benchmarks.tables import print_limits


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks for. The exit code: 1 if a figure or a promise does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Figures that a stranger can make again.")
    soaking = parser.add_subparsers(dest="what", title="instead of the tables").add_parser(
        "soak", help="batches that are killed, against a service that errs"
    )
    soaking.add_argument("--minutes", type=float, default=10.0, help="how long, at most (default: %(default)s)")
    soaking.add_argument("--kills", type=int, help="ends sooner, after the round with so many kills")
    soaking.add_argument("--seed", type=int, default=0, help="when it kills, and what goes wrong, follow from it")
    chosen = parser.parse_args(arguments)
    return soak(chosen.minutes, chosen.kills, chosen.seed) if chosen.what == "soak" else print_limits()


if __name__ == "__main__":
    sys.exit(main())
