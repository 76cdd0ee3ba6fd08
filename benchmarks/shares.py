"""The fleets of ``benchmarks.fleet`` on a virtual clock, with several seeds each: what is usual, and what is rare.

``python -m benchmarks.shares OPTIONS`` simulates one of them: sessions that begin within a tenth of a second, and POSTs
that take up to a tenth of a second at random, as processes on a busy machine do.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import anyio
import attrs

from benchmarks import hosts
from benchmarks.cores import in_a_process, on_all_cores
from benchmarks.figures import Figure
from benchmarks.fleet import FLEETS, JOBS, Fleet, jain
from benchmarks.hosts import Host, Hosts, Night
from benchmarks.scheduling import ideal_seconds
from benchmarks.targets import LIBRARY, Target
from hailuo_async import ImageToVideo, Success
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import Service
from hailuo_async.testing import InMemory

SEEDS = 5
SESSIONS = (1, 2, 4, 8)
#: When the last session begins, and the mean of what a POST takes.
_BEGUN_S, _POST_S = 0.1, 0.02


@attrs.frozen(kw_only=True)
class Shares:
    """What is simulated."""

    sessions: int
    limit: int
    generation_s: float
    requests_per_minute: int | None = None
    jobs: int = JOBS
    seed: int = 0


@attrs.define(eq=False)
class _Line:
    """Carries requests on, POSTs at random intervals."""

    _line: InMemory
    _rng: Random

    async def send(self, request: Request, timeout_s: float) -> Answer:
        if request.method == "POST":
            await anyio.sleep(min(0.1, self._rng.expovariate(1 / _POST_S)))
        return await self._line.send(request, timeout_s)

    async def aclose(self) -> None:
        await self._line.aclose()


async def simulate_shares(shares: Shares, directory: Path) -> dict[str, float]:
    """Lets the sessions stream an equal share of the jobs. They are left as they are."""
    service = Service(
        max_running=shares.limit,
        requests_per_minute=shares.requests_per_minute,
        generation_s=shares.generation_s,
        balance=1e12,
        seed=shares.seed,
    )
    night, rng = Night(Hosts(), service, directory / "journal.db", Random(shares.seed)), Random(shares.seed)
    members = [night.make_host() for _ in range(shares.sessions)]
    for host in members:
        host.transport = _Line(InMemory(service, latency_s=0.004, epoch=hosts.EPOCH), rng)
        await night.open(host)
    began = anyio.current_time()
    lengths_s, at = list[float](), [list[float]() for _ in members]
    async with anyio.create_task_group() as tasks:
        for number, host in enumerate(members):
            share = [f"{number}: job {each}" for each in range(shares.jobs // shares.sessions)]
            tasks.start_soon(_stream, host, share, rng.uniform(0.0, _BEGUN_S), at[number], lengths_s)
    ended = anyio.current_time()
    return {
        "efficiency": ideal_seconds(lengths_s, lambda _: shares.limit, []) / (ended - began),
        "refused_submits": 1 - service.ledger.submits_accepted / service.ledger.posts,
        "evenness": jain([sum(each <= (began + ended) / 2 for each in done) for done in at]),
    }


async def _stream(host: Host, names: Sequence[str], begins_s: float, at: list[float], lengths_s: list[float]) -> None:
    await anyio.sleep(begins_s)
    async for outcome in host.session.stream(
        ImageToVideo("https://example.com/cat.jpg", prompt=each) for each in names
    ):
        if not isinstance(outcome, Success):
            raise outcome.error
        at.append(anyio.current_time())
        lengths_s.append(outcome.video.seconds_taken or 0.0)


def measure_shares(is_quick: bool) -> list[Figure]:
    """Each fleet, with each number of sessions and several seeds."""
    if is_quick:
        return [make_figure(FLEETS[1], 4, seeds=1)]
    each = [(fleet, sessions) for fleet in FLEETS for sessions in SESSIONS]
    return on_all_cores(lambda both: make_figure(*both), each)


def make_figure(fleet: Fleet, sessions: int, seeds: int = SEEDS) -> Figure:
    """What a fleet came to: the median efficiency, and the worst of what is refused and of the evenness."""
    shares = Shares(
        sessions=sessions,
        limit=fleet.limit,
        generation_s=fleet.generation_s,
        requests_per_minute=fleet.requests_per_minute,
        jobs=fleet.jobs,
    )
    each = [in_a_process("benchmarks.shares", attrs.asdict(attrs.evolve(shares, seed=seed))) for seed in range(seeds)]
    values = {
        "efficiency": statistics.median(values["efficiency"] for values in each),
        "refused_submits": max(values["refused_submits"] for values in each),
        "evenness": min(values["evenness"] for values in each),
    }
    return Figure(subject=LIBRARY, case=f"{fleet.name}: {sessions} session{'s' if sessions > 1 else ''}", values=values)


def shares_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """With every seed few are refused, and each session gets its share."""
    for figure in figures:
        yield Target(f"{figure.case}: submits refused", figure.values["refused_submits"], 0.05)
        yield Target(f"{figure.case}: evenness (Jain's index)", figure.values["evenness"], 0.95, is_least=True)


if __name__ == "__main__":
    hosts.main(lambda options, place: simulate_shares(Shares(**options), place))
