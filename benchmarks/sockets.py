"""Four of the ways of counting requests (``benchmarks.schemes``) on real sockets and in real time.

A session sends a batch over HTTP to the emulator behind a gateway of its own; the four run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import aiohttp
import anyio
import attrs

from benchmarks.figures import Figure
from benchmarks.schemes import SCHEMES, Scheme, over_share, scenario
from benchmarks.simulation import Observer, Result, work
from benchmarks.targets import LIBRARY, Target
from hailuo_async._io.http import Http
from hailuo_async.emulator import Emulator

NAMES = ("bucket of one, no headers", "1 s, no headers", "sliding log, Unix", "bucket, Retry-After")
SIZE = (12, 450)
#: Some 70 s at 8 s each; quickly, some 20 s, which is hardly more than the learning takes.
JOBS_A_SLOT, QUICK_JOBS_A_SLOT = 8, 2
#: The most requests that may be refused for the minute where no header tells of it and the batch is mostly learning.
LEARNING_SHARE = 0.05


def chosen() -> list[Scheme]:
    """The four schemes."""
    return [scheme for scheme in SCHEMES if scheme.name in NAMES]


def measure_sockets(is_quick: bool) -> list[Figure]:
    """Every one of the four at one size."""
    return anyio.run(_measure, QUICK_JOBS_A_SLOT if is_quick else JOBS_A_SLOT)


async def _measure(jobs_a_slot: int) -> list[Figure]:
    results: dict[str, Result] = {}

    async def run(scheme: Scheme) -> None:
        results[scheme.name] = await on_a_socket(scheme, jobs_a_slot)

    async with anyio.create_task_group() as tasks:
        for scheme in chosen():
            tasks.start_soon(run, scheme)
    return [make_figure(scheme, results[scheme.name]) for scheme in chosen()]


async def on_a_socket(scheme: Scheme, jobs_a_slot: int, generation_s: float | None = None) -> Result:
    """One batch behind ``scheme``, in real time."""
    batch = scenario(scheme, SIZE, jobs_a_slot)
    batch = batch if generation_s is None else attrs.evolve(batch, generation_s=generation_s)
    async with Emulator(service=batch.service()) as emulator, aiohttp.ClientSession() as client:
        line = Http(emulator.url, emulator.api_key, client, owns_session=False)
        return await work(batch, emulator.service, Observer(line, latency_s=0.0))


def make_figure(scheme: Scheme, result: Result) -> Figure:
    """What came of one."""
    values = {
        "efficiency": result.efficiency,
        "refused_requests": over_share(result),
        "requests_per_job": result.requests_a_job,
        "mean_delay_s": result.mean_delay_s,
    }
    return Figure(subject=LIBRARY, case=scheme.name, values=values)


def sockets_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """As on the virtual clock, but that a batch of a minute is mostly learning where there are no headers."""
    schemes = {scheme.name: scheme for scheme in chosen()}
    for figure in figures:
        scheme, values = schemes[figure.case], figure.values
        is_silent = scheme.refused_share > 0.01
        yield Target(f"{figure.case}: efficiency", values["efficiency"], scheme.efficiency, is_least=True)
        bound = LEARNING_SHARE if is_silent else scheme.refused_share
        yield Target(f"{figure.case}: refused", values["refused_requests"], bound)
