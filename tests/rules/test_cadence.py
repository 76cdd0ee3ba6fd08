"""When to ask: what is learned of a kind, what a query costs, and what must hold whatever the service answers."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hailuo_async._rules.cadence import Cadence, PollState

SHORTEST_S, LONGEST_S = 0.5, 30.0


def make_cadence(seed: int = 7) -> Cadence:
    return Cadence(SHORTEST_S, LONGEST_S, Random(seed))


def watch(
    cadence: Cadence,
    ends_at: float,
    *,
    rate: float | None = None,
    running: int = 1,
    told: bool = True,
    pending: bool = False,
) -> list[float]:
    """Ask about one task, begun at 0.0, until its end is seen. Returns the ages at which it was asked."""
    task, asked = PollState("t", "kind", 0.0), []
    while True:
        now = cadence.next_due(task, task.asked_at, rate, running)
        asked.append(now)
        if now >= ends_at:
            cadence.ended(task, now, ends_at if told else None)
            return asked
        cadence.still_runs(task, now, is_pending=pending)


def taught(spread: float, length: float = 90.0, count: int = 60, **how: bool) -> Cadence:
    cadence, rng = make_cadence(), Random(3)
    for _ in range(count):
        watch(cadence, length * rng.uniform(1 - spread, 1 + spread), **how)
    return cadence


def ages_if_it_never_ends(cadence: Cadence, count: int, rate: float | None = None, running: int = 1) -> list[float]:
    task, ages = PollState("t", "kind", 0.0), []
    for _ in range(count):
        task.asked_at = cadence.next_due(task, task.asked_at, rate, running)
        ages.append(task.asked_at)
    return ages


# --- Until a kind is known ---


def test_intervals_grow_with_age_between_the_bounds() -> None:
    ages = [0.0, *ages_if_it_never_ends(make_cadence(), 300)]
    gaps = [after - before for before, after in pairwise(ages)]
    assert min(gaps) == pytest.approx(SHORTEST_S)
    assert max(gaps) == pytest.approx(LONGEST_S)
    assert all(gap <= max(SHORTEST_S, 0.08 * age) for age, gap in zip(ages[1:], gaps, strict=False))


def test_scarce_requests_are_shared_by_all_that_run() -> None:
    asked = [
        len([age for age in ages_if_it_never_ends(make_cadence(seed), 40, 1.0, 60) if age < 600]) for seed in range(9)
    ]
    assert 4 <= sum(asked) / len(asked) <= 20


def test_tasks_that_began_together_are_not_all_asked_together() -> None:
    cadence = make_cadence()
    dues = sorted(cadence.next_due(PollState("t", "kind", 0.0), 0.0, 1.0, 60) for _ in range(60))
    assert dues[45] > 1.5 * dues[15]


def test_a_task_that_stays_pending_is_asked_at_growing_intervals() -> None:
    cadence, task, count = make_cadence(), PollState("t", "kind", 0.0), 0
    while task.asked_at < 600:
        cadence.still_runs(task, cadence.next_due(task, task.asked_at, None, 1), is_pending=True)
        count += 1
    assert count < 150
    assert task.began_at == task.asked_at


# --- When a kind is known ---


def test_nothing_is_asked_before_the_earliest_plausible_end_but_a_few_safety_queries() -> None:
    ages = ages_if_it_never_ends(taught(0.2), 40)
    assert sum(age < 65 for age in ages) <= 2
    assert sum(68 < age < 112 for age in ages) >= 10


@pytest.mark.parametrize(("spread", "share"), [(0.1, 0.30), (0.2, 0.45), (0.3, 0.60)])
@pytest.mark.parametrize("is_told", [True, False])
def test_it_needs_a_share_of_the_queries_of_a_fixed_interval_with_the_same_delay(
    spread: float, share: float, is_told: bool
) -> None:
    cadence, rng, queries, delay = make_cadence(), Random(1), 0, 0.0
    for _ in range(200):
        ends_at = 90 * rng.uniform(1 - spread, 1 + spread)
        asked = watch(cadence, ends_at, told=is_told)
        queries += len(asked)
        delay += asked[-1] - ends_at
    fixed = 200 * (90 / (2 * delay / 200) + 0.5)
    assert delay / 200 < 1.2
    assert queries / fixed < share


def test_scarce_requests_make_the_price_rise_to_what_the_request_rate_bears() -> None:
    cadence, rng, queries, delay = taught(0.2), Random(1), 0, 0.0
    for _ in range(100):
        ends_at = 90 * rng.uniform(0.8, 1.2)
        asked = watch(cadence, ends_at, rate=1.2, running=60)
        queries += len(asked)
        delay += asked[-1] - ends_at
    assert 1.2 <= queries / 100 <= 2.4
    assert delay / 100 < 9


def test_a_task_that_outlives_all_others_is_asked_at_growing_intervals_within_the_bounds() -> None:
    ages = [age for age in ages_if_it_never_ends(taught(0.2), 2000) if age > 200]
    gaps = [after - before for before, after in pairwise(ages)]
    assert gaps[0] < 15
    assert max(gaps) <= LONGEST_S + 1e-6
    assert ages[-1] > 6000


@pytest.mark.parametrize(("before", "after"), [(90.0, 30.0), (30.0, 90.0)])
@pytest.mark.parametrize("is_told", [True, False])
def test_it_follows_a_service_that_speeds_up_or_slows_down(before: float, after: float, is_told: bool) -> None:
    cadence, rng = taught(0.1, before, told=is_told), Random(2)
    delays = []
    for _ in range(60):
        ends_at = after * rng.uniform(0.9, 1.1)
        delays.append(watch(cadence, ends_at, told=is_told)[-1] - ends_at)
    assert sum(delays[40:]) / 20 < 0.04 * after


def test_kinds_are_learned_apart_and_only_so_many_are_remembered() -> None:
    cadence = taught(0.1)
    known = cadence.next_due(PollState("t", "kind", 0.0), 0.0, None, 1)
    unknown = cadence.next_due(PollState("t", "other", 0.0), 0.0, None, 1)
    assert unknown <= 1.0 < known
    for number in range(64):
        cadence.next_due(PollState("t", number, 0.0), 0.0, None, 1)
    assert cadence.next_due(PollState("t", "kind", 0.0), 0.0, None, 1) <= 1.0


def test_the_likeliest_finished_is_worth_most_and_worth_only_grows() -> None:
    cadence = taught(0.2)
    young, old = PollState("young", "kind", 60.0), PollState("old", "kind", 0.0)
    assert cadence.worth(young, 105.0) < cadence.worth(old, 105.0)
    worths = [cadence.worth(young, 60.0 + age) for age in range(1, 300)]
    assert worths == sorted(worths)


def test_a_due_time_never_lies_in_the_past() -> None:
    cadence = taught(0.2)
    assert cadence.next_due(PollState("t", "kind", 0.0), 500.0, None, 1) == 500.0


def test_the_turnover_is_known_when_a_task_has_ended() -> None:
    cadence = make_cadence()
    assert cadence.turnover(30) == 0.0
    watch(cadence, 90.0)
    assert cadence.turnover(30) == pytest.approx(30 / 90, rel=0.1)


# --- When it ended ---


def test_the_end_is_when_the_service_says_if_that_can_be() -> None:
    cadence, task = make_cadence(), PollState("t", "kind", 100.0)
    cadence.still_runs(task, 150.0, is_pending=False)
    assert cadence.ended(task, 170.0, 60.0) == 160.0


def test_the_end_lies_between_the_last_answer_and_this_one_whatever_the_service_says() -> None:
    for reported_s in (None, 2.0, 49.5, 70.4):
        cadence, task = make_cadence(), PollState("t", "kind", 100.0)
        cadence.still_runs(task, 150.0, is_pending=False)
        assert 150.0 <= cadence.ended(task, 170.0, reported_s) <= 170.0


def test_a_task_that_began_before_we_knew_of_it_teaches_nothing() -> None:
    cadence = make_cadence()
    assert cadence.ended(PollState("t", "kind", 100.0, is_whole=False), 100.2, 90.0) == 100.0
    assert cadence.turnover(1) == 0.0


def test_a_length_that_no_task_of_ours_can_have_had_is_not_believed_and_the_task_teaches_as_one_without() -> None:
    """Believed, it would put each end as early as the last answer that saw the task running, task after task."""
    alike = [make_cadence(), make_cadence()]
    ends = [
        [cadence.ended(PollState("t", "kind", 100.0), 108.0, said) for _ in range(9)]
        for cadence, said in zip(alike, (None, 93.5), strict=True)
    ]
    assert ends[0] == ends[1]
    assert alike[1].turnover(1) == alike[0].turnover(1) > 0


def test_a_length_that_is_shorter_than_the_task_was_seen_to_run_is_not_believed_either() -> None:
    """Taken for its shortest, each task would seem to have ended at the last query that saw it running."""
    cadence = make_cadence()
    for _ in range(9):
        task = PollState("t", "kind", 100.0)
        cadence.still_runs(task, 100.8, is_pending=False)
        assert 100.8 < cadence.ended(task, 102.0, 0.2) <= 102.0


@pytest.mark.parametrize("reported_s", [None, 93.5])
def test_a_task_whose_end_was_noticed_ended_just_now_unless_the_service_says_when(reported_s: float | None) -> None:
    """Drawn from all of its age, as no query came before the notice, its end would seem far too early."""
    cadence = make_cadence()
    assert cadence.ended(PollState("t", "kind", 100.0), 108.0, reported_s, is_noticed=True) == 108.0
    assert cadence.ended(PollState("t", "kind", 100.0), 108.0, 7.5, is_noticed=True) == 107.5


@pytest.mark.parametrize("reported_s", [None, 0.3])
def test_a_task_that_is_not_watched_from_its_beginning_teaches_nothing_of_others(reported_s: float | None) -> None:
    cadence = make_cadence()
    cadence.ended(PollState("t", "kind", 100.0, is_whole=False), 100.01, reported_s)
    assert cadence.turnover(30) == 0.0  # 30 as short as that would leave no request for queries
    task = PollState("u", "kind", 200.0)
    assert cadence.worth(task, 300.0) == make_cadence().worth(task, 300.0)


def test_work_begins_when_the_task_was_last_seen_pending() -> None:
    cadence, task = make_cadence(), PollState("t", "kind", 0.0)
    cadence.still_runs(task, 40.0, is_pending=True)
    cadence.still_runs(task, 100.0, is_pending=False)
    assert cadence.ended(task, 140.0, 90.0) == 130.0


@pytest.mark.parametrize("told", [True, False])
def test_a_service_that_calls_a_task_pending_until_it_ends_is_asked_as_seldom_as_one_that_does_not(told: bool) -> None:
    cadence = taught(0.2, pending=True, told=told)
    assert len(watch(cadence, 90.0, pending=True, told=told)) < 25


def test_a_task_in_the_queue_is_asked_as_one_that_has_not_begun_if_the_service_tells_the_two_apart() -> None:
    cadence = taught(0.05, pending=True)  # so brief, or asked so seldom, that none was seen at work
    watch(cadence, 90.0)
    task = PollState("t", "kind", 0.0)
    cadence.still_runs(task, 300.0, is_pending=True)
    assert task.began_at == 300.0


def test_a_reported_length_that_includes_the_time_in_the_queue_is_counted_from_the_acceptance() -> None:
    """Counted from the end of the queue it would reach beyond now: the task would seem to have ended just now."""
    cadence, task = make_cadence(), PollState("t", "kind", 0.0)
    cadence.still_runs(task, 10.0, is_pending=True)
    cadence.still_runs(task, 80.0, is_pending=False)
    assert cadence.ended(task, 94.0, 91.0) == 91.0


# --- Whatever happens ---


class AnyService(RuleBasedStateMachine):
    """Tasks of any age that end at any time, with true, false and missing lengths."""

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        self.cadence, self.now = make_cadence(seed), 0.0
        self.tasks: list[PollState] = []

    @rule(seconds=st.floats(0, 1e5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(kind=st.sampled_from("ab"))
    def accept(self, kind: str) -> None:
        self.tasks.append(PollState("t", kind, self.now))

    @precondition(lambda self: self.tasks)
    @rule(pick=st.integers(0, 99), is_pending=st.booleans())
    def see_running(self, pick: int, is_pending: bool) -> None:
        self.cadence.still_runs(self.tasks[pick % len(self.tasks)], self.now, is_pending=is_pending)

    @precondition(lambda self: self.tasks)
    @rule(pick=st.integers(0, 99), reported_s=st.none() | st.floats(0, 1e6))
    def see_ended(self, pick: int, reported_s: float | None) -> None:
        task = self.tasks.pop(pick % len(self.tasks))
        ended_at = self.cadence.ended(task, self.now, reported_s)
        assert task.asked_at <= ended_at + 1e-6
        assert ended_at <= self.now + 1e-6

    @precondition(lambda self: self.tasks)
    @rule(pick=st.integers(0, 99), rate=st.none() | st.floats(1e-3, 100), running=st.integers(1, 1000))
    def nobody_starves(self, pick: int, rate: float | None, running: int) -> None:
        task = self.tasks[pick % len(self.tasks)]
        due = self.cadence.next_due(task, task.asked_at, rate, running)
        share_s = running / rate if rate else 0.0
        assert task.asked_at < due or task.asked_at > 1e9
        assert due - task.asked_at <= 6000 + 2 * (task.asked_at - task.began_at) + 2 * share_s

    @invariant()
    def worth_is_never_negative(self) -> None:
        assert all(self.cadence.worth(task, self.now) >= -1e-6 * (1 + self.now) for task in self.tasks)


AnyService.TestCase.settings = settings(max_examples=50, stateful_step_count=25, derandomize=True)
TestAnyService = AnyService.TestCase
