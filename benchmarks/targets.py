"""What the figures must reach. A target is a ratio or a count of one run, so that it means the same on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from benchmarks.columns import column
from benchmarks.figures import Figure

#: The library, as ``generate`` and as a stream; the leanest loop, and the one that is as careful with POSTs as ours.
LIBRARY, STREAM = "hailuo-async", "hailuo-async, a stream"
FLOOR, SAFE_FLOOR = "bare aiohttp", "bare aiohttp, a connection a POST"
#: What either way of calling may take at most, as a multiple of either floor.
OVER_FLOORS = {FLOOR: {"wall_s": 1.1, "cpu_s": 2.0}, SAFE_FLOOR: {"cpu_s": 1.35}}
LONGEST_STALL_MS = 20.0
#: The case that the floor is held against, and those in which the peers must be slower.
BURST, BURSTS = "300 jobs at 0.5 s", ("300 jobs at 0.5 s", "1,000 jobs at 0.5 s")
#: What must not happen to any job, with any behaviour of the service.
NEVER = ("jobs_lost", "jobs_paid_twice", "tasks_leaked")


@attrs.frozen
class Target:
    """A value that must be at most ``bound``, or at least ``bound`` where ``is_least``."""

    about: str
    value: float
    bound: float
    is_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    def __str__(self) -> str:
        word, relation = "holds" if self.holds else "MISSED", "at least" if self.is_least else "at most"
        return f"{word:<8}{self.value:>7.3g}, {relation} {self.bound:<7g}{self.about}"


def ratios(
    figures: Sequence[Figure], over: tuple[str, str], under: tuple[str, str], bounds: Mapping[str, float]
) -> Iterator[Target]:
    """Targets for one figure's values as multiples of another's, each figure named by its subject and case.

    ``bounds`` has the most that each value may be. There is no target for what was not measured.
    """
    found = {(figure.subject, figure.case): figure.values for figure in figures}
    ours, theirs = found.get(over, {}), found.get(under, {})
    whose = under[1] if over[0] == under[0] else under[0]
    who = f" of {over[0]}" if over[0] == STREAM else ""
    for name, bound in bounds.items():
        if name in ours and name in theirs:
            yield Target(
                f"{over[1]}: {column(name).heading}{who} over that of {whose}", ours[name] / theirs[name], bound
            )


def peers_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """The library, called in either way, beside both floors; and beside every peer that was there and did its work."""
    for ours in (LIBRARY, STREAM):
        for floor, bounds in OVER_FLOORS.items():
            yield from ratios(figures, (ours, BURST), (floor, BURST), bounds)
    for figure in figures:
        case, is_peer = figure.case, figure.subject not in (LIBRARY, STREAM, FLOOR, SAFE_FLOOR)
        if figure.subject in (LIBRARY, STREAM) and case == BURST:
            yield Target(f"{case}: longest stall ms of {figure.subject}", figure.values["stall_ms"], LONGEST_STALL_MS)
        elif is_peer and case in BURSTS and not figure.note.startswith("failed"):
            yield from ratios(figures, (LIBRARY, case), (figure.subject, case), {"wall_s": 1.0, "cpu_s": 1.0})


def faults_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """With any fault, a job is sent once, and a caller knows its task."""
    for figure in figures:
        if figure.subject == LIBRARY:
            yield Target(f"{figure.case}: POSTs a job", figure.values["posts_per_job"], 1.0)
            yield Target(f"{figure.case}: lost, paid twice or leaked", sum(figure.values[name] for name in NEVER), 0.0)
