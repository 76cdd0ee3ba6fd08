"""What is measured of many processes and many hosts: the yardsticks, and as much of the runs as the tests can bear."""

from __future__ import annotations

import attrs
import pytest

from benchmarks import fleet, hosts
from benchmarks.figures import Figure
from benchmarks.fleet import Fleet, fleet_targets, jain
from benchmarks.hosts import SMALL, hosts_targets
from benchmarks.targets import LIBRARY

pytestmark = pytest.mark.no_cover


def test_evenness_is_one_where_all_have_the_same_and_a_share_where_one_has_it_all() -> None:
    assert (jain([3, 3, 3]), jain([4, 0, 0, 0]), jain([0, 0])) == (1.0, 0.25, 1.0)


def figure(case: str, **values: float) -> Figure:
    usual = {"efficiency": 0.9, "refused_submits": 0.0, "queries_refused": 0.0, "evenness": 1.0, "cpu_s": 1.0}
    return Figure(subject=LIBRARY, case=case, values=usual | values)


def test_several_processes_are_held_against_one() -> None:
    figures = [
        figure("limit 3, 4 s: 1 process on a file"),
        figure("limit 3, 4 s: 8 processes on a file", efficiency=0.86, cpu_s=1.9, evenness=0.94),
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
def test_hosts_die_on_a_virtual_clock_and_nothing_is_lost_or_paid_twice() -> None:
    few = attrs.evolve(SMALL, jobs=30)
    [*targets] = hosts_targets([hosts.make_figure(few)])
    assert [target for target in targets if not target.holds] == []
