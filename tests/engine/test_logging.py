"""The log: a line for each change of a job's status, and at WARNING what its reader can do something about."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from itertools import pairwise

import pytest

from hailuo_async import AsyncSession, Generation, ImageToVideo
from hailuo_async._engine.poller import MANY_FAILED
from hailuo_async._rules.wire import Answer, Request, unknown, unsent
from hailuo_async.emulator import FaultRates, Faults, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.listening import line_that, told_of
from ..support.service import CONCURRENT, KEY, Line, asked_about, envelope, finished, job, jobs, refusal, running, told

SECRETS = (KEY, "sig=", "Signature", "a secret wish")


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("DEBUG", "hailuo_async")
    return caplog


def lines(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level]


def changes(log: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in lines(log, logging.DEBUG) if " -> " in line]


def test_each_change_of_a_status_is_one_line(log: pytest.LogCaptureFixture) -> None:
    told_of(line_that((429, CONCURRENT)))
    assert lines(log, logging.DEBUG) == [
        "job 'cat', task None: queued -> sending",
        "job 'cat', task None: sending -> queued",
        "job 'cat', task None: queued -> sending",
        "job 'cat', task task-1: sending -> pending",
        "job 'cat', task task-1: pending -> success",
    ]


def test_a_job_without_a_key_is_named_by_its_number(log: pytest.LogCaptureFixture) -> None:
    async def generate(session: AsyncSession) -> None:
        await session.generate(job())

    told_of(Line(), generate)
    assert changes(log)[-1] == "job #0, task task-1: pending -> success"


@pytest.mark.slow
def test_whatever_goes_wrong_every_change_is_told_once_and_no_secret_ever(log: pytest.LogCaptureFixture) -> None:
    faults = Faults(
        submit=FaultRates(refuse=0.1, rate_429=0.1, cut_after=0.1, error_500=0.1, garbage=0.1),
        query=FaultRates(cut_before=0.1, garbage=0.1, unknown_status=0.1, error_500=0.1, missing_fields=0.1),
    )
    service = Service(api_key=KEY, generation_s=60, fail_rate=0.1, faults=faults, seed=11)
    histories: dict[str, list[str]] = {}

    async def follow(generation: Generation) -> None:
        seen = [status.value async for status in generation.updates()]
        histories[repr(generation.key)] = seen if seen[0] == "queued" else ["queued", *seen]  # the first leave at once

    async def main() -> None:
        session = AsyncSession(api_key=KEY, base_url="http://localhost", transport=InMemory(service, api_key=KEY))
        async with session, asyncio.TaskGroup() as tasks:
            for number in range(100):
                url = f"https://pictures.example/{number}.jpg?Signature=4711"
                asked = ImageToVideo(url, prompt=f"a secret wish {number}", key=f"job {number}")
                tasks.create_task(follow(await session.submit(asked)))

    run_virtual(main)
    told: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in changes(log):
        name, before, after = re.fullmatch(r"job (.+), task \S+: (\w+) -> (\w+)", line).groups()  # type: ignore[union-attr]
        told[name].append((before, after))
    assert told == {name: list(pairwise(history)) for name, history in histories.items()}
    assert {history[-1] for history in histories.values()} == {"success", "failed", "refused", "unknown"}
    said = [f"{record.getMessage()} {record.args} {record.exc_info}" for record in log.records]
    assert [line for line in said for secret in SECRETS if secret in line] == []
    assert {record.name for record in log.records if record.name.startswith("hailuo")} == {"hailuo_async"}


# --- What can be done about it ----------------------------------------------------------------------------------------


def test_a_lost_answer_says_where_to_look(log: pytest.LogCaptureFixture) -> None:
    told_of(line_that(unknown("cut")))
    assert lines(log, logging.WARNING) == [
        "job 'cat' may have been accepted and paid for: cut; it is not sent again by itself: "
        "look on the service's dashboard before you send it again"
    ]


def test_a_job_that_is_sent_again_after_a_doubt_says_how_to_be_asked(log: pytest.LogCaptureFixture) -> None:
    told_of(line_that(unknown("cut")), on_unknown="resubmit")
    assert lines(log, logging.WARNING) == [
        "job 'cat' is sent again, and may be paid for twice: cut; on_unknown='raise' would let you decide"
    ]


def test_what_ends_all_that_wait_is_told_once_for_all_of_them(log: pytest.LogCaptureFixture) -> None:
    async def three(session: AsyncSession) -> None:
        await asyncio.gather(*map(session.generate, jobs(3)), return_exceptions=True)

    told_of(line_that((402, refusal(402, "the balance is empty"))), three, max_running=1)
    assert lines(log, logging.WARNING) == [
        "nothing more is sent: 402 the balance is empty; 2 queued jobs end unsent: "
        "correct the cause, and give them again"
    ]


def test_a_service_out_of_reach_is_told_of_when_it_is_no_hiccup_and_once_until_it_is_back(
    log: pytest.LogCaptureFixture,
) -> None:
    down = unsent("cannot connect to api.example")
    told_of(line_that(down))
    assert lines(log, logging.WARNING) == []
    told_of(line_that(*[down] * 6))
    assert lines(log, logging.WARNING) == [
        "the service cannot be reached: cannot connect to api.example; the session keeps trying: "
        "check the network and base_url"
    ]


def test_what_nobody_understands_asks_to_be_reported_or_looked_at(log: pytest.LogCaptureFixture) -> None:
    async def say_strange_things(request: Request) -> Answer:
        if len(line.queries) > 2:
            return told(200, finished(asked_about(request)))
        return told(200, running(status="levitating"), {"X-RateLimit-Remaining": "-4"})

    line = Line(on_query=say_strange_things)
    told_of(line)
    assert lines(log, logging.WARNING) == [
        "headers with impossible values are ignored: x-ratelimit-remaining; check whether a proxy changes them",
        "the status 'levitating' is unknown; task task-1 is queried until it ends: please report this word",
    ]


def test_tasks_whose_queries_keep_failing_are_told_of_once(log: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> Answer:
        if len(line.queries) > 3 * MANY_FAILED:
            return told(200, finished(asked_about(request)))
        return told(200, envelope({"status": "success", "task_id": asked_about(request)}))

    async def two(session: AsyncSession) -> None:
        await asyncio.gather(*map(session.generate, jobs(2)))

    line = Line(on_query=fail)
    told_of(line, two)
    assert lines(log, logging.WARNING) == [
        "the last 10 queries of task task-1 failed: "
        "success without a resource that has a URL @ $.data.result.resources; "
        "it is queried all the same: see what the service answers"
    ]


def test_nothing_is_warned_of_when_nothing_is_wrong(log: pytest.LogCaptureFixture) -> None:
    told_of(Line())
    assert [record for record in log.records if record.levelno > logging.INFO] == []
