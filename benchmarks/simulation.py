"""A night's batch in seconds: the real session over the emulator's core, in memory, on a virtual clock.

Nothing here is faked but the time and the socket: the engine, its rules and the service's limits are the ones that
users meet. Each scenario is one line of the table: how well the slots were filled (efficiency: the time that a
scheduler that knows everything would need, over the time taken), and what that cost in requests.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import anyio
import attrs

from benchmarks.scheduling import fixed_interval_queries, ideal_seconds
from hailuo_async import AsyncSession, ImageToVideo, Success
from hailuo_async._io.transport import Transport
from hailuo_async._rules.wire import Answer, Refusal, Request, Verdict, read_task_id
from hailuo_async.emulator import Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

#: From the client to the service and back.
LATENCY_S = 0.1
FIRST_MODEL, SECOND_MODEL = "hailuo-2.3-i2v", "hailuo-2.3-fast-i2v"


@attrs.frozen(kw_only=True)
class Scenario:
    """What is simulated. ``slots`` gives (from second, slots); the client does not know them."""

    name: str
    jobs: int = 300
    slots: Sequence[tuple[float, int]]
    generation_s: float = 90.0
    spread: float = 0.2
    requests_per_minute: int | None = 100
    second_from: int | None = None
    """From this job on every other one is for a second model, of which nothing has been learned yet."""
    seed: int = 0

    def slots_at(self, now: float) -> int:
        """The slots in force ``now`` seconds after the start."""
        return [slots for since, slots in self.slots if since <= now][-1]

    def service(self) -> Service:
        """The emulated service at the start. It keeps little, so that only the client's memory can grow."""
        return Service(
            max_running=self.slots[0][1],
            requests_per_minute=self.requests_per_minute,
            generation_s=self.generation_s,
            spread=self.spread,
            results_last_s=3600.0,
            ledger_entries=0,
            balance=1e12,
            seed=self.seed,
        )


@attrs.define
class Observer:
    """Carries requests on, and counts them and what became of them."""

    _line: Transport
    _latency_s: float = LATENCY_S
    """From the client to the service and back."""
    posts: int = 0
    queries: int = 0
    refused_for_room: int = 0
    refused_for_budget: int = 0
    running: dict[str, tuple[int, float]] = attrs.field(factory=dict)
    """Of each task that runs: its place in the order of acceptance, and when that was."""
    _accepted: int = 0

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Sends ``request`` once."""
        is_post = request.method == "POST"
        self.posts += is_post
        self.queries += not is_post
        answer = await self._line.send(request, timeout_s)
        self.refused_for_room += answer.refusal is Refusal.RUNNING_LIMIT
        self.refused_for_budget += answer.refusal is Refusal.REQUEST_RATE
        task_id = read_task_id(answer.data)
        if is_post and answer.verdict is Verdict.ACCEPTED and task_id is not None:
            self.running[task_id] = (self._accepted, anyio.current_time() - self._latency_s / 2)
            self._accepted += 1
        return answer

    async def aclose(self) -> None:
        """Closes what it carries requests on."""
        await self._line.aclose()


@attrs.frozen(kw_only=True)
class Result:
    """What a scenario came to."""

    scenario: Scenario
    seconds: float
    ideal_s: float
    lengths_s: Sequence[float] = attrs.field(repr=False)
    posts: int
    queries: int
    refused_for_room: int
    refused_for_budget: int
    mean_delay_s: float
    second_delay_s: float
    """Of the second model's tasks: how late the end of 95 in 100 was noticed at most; 0.0 if there is none."""
    grown_mb: float
    """By how much the process grew between a tenth of the jobs and the end."""

    @property
    def efficiency(self) -> float:
        return self.ideal_s / self.seconds

    @property
    def requests_a_job(self) -> float:
        return (self.posts + self.queries) / self.scenario.jobs

    @property
    def refused_share(self) -> float:
        """Of all requests, those that were refused, for any reason."""
        return (self.refused_for_room + self.refused_for_budget) / (self.posts + self.queries)

    @property
    def share_of_fixed_interval(self) -> float:
        """Queries a job, over those that a fixed interval would need for the same mean delay."""
        return self.queries / self.scenario.jobs / fixed_interval_queries(self.lengths_s, self.mean_delay_s)


def simulate(scenario: Scenario) -> Result:
    """Runs one batch to its end. Takes milliseconds of real time a job."""
    return run_virtual(lambda: _in_memory(scenario))


async def _in_memory(scenario: Scenario) -> Result:
    service = scenario.service()
    return await work(scenario, service, Observer(InMemory(service, latency_s=LATENCY_S)))


async def work(scenario: Scenario, service: Service, observer: Observer) -> Result:
    """Runs one batch to its end, over ``observer``'s transport to ``service``."""
    facts = await _batch(scenario, service, observer)
    changes = [since for since, _ in scenario.slots]
    ideal_s = ideal_seconds(facts["lengths_s"], scenario.slots_at, changes)
    return Result(scenario=scenario, ideal_s=ideal_s, **facts)


async def _batch(scenario: Scenario, service: Service, observer: Observer) -> dict[str, Any]:
    lengths, delay_s, grown_from = [0.0] * scenario.jobs, 0.0, 0.0
    second_delays: list[float] = []
    session = AsyncSession(
        api_key=service.api_key, base_url="https://emulator.invalid", transport=observer, rng=Random(scenario.seed)
    )
    async with session, anyio.create_task_group() as tasks:
        began = anyio.current_time()
        tasks.start_soon(_move_the_limit, scenario, service)
        told = 0
        async for outcome in session.stream(_jobs(scenario)):
            if not isinstance(outcome, Success):
                raise outcome.error
            place, accepted_at = observer.running.pop(outcome.video.task_id)
            lengths[place] = outcome.video.seconds_taken or 0.0
            delay = anyio.current_time() - accepted_at - lengths[place]
            delay_s += delay
            if outcome.job is not None and outcome.job.model == SECOND_MODEL:
                second_delays.append(delay)
            told += 1
            grown_from = grown_from or (_resident_mb() if told * 10 >= scenario.jobs else 0.0)
        seconds = anyio.current_time() - began
        tasks.cancel_scope.cancel()
    return {
        "seconds": seconds,
        "lengths_s": lengths,
        "posts": observer.posts,
        "queries": observer.queries,
        "refused_for_room": observer.refused_for_room,
        "refused_for_budget": observer.refused_for_budget,
        "mean_delay_s": delay_s / scenario.jobs,
        "second_delay_s": sorted(second_delays)[len(second_delays) * 95 // 100] if second_delays else 0.0,
        "grown_mb": _resident_mb() - grown_from,
    }


async def _move_the_limit(scenario: Scenario, service: Service) -> None:
    began = anyio.current_time()
    for since, slots in scenario.slots:
        await anyio.sleep_until(began + since)
        service.max_running = slots


def _jobs(scenario: Scenario) -> Iterator[ImageToVideo]:
    second_from = scenario.jobs if scenario.second_from is None else scenario.second_from
    for number in range(scenario.jobs):
        model = SECOND_MODEL if number >= second_from and number % 2 else FIRST_MODEL
        yield ImageToVideo("https://example.com/picture.jpg", prompt=f"job {number}", model=model)


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
