"""What is measured of many processes and many hosts: the yardsticks, and as much of the runs as the tests can bear."""

from __future__ import annotations

import attrs
import pytest

from benchmarks import arrivals, fleet, following, hosts
from benchmarks.arrivals import Arrivals, arrivals_targets
from benchmarks.figures import Figure
from benchmarks.fleet import Fleet, fleet_targets, jain
from benchmarks.following import BUSY, following_targets
from benchmarks.hosts import SMALL, hosts_targets
from benchmarks.shares import measure_shares, shares_targets
from benchmarks.targets import LIBRARY


def test_evenness_is_one_where_all_have_the_same_and_a_share_where_one_has_it_all() -> None:
    assert (jain([3, 3, 3]), jain([4, 0, 0, 0]), jain([0, 0])) == (1.0, 0.25, 1.0)


def figure(case: str, **values: float) -> Figure:
    usual = {"efficiency": 0.9, "refused_submits": 0.0, "queries_refused": 0.0, "evenness": 1.0, "cpu_s": 1.0}
    return Figure(subject=LIBRARY, case=case, values=usual | values)


def test_several_processes_are_held_against_one() -> None:
    figures = [
        figure("limit 3, 4 s: 1 process on a file"),
        figure("limit 3, 4 s: 8 processes on a file", efficiency=0.86, cpu_s=1.9, evenness=0.94),
        figure("limit 3, 4 s: 1 process on PostgreSQL", cpu_s=0.5, efficiency=0.5),
        figure("limit 12, 6 s: 8 processes on a file"),  # nothing to hold it against
    ]
    targets = list(fleet_targets(figures))
    assert [target.about for target in targets if not target.holds] == [
        "limit 3, 4 s: 8 processes on a file: efficiency lost beside one process",
        "limit 3, 4 s: 8 processes on a file: evenness (Jain's index)",
    ]
    assert len(targets) == 5


@pytest.mark.slow
def test_two_processes_share_a_journal_and_do_all_their_jobs() -> None:
    values = fleet.make_figure(Fleet(3, 0.3, jobs=12), 2).values
    assert values["queries_refused"] == 0.0
    assert 0.0 < values["efficiency"] <= 1.01
    assert values["requests_per_job"] >= 2.0


@pytest.mark.slow
def test_four_sessions_have_even_shares_and_few_refusals_on_a_virtual_clock() -> None:
    [*targets] = shares_targets(measure_shares(is_quick=True))
    assert [target for target in targets if not target.holds] == []


@pytest.mark.slow
def test_hosts_die_on_a_virtual_clock_and_nothing_is_lost_or_paid_twice() -> None:
    few = attrs.evolve(SMALL, jobs=30)
    [*targets] = hosts_targets([hosts.make_figure(few)])
    assert [target for target in targets if not target.holds] == []


@pytest.mark.slow
def test_a_process_that_follows_jobs_hears_of_their_ends_in_time() -> None:
    [*targets] = following_targets([following.make_figure(attrs.evolve(BUSY, jobs=12, generation_s=0.5), None)])
    assert [target.about for target in targets] == [
        "120 followed jobs, 12 at a time, 3 s: on a file: heard late, p95, s"
    ]


def test_silence_of_what_is_followed_is_held_against_a_core() -> None:
    told = Figure(subject=LIBRARY, case="quiet: on a file", values={"cpu_percent": 1.1})
    assert [target.holds for target in following_targets([told])] == [False]


@pytest.mark.slow
def test_visitors_wait_no_longer_for_several_sessions_than_for_one() -> None:
    alone = Arrivals(sessions=1, slots=3, generation_s=4.0, jobs=150)
    figures = [arrivals.make_figure(attrs.evolve(alone, sessions=number)) for number in (1, 8)]
    [*targets] = arrivals_targets(figures)
    assert [target.about.rpartition(": ")[2] for target in targets] == [
        "wait_s over that of one",
        "wait_p95_s over that of one",
        "submits refused",
    ]
    assert all(target.holds for target in targets[:2])
