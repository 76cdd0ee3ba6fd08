"""How many tasks may run: the search, the lessons, the probes, and what must hold whatever happens."""

from __future__ import annotations

import math
from random import Random

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hailuo_async._rules.slots import Slots
from hailuo_async.contract import RUNNING_TIERS

#: No probe is further away than this, jitter included: of a tier, and of any other limit that is not large.
LONGEST_S, LONGEST_OFF_TIERS_S = 660.0, 55.0


def make_slots(ceiling: int | None = None) -> Slots:
    return Slots(ceiling, Random(7))


def fly(slots: Slots, room: int, now: float) -> tuple[int, int]:
    """Send all that may leave at ``now``; the service has ``room`` for so many more. Returns (accepted, refused)."""
    flight = 0
    while slots.may_start(now) <= now:
        slots.started(now)
        flight += 1
    accepted = min(flight, room)
    for _ in range(accepted):
        slots.accepted()
    for _ in range(flight - accepted):
        slots.refused(now, now)
    return accepted, flight - accepted


def settle(slots: Slots, limit: int, now: float = 0.0) -> tuple[int, int]:
    """Fly until nothing may leave any more. Returns (round trips, refusals)."""
    trips = refusals = 0
    while slots.may_start(now) <= now:
        refusals += fly(slots, limit - slots.running, now)[1]
        trips += 1
    return trips, refusals


def test_three_leave_at_once_and_the_fourth_only_after_an_answer() -> None:
    slots = make_slots()
    for _ in range(3):
        assert slots.may_start(0.0) <= 0.0
        slots.started(0.0)
    assert (slots.limit, slots.running, slots.may_start(0.0)) == (3, 3, math.inf)


def test_the_typical_limit_is_found_for_one_refusal() -> None:
    slots = make_slots()
    assert settle(slots, 3) == (2, 1)
    assert (slots.limit, slots.running) == (3, 3)


def test_a_large_limit_is_found_for_refusals_of_at_most_a_fifth() -> None:
    for limit in range(4, 200):
        slots = make_slots()
        trips, refusals = settle(slots, limit)
        assert (slots.limit, slots.running) == (limit, limit)
        assert refusals <= max(1, limit / 5)
        assert trips <= 31


def test_a_tier_is_found_for_one_refusal() -> None:
    for tier in RUNNING_TIERS:
        slots = make_slots()
        trips, refusals = settle(slots, tier)
        assert (slots.limit, slots.running, refusals) == (tier, tier, 1)
        assert trips <= 26


def test_three_hundred_starts_ramp_geometrically_where_nothing_is_refused() -> None:
    slots, trips = make_slots(), 0
    while slots.running < 300:
        assert fly(slots, 10_000, 0.0)[0] > 0
        trips += 1
    assert trips <= 33


def test_an_end_is_filled_at_once_and_costs_nothing() -> None:
    slots = make_slots()
    settle(slots, 3)
    slots.ended(19.5)
    assert fly(slots, 1, 20.0) == (1, 0)
    assert slots.may_start(20.0) > 20.0


def test_a_flight_that_is_refused_is_one_lesson() -> None:
    one, many = make_slots(), make_slots()
    settle(one, 3)
    settle(many, 3)
    for slots, flight in ((one, 1), (many, 3)):
        for _ in range(flight):
            slots.ended()
        for _ in range(flight):
            slots.started(100.0)
        for _ in range(flight):
            slots.refused(100.2, 100.0)
    assert (one.limit, many.limit) == (2, 1)
    assert (many.running, many.may_start(100.2) > 100.2) == (0, True)
    assert many.may_start(100.2) <= 101.2


def test_each_failed_probe_makes_the_next_one_rarer_up_to_a_minute() -> None:
    slots, now, waits = make_slots(), 0.0, []
    settle(slots, 3)
    for _ in range(8):
        wait = slots.may_start(now) - now
        waits.append(wait)
        now += wait
        assert fly(slots, 0, now) == (0, 1)
    assert waits[0] < waits[1] < waits[2]
    assert 40 < waits[0] < 50
    assert all(wait < LONGEST_OFF_TIERS_S for wait in waits)
    assert slots.limit == 3


def test_slots_given_back_are_noticed_within_a_minute_however_long_they_were_gone() -> None:
    slots, now = make_slots(), 0.0
    settle(slots, 6)
    for _ in range(4):
        slots.ended()
        fly(slots, 0, now)
    assert slots.limit == 2
    for _ in range(12):
        wait = slots.may_start(now) - now
        assert 0 < wait < 60
        now += wait
        fly(slots, 0, now)
    now = slots.may_start(now)
    settle(slots, 6, now)
    assert slots.limit == 6


