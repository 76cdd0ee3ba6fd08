"""The queue for a slot: first come first served, and a stream is one who comes."""

from __future__ import annotations

import asyncio
import itertools
from random import Random

from hailuo_async import AsyncSession
from hailuo_async._engine.queue import AHEAD_S, SubmitQueue
from hailuo_async._engine.tracked_job import Lane, TrackedJob
from hailuo_async.emulator import Service
from hailuo_async.testing import InMemory, run_virtual

from ..support.service import job, jobs
from ..support.streams import collect


def drain(queue: SubmitQueue) -> list[int]:
    """The numbers of all that wait, in the order in which they are sent."""
    order = []
    while (tracked := queue.first()) is not None:
        assert queue.take(tracked)
        order.append(tracked.number)
    return order


def filled(*tracked: TrackedJob) -> SubmitQueue:
    """A queue in which each came a moment after the one before it."""
    moments = itertools.count(1.0)
    queue = SubmitQueue(moments.__next__)
    for each in tracked:
        each.taken_at = next(moments)
        queue.put(each)
    return queue


def test_jobs_without_a_stream_are_sent_in_the_order_in_which_they_came() -> None:
    queue = filled(*map(TrackedJob, range(5)))
    assert (len(queue), drain(queue), len(queue)) == (5, [0, 1, 2, 3, 4], 0)


def test_streams_take_turns_and_a_single_job_waits_behind_one_of_each() -> None:
    one, other = Lane(), Lane()
    streams = [TrackedJob(number, lane=lane) for number, lane in enumerate([one, one, one, other, other])]
    assert drain(filled(*streams, TrackedJob(9))) == [0, 3, 9, 1, 4, 2]


def test_a_stream_that_begins_a_moment_before_another_is_not_a_turn_ahead_for_each_job_sent_meanwhile() -> None:
    early, late = Lane(), Lane()
    now = 0.0
    queue = SubmitQueue(lambda: now)
    jobs_of = {lane: [TrackedJob(number, lane=lane) for number in range(4)] for lane in (early, late)}
    for tracked in jobs_of[early]:
        queue.put(tracked)
    for tracked in jobs_of[early][:2]:
        queue.take(tracked)
    now = 0.1
    for tracked in jobs_of[late]:
        queue.put(tracked)
    order = []
    while (first := queue.first()) is not None:
        queue.take(first)
        order.append("early" if first.lane is early else "late")
    assert order == ["late", "late", "early", "late", "early", "late"]


def test_a_stream_that_sent_very_many_at_once_waits_only_a_while_for_those_that_come_after_it() -> None:
    lane = Lane()
    queue = SubmitQueue(lambda: 5.0)
    streamed = [TrackedJob(number, lane=lane) for number in range(100)]
    for tracked in streamed:
        queue.put(tracked)
    for tracked in streamed[:-1]:
        queue.take(tracked)
    assert streamed[-1].waits_since == 5.0 + AHEAD_S


def test_a_job_that_was_refused_goes_back_to_where_it_was() -> None:
    lane = Lane()
    first, second, single = TrackedJob(0, lane=lane), TrackedJob(1, lane=lane), TrackedJob(2)
    queue = filled(first, second, single)
    queue.take(first)
    queue.put(first)
    assert drain(queue) == [0, 2, 1]


def test_jobs_of_a_stream_that_come_back_in_any_order_stand_as_one() -> None:
    lane = Lane()
    tracked = [TrackedJob(number, lane=lane) for number in range(4)]
    single = TrackedJob(9)
    queue = filled(*tracked, single)
    for each in tracked[:3]:
        queue.take(each)
    for number in (1, 0, 2):
        queue.put(tracked[number])
    assert [each.waits_since is not None for each in tracked] == [True, False, False, False]
    assert drain(queue) == [0, 9, 1, 2, 3]


def test_a_job_that_is_taken_out_has_the_next_of_its_lane_stand() -> None:
    lane = Lane()
    tracked = [TrackedJob(number, lane=lane) for number in range(4)]
    queue = filled(*tracked)
    assert [queue.take(tracked[number]) for number in (0, 2, 0)] == [True, True, False]
    assert drain(queue) == [1, 3]


def test_of_a_lane_those_that_were_left_unsent_before_stand_next() -> None:
    lane = Lane()
    tracked = [TrackedJob(number, lane=lane) for number in range(5)]
    tracked[2].was_left = tracked[4].was_left = True
    assert drain(filled(*tracked, TrackedJob(9))) == [0, 9, 2, 4, 1, 3]


def test_ten_thousand_that_leave_at_once_are_not_searched_for_and_not_kept() -> None:
    tracked = [TrackedJob(number) for number in range(10_000)]
    queue = filled(*tracked)
    left = [each for each in Random(0).sample(tracked, len(tracked)) if each.number]
    for each in left:
        queue.take(each)
    assert (len(queue), len(queue._heap) <= 1_000) == (1, True)
    assert drain(queue) == [0]


def test_all_are_taken_out_in_the_order_of_their_numbers() -> None:
    lane = Lane()
    queue = filled(TrackedJob(2, lane=lane), TrackedJob(1, lane=lane), TrackedJob(0))
    assert [tracked.number for tracked in queue.take_all()] == [0, 1, 2]
    queue.put(TrackedJob(3, lane=lane))
    assert drain(queue) == [3]


def test_a_visitor_beside_two_streams_waits_for_a_slot_or_two() -> None:
    service = Service(generation_s=60, spread=0.0, max_running=3, requests_per_minute=None)

    async def main() -> float:
        line = InMemory(service)
        session = AsyncSession(api_key=service.api_key, base_url="http://localhost", transport=line, rng=Random(1))
        async with session:
            streams = [asyncio.ensure_future(collect(session.stream(jobs(40)))) for _ in range(2)]
            await asyncio.sleep(200)
            began_at = asyncio.get_running_loop().time()
            await (await session.submit(job("the visitor's"))).accepted()
            waited_s = asyncio.get_running_loop().time() - began_at
            await asyncio.gather(*streams)
            return waited_s

    assert run_virtual(main) <= 75.0  # three slots are freed in each minute, and at most two jobs are before it
