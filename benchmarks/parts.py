"""What can be measured, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

from benchmarks.arrivals import arrivals_targets, measure_arrivals
from benchmarks.faults import FAULTS, measure_faults
from benchmarks.figures import Figure
from benchmarks.fleet import fleet_targets, measure_fleet
from benchmarks.following import following_targets, measure_following
from benchmarks.growth import growth_targets, measure_growth
from benchmarks.hosts import hosts_targets, measure_hosts
from benchmarks.limits import limits_targets, measure_limits
from benchmarks.peers.runner import measure_peers, measure_slow_peers
from benchmarks.schemes import measure_schemes, schemes_targets
from benchmarks.shares import SEEDS, measure_shares, shares_targets
from benchmarks.sockets import measure_sockets, sockets_targets
from benchmarks.start import measure_start, start_targets
from benchmarks.targets import Target, faults_targets, peers_targets


@attrs.frozen
class Part:
    """A table of its own."""

    title: str
    about: str
    """What a reader of the figures must know."""
    measure: Callable[[bool], list[Figure]]
    """Whether quickly: then it takes seconds, and the figures are rough."""
    targets: Callable[[Sequence[Figure]], Iterator[Target]]
    is_usual: bool = True


def _peers(is_quick: bool) -> list[Figure]:
    return measure_peers((300,), repeats=1, images=False) if is_quick else measure_peers()


def _faults(is_quick: bool) -> list[Figure]:
    return measure_faults(FAULTS[::2] if is_quick else FAULTS)  # with every other one the patient peers wait long


PARTS = {
    "peers": Part(
        "Side by side",
        "All jobs at once, each client in a process of its own, against one small server that speaks their protocols "
        "and takes 0.5 s for a job. CPU and memory are the client's alone. Medians of three runs, taking turns; of "
        "seven for 300 jobs of the library and the bare loops. Pictures are sent once, as is what takes more than 5 s.",
        _peers,
        peers_targets,
    ),
    "growth": Part(
        "How cost grows",
        "One session in a process of its own, on real sockets, jobs of 0.5 s. Medians of five runs, taking turns, of "
        "300 and 1,000 jobs; all others are measured once.",
        measure_growth,
        growth_targets,
    ),
    "limits": Part(
        "Slots and requests",
        "Whole batches on a virtual clock, jobs of 90 s (spread 20 %), 100 requests a minute unless it says otherwise. "
        "Efficiency: the time that a scheduler that knows everything would need, over the time taken; beside it what "
        "asking at a fixed interval could reach at best, by arithmetic. Queries over fixed: beside those of a fixed "
        "interval with the same delay. No room: the share of requests that were refused for want of a slot.",
        measure_limits,
        limits_targets,
    ),
    "schemes": Part(
        "Ways of counting requests",
        "Whole batches on a virtual clock, jobs of 8 s, behind gateways that each count 100, 450 and 1,000 requests a "
        "minute in one way, for 3, 12 and 30 slots. Efficiency and refused requests by slots: at 3, medians of five. "
        "Delay: how late ends are noticed, in the mean at 3 slots; second model: for 95 in 100 tasks of a model that "
        "joins halfway.",
        measure_schemes,
        schemes_targets,
    ),
    "sockets": Part(
        "Ways of counting requests, on sockets",
        "Four of them in real time, over HTTP to the emulator: 12 slots, 450 requests a minute, jobs of 8 s, each for "
        "some 70 s.",
        measure_sockets,
        sockets_targets,
    ),
    "faults": Part(
        "Faults",
        "Three jobs each, every client taken as it comes. Lost: accepted, and the caller has no video, no task id and "
        "no word of it. Leaked: accepted tasks that no caller knows.",
        _faults,
        faults_targets,
    ),
    "fleet": Part(
        "Many processes, one journal",
        "So many processes with a session each, which share a journal and stream 96 jobs between them, to an emulator "
        "for each row. Efficiency: the time that a scheduler that knows everything would need, over the time taken. "
        "Evenness: Jain's index over the jobs that each had done in the first half. CPU: of all, from the first job.",
        measure_fleet,
        fleet_targets,
    ),
    "shares": Part(
        "The same on a virtual clock",
        f"{SEEDS} seeds each: the median efficiency, and the worst of the submits refused and of the evenness.",
        measure_shares,
        shares_targets,
    ),
    "following": Part(
        "Jobs that another session works",
        "A process finds jobs of another one by their keys, and waits for them. Late: how long after the session that "
        "works a job it hears of its end. CPU: of the process that follows, in percent of a core.",
        measure_following,
        following_targets,
    ),
    "arrivals": Part(
        "Web traffic",
        "Single jobs that come at random (Poisson) to one of several sessions on one journal, on a virtual clock. "
        "Wait: from a job's coming to its acceptance, for those before it and, at first, for the limit to be found.",
        measure_arrivals,
        arrivals_targets,
    ),
    "hosts": Part(
        "Many hosts",
        "Real sessions on a virtual clock, each behind a line of 2 ms to one journal; tasks of 90 s. Hosts die for "
        "good, one after another, and their jobs are given to others at once. Round trips: of all to the journal.",
        measure_hosts,
        hosts_targets,
    ),
    "start": Part("Start", "Fresh processes that take turns, medians.", measure_start, start_targets),
    "slow-peers": Part(
        "Slow peers",
        "Those that take minutes for 1,000 jobs, measured once. Only if it is asked for.",
        lambda is_quick: measure_slow_peers(),
        peers_targets,
        is_usual=False,
    ),
}
"""In the order in which they are measured and reported."""
USUAL = [name for name, part in PARTS.items() if part.is_usual]
"""Those that are measured if none is named."""
