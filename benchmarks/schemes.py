"""Ways of counting requests, one after the other: how well the slots are filled behind each, and what is refused.

Each line is whole batches on a virtual clock (``benchmarks.simulation``), of three sizes of team, behind a gateway that
counts in one way (``benchmarks.limiters``); and the median of three more in which a second model comes along halfway.
Of the smallest size it is the median of five. ``python -m benchmarks.schemes OPTIONS`` simulates those of one line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import attrs

from benchmarks import limiters
from benchmarks.cores import in_a_process, on_all_cores
from benchmarks.figures import Figure
from benchmarks.limiters import Bucket, Count, FixedWindow, LimitedService, SlidingCounter, SlidingLog, Style
from benchmarks.simulation import Result, Scenario, simulate
from benchmarks.targets import LIBRARY, Target
from hailuo_async.emulator import Service

#: Slots and requests a minute: three sizes of team.
SIZES = ((3, 100), (12, 450), (30, 1000))
#: Seconds that a task takes: short, so that requests are scarce.
TASK_S = 8.0
#: Jobs a slot: some four minutes.
JOBS_A_SLOT = 30
#: A batch of the smallest size is one draw, a hundredth better or worse than the next: so the median of five counts.
SEEDS = 5
#: A single batch has few tasks of the second model, and in one of six some wait long: so the median of three counts.
JOINED_SEEDS = (0, 1, 2)
#: Of its rate a minute a bucket holds so much at once.
BURST_SHARE = 1 / 6


@attrs.frozen
class Scheme:
    """A way of counting, and of reporting it."""

    name: str
    count: Callable[[int], Count] | None
    """Made for so many requests a minute; ``None`` counts nothing."""
    style: Style = limiters.silent
    efficiency: float = 0.90
    """The least to reach."""
    refused_share: float = 0.01
    """The most requests that may be refused for the minute."""


def _fixed(window_s: float) -> Callable[[int], Count]:
    return lambda per_minute: FixedWindow(max(1, round(per_minute * window_s / 60)), window_s)


def _bucket(is_burst: bool, share: float = BURST_SHARE) -> Callable[[int], Count]:
    def make(per_minute: int) -> Count:
        burst = max(1, round(per_minute * share))
        return Bucket(burst, per_minute / 60, burst if is_burst else per_minute)

    return make


def _log(per_minute: int) -> Count:
    return SlidingLog(per_minute, 60.0)


def _counter(per_minute: int) -> Count:
    return SlidingCounter(per_minute, 60.0)


def _silent(name: str, count: Callable[[int], Count], style: Style = limiters.silent) -> Scheme:
    return Scheme(name, count, style, efficiency=0.80, refused_share=0.03)


SCHEMES = (
    Scheme("no limit", None),
    Scheme("60 s, Unix", _fixed(60.0), limiters.unix),
    Scheme("60 s, seconds from now", _fixed(60.0), limiters.seconds),
    Scheme("60 s, Unix milliseconds", _fixed(60.0), limiters.unix_ms),
    Scheme("60 s, milliseconds from now", _fixed(60.0), limiters.milliseconds),
    Scheme("60 s, HTTP date", _fixed(60.0), limiters.http_date),
    Scheme("60 s, IETF draft 3", _fixed(60.0), limiters.draft_3),
    Scheme("60 s, IETF draft 8", _fixed(60.0), limiters.draft_8),
    Scheme('60 s, -Requests, "12s"', _fixed(60.0), limiters.requests_names),
    Scheme("60 s, no reset", _fixed(60.0), limiters.no_reset),
    _silent("60 s, no headers", _fixed(60.0)),
    _silent("60 s, Retry-After", _fixed(60.0), limiters.retry_after),
    Scheme("10 s, Unix", _fixed(10.0), limiters.unix),
    Scheme("6 s, Unix", _fixed(6.0), limiters.unix),
    Scheme("1 s, Unix", _fixed(1.0), limiters.unix),
    _silent("1 s, no headers", _fixed(1.0)),
    _silent("bucket of one, no headers", _bucket(is_burst=True, share=0.0)),
    Scheme("sliding log, Unix", _log, limiters.unix),
    _silent("sliding log, no headers", _log),
    Scheme("sliding counter, Unix", _counter, limiters.unix),
    Scheme("bucket, its burst, seconds from now", _bucket(is_burst=True), limiters.seconds),
    Scheme("bucket, its burst, Unix", _bucket(is_burst=True), limiters.unix),
    Scheme("bucket, its rate, no reset", _bucket(is_burst=False), limiters.no_reset),
    _silent("bucket, Retry-After", _bucket(is_burst=False), limiters.retry_after),
)


@attrs.frozen(kw_only=True)
class SchemeScenario(Scenario):
    """A batch behind a gateway that counts in one way."""

    scheme: Scheme
    per_minute: int

    def service(self) -> Service:
        """The emulated service behind the gateway."""
        plain = super().service()
        if self.scheme.count is None:
            return plain
        kept = {field.name: getattr(plain, field.name) for field in attrs.fields(Service) if field.init}
        return LimitedService(**kept, count=self.scheme.count(self.per_minute), style=self.scheme.style)


def scenario(scheme: Scheme, size: tuple[int, int], jobs_a_slot: int, *, is_joined: bool = False) -> SchemeScenario:
    """The batch of one size behind ``scheme``; ``is_joined`` has a second model come along halfway."""
    slots, per_minute = size
    jobs = slots * jobs_a_slot
    return SchemeScenario(
        name=scheme.name,
        jobs=jobs,
        slots=[(0.0, slots)],
        generation_s=TASK_S,
        requests_per_minute=None,
        second_from=jobs // 2 if is_joined else None,
        scheme=scheme,
        per_minute=per_minute,
    )


def measure_schemes(is_quick: bool) -> list[Figure]:
    """Every scheme at every size; quickly, at the first size only. Fewer jobs would be mostly learning."""
    sizes = SIZES[:1] if is_quick else SIZES

    def figure(scheme: Scheme) -> Figure:
        values = in_a_process("benchmarks.schemes", [scheme.name, sizes, JOBS_A_SLOT])
        return Figure(subject=LIBRARY, case=scheme.name, values=values)

    return on_all_cores(figure, SCHEMES)


def measure_scheme(
    scheme: Scheme, sizes: Sequence[tuple[int, int]], jobs_a_slot: int, seeds: int = SEEDS
) -> dict[str, float]:
    """What came of one scheme: medians of so many ``seeds`` at the first size, and a single batch at the others."""
    first, *others = sizes
    draws = [simulate(attrs.evolve(scenario(scheme, first, jobs_a_slot), seed=seed)) for seed in range(seeds)]
    batches = {first[0]: draws} | {size[0]: [simulate(scenario(scheme, size, jobs_a_slot))] for size in others}
    joined = [
        simulate(attrs.evolve(scenario(scheme, first, jobs_a_slot, is_joined=True), seed=seed)) for seed in JOINED_SEEDS
    ]
    return {
        **{f"efficiency_{slots}": median(each.efficiency for each in results) for slots, results in batches.items()},
        **{f"refused_{slots}": median(map(over_share, results)) for slots, results in batches.items()},
        "mean_delay_s": median(each.mean_delay_s for each in draws),
        "second_delay_s": median(each.second_delay_s for each in joined),
    }


def over_share(result: Result) -> float:
    """Of all requests, those that were refused for the minute."""
    return result.refused_for_budget / (result.posts + result.queries)


def schemes_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """What each scheme must reach."""
    schemes = {scheme.name: scheme for scheme in SCHEMES}
    for figure in figures:
        scheme = schemes[figure.case]
        for name, value in figure.values.items():
            if name.startswith("efficiency"):
                yield Target(f"{figure.case}: {name}", value, scheme.efficiency, is_least=True)
            elif name.startswith("refused"):
                yield Target(f"{figure.case}: {name}", value, scheme.refused_share)
        yield Target(f"{figure.case}: delay of the second model", figure.values["second_delay_s"], 5.0)


if __name__ == "__main__":
    chosen, *options = json.loads(sys.argv[1])
    print(json.dumps(measure_scheme(next(scheme for scheme in SCHEMES if scheme.name == chosen), *options)))
