"""The tables: what each scenario must reach, and what it reached."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benchmarks.simulation import Result, Scenario, simulate

_NIGHT = Scenario(name="300 jobs, limit 3", slots=[(0.0, 3)])
_TEN_THOUSAND = Scenario(
    name="10,000 jobs, 50 slots, 1,000 requests a minute", jobs=10_000, slots=[(0.0, 50)], requests_per_minute=1000
)
_THREE_HUNDRED = attrs.evolve(_TEN_THOUSAND, name="300 jobs, 50 slots, 1,000 requests a minute", jobs=300)


@attrs.frozen
class Line:
    """A scenario, and what it must reach in words and as a check."""

    scenario: Scenario
    must: str
    holds: Callable[[Result], bool]


LINES = (
    Line(_NIGHT, "eff >= 0.985, over budget 0", lambda r: r.efficiency >= 0.985 and r.refused_for_budget == 0),
    Line(
        attrs.evolve(_NIGHT, name="the same, limit 30", slots=[(0.0, 30)]),
        "eff >= 0.95, refused <= 1 %",
        lambda r: r.efficiency >= 0.95 and r.refused_share <= 0.01,
    ),
    Line(
        Scenario(name="600 jobs, limit 60", jobs=600, slots=[(0.0, 60)]),
        "eff >= 0.88, refused <= 1 %",
        lambda r: r.efficiency >= 0.88 and r.refused_share <= 0.01,
    ),
    Line(
        Scenario(name="limit 6, then 2, then 6", slots=[(0.0, 6), (1200.0, 2), (2400.0, 6)]),
        "eff >= 0.95",
        lambda r: r.efficiency >= 0.95,
    ),
    Line(_THREE_HUNDRED, "", lambda r: True),
    Line(_TEN_THOUSAND, "flat memory, CPU as at 300", lambda r: r.grown_mb <= 8),
    *(
        Line(
            Scenario(name=f"spread {spread:.0%}", slots=[(0.0, 10)], spread=spread, requests_per_minute=None),
            f"<= {share:.2f} of fixed",
            lambda r, share=share: r.share_of_fixed_interval <= share,  # type: ignore[misc]
        )
        for spread, share in ((0.1, 0.30), (0.2, 0.45), (0.3, 0.60))
    ),
)

_HEAD = (
    f"{'scenario':<48}{'eff':>7}{'req/job':>9}{'no room':>9}{'over':>6}{'delay s':>9}"
    f"{'of fixed':>10}{'CPU ms':>8}{'grew MB':>9}  must"
)


def print_limits() -> int:
    """Simulates every scenario and prints a line for each. Returns 1 if one does not reach what it must."""
    print(_HEAD)
    missed = 0
    for line in LINES:
        result = simulate(line.scenario)
        holds = line.holds(result)
        missed += not holds
        print(_told(result), f" {line.must}{'' if holds else '   MISSED'}")
    return int(missed > 0)


def _told(result: Result) -> str:
    return (
        f"{result.scenario.name:<48}{result.efficiency:>7.3f}{result.requests_a_job:>9.2f}"
        f"{result.refused_for_room:>9}{result.refused_for_budget:>6}{result.mean_delay_s:>9.2f}"
        f"{result.share_of_fixed_interval:>10.2f}{result.cpu_ms_a_job:>8.2f}{result.grown_mb:>9.1f}"
    )
