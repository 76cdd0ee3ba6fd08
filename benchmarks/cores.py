"""What is simulated on a virtual clock is not timed, so it runs in processes of its own, on all cores at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def on_all_cores(measure: Callable[[T], R], of: Sequence[T]) -> list[R]:
    """What ``measure``, which waits for a process, comes to for each; as many at once as there are cores.

    The last goes first, as it takes the longest.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        begun = [threads.submit(measure, each) for each in reversed(of)]
        return [each.result() for each in reversed(begun)]


def in_a_process(module: str, options: object) -> dict[str, float]:
    """What a module prints when it is run with these options, all as JSON. Sets of names are in one order."""
    command = (sys.executable, "-m", module, json.dumps(options))
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    root = Path(__file__).parents[1]
    said = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    values: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return values
