"""``python -m benchmarks soak --simulated``: many random lives on a virtual clock, one for each seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
#: The counts that are shown, summed over all lives.
_SHOWN = ("calls", "paid", "videos", "decisions", "killed", "stopped", "left", "troubles")


def soak_simulated(seeds: int, first: int) -> int:
    """Lives so many lives, from the seed ``first`` on. Prints what was broken, how to run that again, and a verdict.

    1 if a promise was broken: a job was paid for twice or lost, a sum was wrong, or something did not end.
    """
    counts, broken = Counter[str](), 0
    for life in _lives(first, seeds):
        counts.update(life["counts"])
        if life["problems"]:
            broken += 1
            print(f"seed {life['seed']}: python -m benchmarks soak --simulated --seeds 1 --seed {life['seed']}")
            print(*(f"    {problem}" for problem in life["problems"]), sep="\n", flush=True)
    print(f"{seeds} lives, {broken} broken: {', '.join(f'{counts[name]} {name}' for name in _SHOWN)}")
    return int(broken > 0)


def _lives(first: int, count: int) -> Iterator[dict[str, Any]]:
    """What each life came to. In a process of its own, in which sets of names have the same order each time."""
    next_seed, end = first, first + count
    while next_seed < end:
        command = [sys.executable, "-m", "benchmarks.lives", str(next_seed), str(end - next_seed)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                yield json.loads(line)
                next_seed += 1
        if process.returncode:  # it got stuck, and has said where
            words = f"STUCK, OR BROKEN DOWN: its process ended with {process.returncode}"
            yield {"seed": next_seed, "counts": {}, "problems": [words]}
            next_seed += 1