def test_below_the_typical_limit_somebody_else_is_assumed_to_hold_the_rest() -> None:
    slots, now = make_slots(), 0.0
    settle(slots, 1)
    for _ in range(9):
        wait = slots.may_start(now) - now
        assert wait < 60
        now += wait
        fly(slots, 0, now)


def test_a_settled_tier_is_probed_every_ten_minutes_in_the_end() -> None:
    slots, now, probes = make_slots(), 0.0, 0
    settle(slots, 20)
    while (now := slots.may_start(now)) < 9000:
        assert fly(slots, 0, now) == (0, 1)
        probes += 1
    assert probes <= 22
    assert slots.limit == 20


def test_a_tier_that_others_take_from_is_probed_within_a_minute_as_any_limit() -> None:
    slots, now = make_slots(), 0.0
    settle(slots, 20)
    for _ in range(10):
        slots.ended()
        fly(slots, 0, now)
    assert slots.limit == 10
    for _ in range(12):
        wait = slots.may_start(now) - now
        assert wait < 60
        now += wait
        fly(slots, 0, now)


def test_one_slot_beyond_a_tier_that_is_refused_soon_was_a_task_that_had_ended_unnoticed() -> None:
    slots = make_slots()
    settle(slots, 10)
    now = slots.may_start(0.0)
    assert fly(slots, 1, now) == (1, 0)
    assert fly(slots, 0, now) == (0, 1)
    slots.ended()
    assert fly(slots, 0, now + 1) == (0, 1)
    assert slots.limit == 10
    assert slots.may_start(now + 1) > now + 60


def test_refusals_at_the_end_of_a_search_that_come_one_by_one_are_no_sign_that_the_limit_has_shrunk() -> None:
    """A limit that shrinks is probed again in seconds. Here one POST left just after another's refusal had come."""
    slots = make_slots()
    for _ in range(12):
        slots.started(0.0)
        slots.accepted()
    assert slots.limit >= 14
    slots.started(0.27)
    slots.started(0.29)
    slots.refused(0.28, 0.27)
    slots.refused(0.31, 0.29)
    assert slots.limit == 12
    assert slots.may_start(0.31) > 40.0


def test_an_accepted_probe_goes_on_one_by_one() -> None:
    slots = make_slots()
    settle(slots, 3)
    now = slots.may_start(0.0)
    assert fly(slots, 1, now) == (1, 0)
    assert slots.limit == 5
    assert fly(slots, 0, now) == (0, 1)
    assert slots.limit == 4


def test_an_end_that_lies_before_the_proof_takes_it_back_without_a_refusal() -> None:
    slots = make_slots()
    settle(slots, 3)
    now = slots.may_start(0.0)
    fly(slots, 1, now)
    fly(slots, 0, now)
    assert (slots.limit, slots.running) == (4, 4)
    slots.ended(now - 0.5)
    assert (slots.limit, slots.running) == (3, 3)
    assert slots.may_start(now + 1) > now + 1


def test_an_end_after_the_proof_leaves_it_standing() -> None:
    slots = make_slots()
    settle(slots, 3)
    now = slots.may_start(0.0)
    settle(slots, 4, now)
    slots.ended(now + 0.5)
    assert (slots.limit, slots.running) == (4, 3)
    assert slots.may_start(now + 1) <= now + 1


def test_the_last_slot_is_never_taken_back() -> None:
    slots = make_slots()
    settle(slots, 1)
    slots.ended(-1.0)
    assert (slots.limit, slots.running) == (1, 0)


def test_refused_with_nothing_running_it_holds_longer_each_time_and_is_on_time_when_accepted() -> None:
    slots, now, holds = make_slots(), 0.0, []
    for _ in range(10):
        fly(slots, 0, now)
        holds.append(slots.may_start(now) - now)
        now += holds[-1]
    assert 0.5 <= holds[0] <= 1.0
    assert holds[5] > 10
    assert max(holds) <= 40
    assert fly(slots, 1, now) == (1, 0)
    slots.ended()
    fly(slots, 0, now + 5)
    assert slots.may_start(now + 5) - (now + 5) <= 1.0


def test_a_post_that_made_no_task_gives_its_slot_back_and_teaches_nothing() -> None:
    slots = make_slots()
    slots.started(0.0)
    slots.released()
    assert (slots.limit, slots.running) == (3, 0)


