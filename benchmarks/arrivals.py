"""Web traffic: single jobs that come at random, to one of several sessions that share a journal, on a virtual clock.

A single session is the yardstick: with the same arrivals, a job should wait no longer because there are several.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import anyio
import attrs

from benchmarks import hosts
from benchmarks.cores import in_a_process, on_all_cores
from benchmarks.figures import Figure
from benchmarks.hosts import Host, Hosts, Night
from benchmarks.targets import LIBRARY, Target
from hailuo_async import ImageToVideo
from hailuo_async.emulator import Service


@attrs.frozen(kw_only=True)
class Arrivals:
    """What comes, and to how many sessions. ``load`` is the part of the slots that it needs."""

    sessions: int
    slots: int
    generation_s: float
    requests_per_minute: int | None = None
    jobs: int = 600
    load: float = 0.7
    seed: int = 0

    @property
    def name(self) -> str:
        """As it stands in the table."""
        requests = "" if self.requests_per_minute is None else f", {self.requests_per_minute} requests a minute"
        load = f"{self.load:.0%} of {self.slots} slots, {self.generation_s:g} s{requests}"
        return f"{load}: {self.sessions} session{'s' if self.sessions > 1 else ''}"


TRAFFIC = (
    Arrivals(sessions=1, slots=3, generation_s=4.0),
    Arrivals(sessions=1, slots=12, generation_s=6.0),
    Arrivals(sessions=1, slots=3, generation_s=60.0),
    Arrivals(sessions=1, slots=12, generation_s=6.0, requests_per_minute=600),
)
SESSIONS = 8


async def simulate_arrivals(arrivals: Arrivals, directory: Path) -> dict[str, float]:
    """How long each job waited for its acceptance. The sessions are left as they are."""
    service = Service(
        max_running=arrivals.slots,
        requests_per_minute=arrivals.requests_per_minute,
        generation_s=arrivals.generation_s,
        balance=1e12,
        seed=arrivals.seed,
    )
    night = Night(Hosts(), service, directory / "journal.db", Random(arrivals.seed))
    sessions = [night.make_host() for _ in range(arrivals.sessions)]
    for host in sessions:
        await host.session.__aenter__()
    rng, waits_s = Random(arrivals.seed), list[float]()
    rate = arrivals.load * arrivals.slots / arrivals.generation_s
    async with anyio.create_task_group() as tasks:
        for number in range(arrivals.jobs):
            await anyio.sleep(rng.expovariate(rate))
            tasks.start_soon(_visit, rng.choice(sessions), number, waits_s)
    ledger = service.ledger
    return {
        "wait_s": statistics.fmean(waits_s),
        "wait_p95_s": statistics.quantiles(waits_s, n=20)[-1],
        "refused_submits": 1 - ledger.submits_accepted / ledger.posts,
        "requests_per_job": ledger.requests.total() / arrivals.jobs,
    }


async def _visit(host: Host, number: int, waits_s: list[float]) -> None:
    came_at = asyncio.get_running_loop().time()
    job = ImageToVideo("https://example.com/cat.jpg", prompt=f"visitor {number}", key=f"visitor {number}")
    generation = await host.session.submit(job)
    await generation.accepted()
    waits_s.append(asyncio.get_running_loop().time() - came_at)
    await generation


def measure_arrivals(is_quick: bool) -> list[Figure]:
    """All traffic, for one session and for several."""
    traffic = [attrs.evolve(TRAFFIC[0], jobs=100)] if is_quick else TRAFFIC
    return on_all_cores(
        make_figure, [attrs.evolve(each, sessions=number) for each in traffic for number in (1, SESSIONS)]
    )


def make_figure(arrivals: Arrivals) -> Figure:
    """What waiting came to, in a process of its own."""
    values = in_a_process("benchmarks.arrivals", attrs.asdict(arrivals))
    return Figure(subject=LIBRARY, case=arrivals.name, values=values)


def arrivals_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """No caller waits longer because the sessions are several."""
    alone = {figure.case.partition(":")[0]: figure.values for figure in figures if figure.case.endswith(": 1 session")}
    for figure in figures:
        traffic, _, sessions = figure.case.partition(":")
        if traffic in alone and sessions != " 1 session":
            for wait in ("wait_s", "wait_p95_s"):
                yield Target(f"{figure.case}: {wait} over that of one", figure.values[wait] / alone[traffic][wait], 1.3)
            yield Target(f"{figure.case}: submits refused", figure.values["refused_submits"], 0.05)


if __name__ == "__main__":
    hosts.main(lambda options, place: simulate_arrivals(Arrivals(**options), place))
