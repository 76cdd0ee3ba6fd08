"""How cost grows: the same jobs, ten to ten thousand in one session, on real sockets.

The session works in a process of its own and the server in another, so that CPU and memory are the client's alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.figures import Figure
from benchmarks.targets import LIBRARY, Target, ratios
from benchmarks.workloads import MAX_RUNNING
from hailuo_async._engine.stream import LOOKAHEAD

COUNTS = (10, 100, 300, 1_000, 10_000)
QUICK_COUNTS = (10, 300, 1_000)
JOURNAL_COUNTS = (300, 1_000)
#: Outcomes that are taken of the stream over a million jobs.
TAKEN, QUICK_TAKEN = 3_000, 500
#: The most jobs that such a stream may hold: those that run, wait for a slot, or have not been read.
AHEAD = MAX_RUNNING + 2 * LOOKAHEAD
#: Runs of each for which a few hundredths count. Few jobs have no target, and many are an average by themselves.
REPEATS, REPEATED = 5, (300, 1_000)
#: A workload that takes longer than this is stuck.
PATIENCE_S = 300.0

_ROOT = Path(__file__).parents[1]
_NAMES = {
    "stream": "{:,} jobs, a stream",
    "callers": "{:,} jobs, a task each",
    "million": "{:,} jobs, a stream of a million",
}


@attrs.frozen
class Load:
    """One of ``benchmarks.workloads``, and its options."""

    workload: str
    jobs: int
    has_journal: bool = False

    @property
    def name(self) -> str:
        return _NAMES[self.workload].format(self.jobs) + (", with journal" if self.has_journal else "")

    @property
    def repeats(self) -> int:
        """How often it is measured."""
        return REPEATS if self.jobs in REPEATED else 1

    def run(self, base_url: str) -> dict[str, float]:
        """What it comes to, in a fresh process. Raises ``CalledProcessError``; why, stands on the standard error."""
        options = {"base_url": base_url, "jobs": self.jobs} | ({"has_journal": True} if self.has_journal else {})
        command = [sys.executable, "-m", "benchmarks.workloads", self.workload, json.dumps(options)]
        run = subprocess.run(command, stdout=subprocess.PIPE, cwd=_ROOT, timeout=PATIENCE_S, check=True)
        values: dict[str, float] = json.loads(run.stdout)
        return values


def loads(is_quick: bool) -> list[Load]:
    """Every one that is measured."""
    counts = QUICK_COUNTS if is_quick else COUNTS
    return [
        *(Load(workload, jobs) for workload in ("stream", "callers") for jobs in counts),
        *(Load(workload, jobs, True) for workload in ("stream", "callers") for jobs in JOURNAL_COUNTS),
        Load("million", QUICK_TAKEN if is_quick else TAKEN),
    ]


def measure_growth(is_quick: bool) -> list[Figure]:
    """All loads take turns, so that a busy moment of the machine does not meet one of them alone; medians of them."""
    runs: dict[Load, list[dict[str, float]]] = {load: [] for load in loads(is_quick)}
    with serving() as base_url:
        for turn in range(1 if is_quick else REPEATS):
            for load, values in runs.items():
                if turn < load.repeats:
                    values.append(load.run(base_url))
    return [Figure(subject=LIBRARY, case=load.name, values=_medians(values)) for load, values in runs.items()]


@contextmanager
def serving() -> Iterator[str]:
    """The small server of the peers in a process of its own, and its origin. It ends with its standard input."""
    command = [sys.executable, "-m", "benchmarks.peers.server", "{}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=_ROOT) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.communicate()


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def growth_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """Many jobs cost no more each than few, a journal two fifths more at most, and of a million few are held."""
    for workload in ("stream", "callers"):
        yield from _cost(figures, Load(workload, 10_000), Load(workload, 300), 1.1)
        for jobs in JOURNAL_COUNTS:
            yield from _cost(figures, Load(workload, jobs, True), Load(workload, jobs), 1.4)
    for figure in figures:
        if "pulled_ahead" in figure.values:
            yield Target(f"{figure.case}: most jobs pulled and not told", figure.values["pulled_ahead"], AHEAD)
            yield Target(f"{figure.case}: growth after a tenth, in MB", figure.values["grown_mb"], 4.0)


def _cost(figures: Sequence[Figure], over: Load, under: Load, bound: float) -> Iterator[Target]:
    yield from ratios(figures, (LIBRARY, over.name), (LIBRARY, under.name), {"cpu_ms_per_job": bound})