def test_adopted_tasks_take_slots_and_the_search_goes_on_above_them() -> None:
    slots = make_slots()
    for _ in range(5):
        slots.adopted()
    assert (slots.running, slots.limit) == (5, 6)
    assert fly(slots, 0, 0.0) == (0, 1)
    assert (slots.running, slots.limit) == (5, 5)
    for _ in range(5):
        slots.ended(-60.0)
    assert (slots.running, slots.limit) == (0, 1)


def test_the_ceiling_is_never_passed_and_never_probed() -> None:
    slots = make_slots(ceiling=2)
    assert settle(slots, 10) == (1, 0)
    assert (slots.limit, slots.running, slots.may_start(1e6)) == (2, 2, math.inf)


@attrs.define
class Post:
    started_at: float
    is_accepted: bool


class AnyService(RuleBasedStateMachine):
    """A service whose limit moves, whose answers are late and out of order, and a client that polls late."""

    @initialize(ceiling=st.none() | st.integers(1, 12), limit=st.integers(0, 12), seed=st.integers(0, 99))
    def begin(self, ceiling: int | None, limit: int, seed: int) -> None:
        self.slots = Slots(ceiling, Random(seed))
        self.ceiling, self.limit, self.now = ceiling, limit, 0.0
        self.flight: list[Post] = []
        self.ended_at: list[float | None] = []
        self.is_adopting = False

    @rule(seconds=st.floats(0.01, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(0, 12))
    def others_come_and_go(self, limit: int) -> None:
        self.limit = limit

    @rule()
    def send_all_that_may_leave(self) -> None:
        while self.slots.may_start(self.now) <= self.now:
            is_probe = self.slots.running >= self.slots.limit
            assert not is_probe or not self.flight, "a probe goes alone"
            working = sum(post.is_accepted for post in self.flight) + self.ended_at.count(None)
            self.flight.append(Post(self.now, working < self.limit))
            self.slots.started(self.now)
            assert self.ceiling is None or self.slots.running <= self.ceiling
            assert len(self.flight) <= 20

    @precondition(lambda self: self.flight)
    @rule(data=st.data())
    def answer_one(self, data: st.DataObject) -> None:
        post = self.flight.pop(data.draw(st.integers(0, len(self.flight) - 1)))
        before = self.slots.limit
        if post.is_accepted:
            self.slots.accepted()
            self.ended_at.append(None)
        else:
            self.slots.refused(self.now, post.started_at)
            assert self.slots.limit <= max(before, self.slots.running, 1)

    @precondition(lambda self: self.flight)
    @rule()
    def lose_one(self) -> None:
        self.flight.pop()
        self.slots.released()

    @precondition(lambda self: None in self.ended_at)
    @rule()
    def end_one_unnoticed(self) -> None:
        self.ended_at[self.ended_at.index(None)] = self.now

    @precondition(lambda self: any(self.ended_at))
    @rule(is_told=st.booleans())
    def notice_one(self, is_told: bool) -> None:
        ended_at = next(at for at in self.ended_at if at is not None)
        self.ended_at.remove(ended_at)
        self.slots.ended(ended_at if is_told else None)

    @precondition(lambda self: len(self.ended_at) < 12 and self.ceiling is None)
    @rule()
    def adopt(self) -> None:
        self.ended_at.append(None)
        self.slots.adopted()

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        assert self.slots.running == len(self.flight) + len(self.ended_at)
        assert 1 <= self.slots.limit <= (self.ceiling or 10_000)

    @invariant()
    def a_permit_is_never_lost(self) -> None:
        opens_at = self.slots.may_start(self.now)
        if not self.flight and (self.ceiling is None or self.slots.running < self.ceiling):
            assert opens_at <= self.now + (
                LONGEST_S if self.slots.limit in RUNNING_TIERS else LONGEST_OFF_TIERS_S * 1.2
            )
        if not self.slots.running:
            assert opens_at <= self.now + 40


AnyService.TestCase.settings = settings(max_examples=120, stateful_step_count=40, derandomize=True)
TestAnyService = AnyService.TestCase
TestAnyService.pytestmark = pytest.mark.slow  # type: ignore[attr-defined]


def test_a_search_that_ends_where_it_began_is_no_sign_that_others_took_slots() -> None:
    """Its probe had the slot of a task that had ended unnoticed. A limit that shrinks is probed again in seconds."""
    slots = Slots(None, Random(1))
    for _ in range(12):
        slots.started(0.0)
        slots.accepted()
    slots.started(1.0)
    slots.refused(1.0, 1.0)
    slots.started(400.0)
    slots.accepted()
    slots.ended(400.4)
    slots.started(401.0)
    slots.refused(401.0, 401.0)
    assert slots.limit == 12
    slots.started(402.0)
    slots.released()
    assert slots.may_start(402.0) > 402.0 + 30.0
