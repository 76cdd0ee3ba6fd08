"""Slots and requests: how well batches fill the slots that they do not know, and what that costs in requests.

Each line is a whole batch on a virtual clock (``benchmarks.simulation``). Beside the library stands what asking at a
fixed interval could reach at best, by arithmetic alone (``benchmarks.scheduling``). ``python -m benchmarks.limits``
simulates the one whose name it is given, in JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.columns import column
from benchmarks.cores import in_a_process, on_all_cores
from benchmarks.figures import Figure
from benchmarks.scheduling import fixed_interval_efficiency
from benchmarks.simulation import Result, Scenario, simulate
from benchmarks.targets import LIBRARY, Target

BUDGET = 100
"""Requests a minute, as the service's documents have it."""
SLOTS = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 80)
USUAL_INTERVAL_S = 5.0
#: Among these, the best for the slots and the budget is looked for.
INTERVALS_S = tuple(step / 4 for step in range(1, 481))

LARGE = Scenario(name="10,000 jobs, 50 slots, 1,000 a min", jobs=10_000, slots=[(0.0, 50)], requests_per_minute=1000)
SMALL = attrs.evolve(LARGE, name="300 jobs, 50 slots, 1,000 a min", jobs=300)
MOVING = Scenario(name="300 jobs, 6 slots, then 2, then 6", slots=[(0.0, 6), (1200.0, 2), (2400.0, 6)])
#: By how much the lengths of the tasks vary, and the most queries beside those of a fixed interval with the same delay.
SPREADS = {0.1: 0.30, 0.2: 0.45, 0.3: 0.60}


def night(slots: int) -> Scenario:
    """A batch that is long for its slots, within the documented budget."""
    jobs = max(300, 10 * slots)
    name = f"{jobs} jobs, {slots} slot{'s' if slots > 1 else ''}"
    return Scenario(name=name, jobs=jobs, slots=[(0.0, slots)], requests_per_minute=BUDGET)


def varied(spread: float) -> Scenario:
    """A batch with requests as it likes, whose tasks take differently long."""
    name = f"300 jobs, 10 slots, spread {spread:.0%}"
    return Scenario(name=name, slots=[(0.0, 10)], spread=spread, requests_per_minute=None)


SCENARIOS = (*map(night, SLOTS), MOVING, *map(varied, SPREADS), SMALL, LARGE)


def measure_limits(is_quick: bool) -> list[Figure]:
    """Simulates every scenario. Quickly, without the largest, which takes most of a minute."""

    def figure(scenario: Scenario) -> Figure:
        return Figure(subject=LIBRARY, case=scenario.name, values=in_a_process("benchmarks.limits", scenario.name))

    return on_all_cores(figure, SCENARIOS[:-1] if is_quick else SCENARIOS)


def measure_scenario(scenario: Scenario) -> dict[str, float]:
    """What came of one of them."""
    result, slots = simulate(scenario), scenario.slots[0][1]
    if scenario not in map(night, SLOTS):
        return make_values(result)
    usual, *others = (
        fixed_interval_efficiency(result.lengths_s, interval_s, slots, BUDGET)
        for interval_s in (USUAL_INTERVAL_S, *INTERVALS_S)
    )
    beside = {"efficiency_best_interval": max(others), "efficiency_every_5_s": usual, "slots": float(slots)}
    return make_values(result, **beside)


def make_values(result: Result, **beside: float) -> dict[str, float]:
    """What a scenario came to, and what stands beside it."""
    return {
        "efficiency": result.efficiency,
        **beside,
        "requests_per_job": result.requests_a_job,
        "queries_per_job": result.queries / result.scenario.jobs,
        "share_of_fixed_interval": result.share_of_fixed_interval,
        "mean_delay_s": result.mean_delay_s,
        "refused_share": result.refused_share,
        "over_budget": float(result.refused_for_budget),
        "grown_mb": result.grown_mb,
    }


def limits_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """What the scenarios must reach, of those that were simulated."""
    bounds = [
        (night(3), "efficiency", 0.985, True),
        (night(3), "over_budget", 0.0, False),
        (night(30), "efficiency", 0.95, True),
        (night(30), "refused_share", 0.01, False),
        (night(60), "efficiency", 0.88, True),
        (night(60), "refused_share", 0.01, False),
        (MOVING, "efficiency", 0.95, True),
        *((varied(spread), "share_of_fixed_interval", share, False) for spread, share in SPREADS.items()),
        (LARGE, "grown_mb", 8.0, False),
    ]
    found = {figure.case: figure.values for figure in figures}
    for scenario, name, bound, is_least in bounds:
        if scenario.name in found:
            yield Target(f"{scenario.name}: {column(name).heading}", found[scenario.name][name], bound, is_least)


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    print(json.dumps(measure_scenario(next(scenario for scenario in SCENARIOS if scenario.name == chosen))))
