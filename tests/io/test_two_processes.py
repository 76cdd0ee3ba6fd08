"""Two processes, one journal: each job is worked by one of them at a time, and paid for once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import anyio
import attrs
import pytest

from hailuo_async import JournalState
from hailuo_async._io.journal.records import Intent, Record
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.emulator import Emulator
from hailuo_async.outcomes import Resource, Video

from ..support.crash_children import running, staged
from ..support.crash_journal import count_in, records_in, wait_for
from ..support.rawserver import Exchange

pytestmark = pytest.mark.anyio

PROMPTS = {f"job {number}" for number in range(30)}


def service(generation_s: float) -> Emulator:
    return Emulator(generation_s=generation_s, requests_per_minute=None, max_running=8)


@pytest.mark.slow
async def test_two_processes_with_the_same_jobs_pay_once_and_both_tell_every_outcome(path: Path) -> None:
    async with service(0.1) as emulator:
        options = {"base_url": emulator.url, "journal": str(path), "jobs": 30}
        async with running(**options) as first, running(**options) as second:
            assert [await first.ended(), await second.ended()] == [0, 0]
        assert first.outcomes() == second.outcomes() == dict.fromkeys(PROMPTS, "success")
        assert [len(tasks) for tasks in emulator.ledger.accepted.values()] == [1] * 30
        assert emulator.ledger.posts - emulator.ledger.submits_accepted < 30  # refused, never in doubt
    assert await count_in(path) == {JournalState.SUCCESS: 30}


@pytest.mark.slow
async def test_when_one_of_two_processes_is_killed_the_other_takes_its_jobs_over(path: Path) -> None:
    async with service(0.3) as emulator:
        options = {"base_url": emulator.url, "journal": str(path), "jobs": 30}
        async with running(**options) as first, running(**options) as second:
            await first.says("success", times=3)
            await second.says("open")
            first.signal(signal.SIGKILL)
            assert await second.ended() == 0
        told = second.outcomes()
        doubtful = {prompt for prompt, word in told.items() if word == "unknown"}
        paid = {prompt: len(tasks) for prompt, tasks in emulator.ledger.accepted.items()}
    assert set(told) == PROMPTS
    assert set(told.values()) <= {"success", "unknown"}
    assert set(paid.values()) == {1}
    assert set(paid) >= PROMPTS - doubtful
    assert (await count_in(path)).get(JournalState.UNKNOWN, 0) == len(doubtful)


async def _taken_over(journal: JournalWriter, record: Record) -> None:
    """The job is sent and finished by another session, after the lease of the first ran out."""
    assert record.fingerprint is not None
    mine = Intent(
        identity=record.identity,
        key=record.key,
        fingerprint=record.fingerprint,
        kind="ImageToVideo",
        model="hailuo-2.3-i2v",
        facts={},
    )
    assert (await journal.intend(mine)).ours
    assert await journal.sending(record.identity, time.time())
    await journal.note(journal.jobs.accepted, record.identity, "task-elsewhere", time.time())
    await journal.note(
        journal.jobs.succeeded, record.identity, Video("task-elsewhere", None, (Resource("http://localhost/x.mp4"),))
    )


@pytest.mark.slow
async def test_a_process_that_was_stopped_past_its_lease_does_not_pay_again_when_it_goes_on(path: Path) -> None:
    async with service(600.0) as emulator:
        options = {"base_url": emulator.url, "journal": str(path), "jobs": 2, "max_running": 1}
        async with running(**options) as stopped:
            await wait_for(path, lambda records: len(records) == 2 and records["job-0"].task_id is not None)
            stopped.signal(signal.SIGSTOP)
            found = await records_in(path)
            assert found["job-1"].state is JournalState.INTENDED
            # As another session sees it after half a minute: the lease has run out, and the process is still there.
            journal = await JournalWriter.open(path, base_url=emulator.url, now=lambda: time.time() + 30)
            await _taken_over(journal, found["job-1"])
            await journal.aclose()
            emulator.clock_offset_s = 600.0
            stopped.signal(signal.SIGCONT)
            assert await stopped.ended() == 0
        tasks = {said["prompt"]: said["task"] for said in stopped.said if said["word"] == "success"}
        assert tasks == {"job 0": emulator.ledger.accepted["job 0"][0], "job 1": "task-elsewhere"}
        assert list(emulator.ledger.accepted) == ["job 0"]
        assert emulator.ledger.posts == 1


@pytest.mark.slow
async def test_a_lease_that_is_renewed_is_not_taken_over(path: Path) -> None:
    async with service(60.0) as emulator:
        options = {"base_url": emulator.url, "journal": str(path), "jobs": 1}
        async with running(**options) as first:
            found = await wait_for(path, lambda records: [r.state for r in records.values()] == [JournalState.ACCEPTED])
            journal = await JournalWriter.open(path, base_url=emulator.url, now=lambda: time.time() + 25)
            claim = await journal.ask(journal.jobs.follow, "job-0")
            assert claim is not None
            assert not claim.ours
            assert attrs.evolve(claim.record, lease_until=None) == attrs.evolve(found["job-0"], lease_until=None)
            await journal.aclose()
            emulator.clock_offset_s += 90.0
            assert await first.ended() == 0
        assert first.outcomes() == {"job 0": "success"}


@pytest.mark.slow
async def test_a_process_waits_for_another_ones_post(path: Path) -> None:
    answering = anyio.Event()

    async def hold(step: str, exchange: Exchange) -> None:
        if step == "accepted":
            await answering.wait()

    async with staged(hold) as stage:
        options = {"base_url": stage.service.origin, "journal": str(path)}
        async with running(**options) as first:
            await wait_for(path, lambda records: [r.state for r in records.values()] == [JournalState.SENDING])
            async with running(**options) as second:
                await second.says("open")
                answering.set()
                assert [await first.ended(), await second.ended()] == [0, 0]
        assert first.outcomes() == second.outcomes() == {"job 0": "success"}
        assert stage.paid == {"job 0": 1}
