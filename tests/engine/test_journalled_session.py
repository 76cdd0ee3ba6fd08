"""A session with a journal: what is on disk at each moment, who works on a job, and what a journal in trouble does."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hailuo_async import (
    AsyncSession,
    AuthenticationError,
    ConfigError,
    Failure,
    Hooks,
    ImageToVideo,
    JobError,
    JobNotFoundError,
    JournalError,
    JournalState,
    Outcome,
    RequestRejectedError,
    SessionClosedError,
    Status,
    SubmissionUnknownError,
    Success,
    TaskFailedError,
    WaitTimeoutError,
)
from hailuo_async._engine.arguments import Parts
from hailuo_async._engine.journaling import JournalRecorder
from hailuo_async._engine.session_state import Phase, SessionState
from hailuo_async._engine.spending_limit import Money
from hailuo_async._engine.wiring import start_engine
from hailuo_async._io.journal import files
from hailuo_async._io.journal.records import Claim, Intent, Permit
from hailuo_async._io.journal.team_values import Refreshed
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.wire import Answer, Request, unknown

from ..support.crash_journal import (
    bytes_of,
    in_short,
    keyed,
    lapse,
    locked,
    no_room,
    records_in,
    run_batch,
    states_in,
    wait_for,
)
from ..support.leaping import Leap
from ..support.service import (
    CONCURRENT,
    IMAGE_URL,
    KEY,
    Line,
    asked_about,
    failed,
    finished,
    job,
    jobs,
    make_settings,
    never,
    no_such_key,
    refusal,
    running,
    told,
    until,
)
from ..support.streams import read_into

pytestmark = pytest.mark.anyio


# --- What is on disk, and when ----------------------------------------------------------------------------------------


async def test_each_step_is_on_disk_before_anything_follows_from_it(path: Path) -> None:
    line, at_the_post, at_the_query, acceptance_was_read = Line(), [], [], anyio.Event()

    async def accept(request: Request) -> Answer:
        at_the_post.append(await states_in(path))
        return line.accept()

    async def finish(request: Request) -> Answer:
        await acceptance_was_read.wait()
        at_the_query.append((await records_in(path))["cat"].task_id)
        return told(200, finished(asked_about(request)))

    line.on_post, line.on_query = accept, finish
    async with line.session(journal=path) as session:
        generation = await session.submit(job(key="cat"))
        at_the_submit = await states_in(path)
        task_id = await generation.accepted()
        at_the_acceptance = (await records_in(path))["cat"]
        acceptance_was_read.set()
        video = await generation
        at_the_end = (await records_in(path))["cat"]
    assert list(at_the_submit) == ["cat"]
    assert at_the_post == [{"cat": JournalState.SENDING}]
    assert (at_the_acceptance.state, at_the_acceptance.task_id) == (JournalState.ACCEPTED, task_id)
    assert at_the_query == [task_id]
    assert (at_the_end.state, at_the_end.video) == (JournalState.SUCCESS, video)


def commits_in(path: Path) -> int:
    """How many commits the journal's log holds: the last frame of each says how many pages the file has then."""
    page, log = 4096, files.log_of(path).read_bytes()
    frames = range(32, len(log), 24 + page)
    return sum(log[frame + 4 : frame + 8] != bytes(4) for frame in frames)


async def test_where_all_slots_are_taken_a_job_takes_two_commits(path: Path) -> None:
    """One for its acceptance, and one for its end together with the grant of the next POST."""
    async with Line().session(journal=path, max_running=1) as session:
        before = await anyio.to_thread.run_sync(commits_in, path)
        outcomes = [outcome async for outcome in session.stream(jobs(20))]
        after = await anyio.to_thread.run_sync(commits_in, path)
    assert len(outcomes) == 20
    assert after - before < 2.5 * 20  # two, and some of the session's own


@pytest.mark.parametrize(
    ("submit", "query", "state", "error"),
    [
        (told(422, refusal(422, "Value out of range: x")), None, JournalState.REFUSED, RequestRejectedError),
        (unknown("cut"), None, JournalState.UNKNOWN, SubmissionUnknownError),
        (None, told(200, failed()), JournalState.FAILED, TaskFailedError),
    ],
)
async def test_each_bad_end_is_on_disk_before_it_is_told(
    path: Path,
    submit: Answer | None,
    query: Answer | None,
    state: JournalState,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line, note, told = Line(), JournalWriter.note, list[Status]()

    async def note_and_look(*asked: Any) -> None:
        await note(*asked)
        told.append(generation.status)

    monkeypatch.setattr(JournalWriter, "note", note_and_look)

    async def answer(request: Request) -> Answer:
        return submit or line.accept()

    async def report(request: Request) -> Answer:
        assert query is not None
        return query

    line.on_post, line.on_query = answer, report
    async with line.session(journal=path) as session:
        generation = await session.submit(job(key="cat"))
        with pytest.raises(error) as caught:
            await generation
        record = (await records_in(path))["cat"]
    assert (record.state, type(record.error), str(record.error)) == (state, error, str(caught.value))
    assert record.holder is None
    assert told in ([Status.SENDING], [Status.SENDING, Status.PENDING])  # as the notes were written


@pytest.mark.parametrize("how", ["attach", "resolve"])
async def test_a_task_that_a_refusal_named_is_on_record_and_can_be_waited_for(path: Path, how: str) -> None:
    async def refuse(request: Request) -> Answer:
        return told(409, {**refusal(409, "there is one"), "data": {"task_id": "task-7"}})

    line = Line(on_post=refuse)
    async with line.session(journal=path) as session:
        with pytest.raises(SubmissionUnknownError):
            await session.generate(job(key="cat"))
        assert await states_in(path) == {"cat": JournalState.UNKNOWN}
        (outcome,) = [outcome async for outcome in session.resume()]
        assert isinstance(outcome, Failure)
        assert (type(outcome.error), outcome.error.task_id) == (SubmissionUnknownError, "task-7")
    async with line.session(journal=path) as session:
        if how == "resolve":
            await session.resolve("cat", task_id="task-7")
            assert (await session.generate(job(key="cat"))).task_id == "task-7"
        else:
            assert (await (await session.attach("task-7"))).task_id == "task-7"
            assert (await session.generate(job(key="cat"))).task_id == "task-7"
    assert await states_in(path) == {"cat": JournalState.SUCCESS}
    assert len(line.posts) == 1


async def test_a_job_refused_for_want_of_room_is_on_disk_as_unsent(path: Path) -> None:
    line = Line()
    refused = anyio.Event()

    async def refuse(request: Request) -> Answer:
        refused.set()
        return told(429, CONCURRENT)

    line.on_post = refuse
    async with line.session(journal=path) as session:
        await session.submit(job(key="cat"))
        await refused.wait()
        await wait_for(path, lambda records: records["cat"].state is JournalState.INTENDED)
    assert (await records_in(path))["cat"].sent_at is None


async def test_the_file_holds_no_key_no_image_and_no_prompt_unless_asked(path: Path, tmp_path: Path) -> None:
    data_url = "data:image/png;base64,iVBORw0KGgo"
    signed = "https://pictures.example/cat.jpg?signature=5ecret"
    asked = ImageToVideo(signed, prompt="a very private cat", key="cat")
    line = Line()
    await run_batch(line, path, [asked])
    await run_batch(line, tmp_path / "told.db", [asked], journal_prompts=True)
    held, also_held = await bytes_of(path), await bytes_of(tmp_path / "told.db")
    for secret in (KEY, "5ecret", data_url, "pictures.example"):
        assert secret.encode() not in held + also_held
    assert b"a very private cat" not in held
    assert b"a very private cat" in also_held


# --- One job, many callers --------------------------------------------------------------------------------------------


async def test_two_submits_at_once_under_one_key_are_one_post_and_both_get_the_video(path: Path) -> None:
    line = Line()
    async with line.session(journal=path) as session:
        videos = await asyncio.gather(*(session.generate(job(key="cat")) for _ in range(2)))
        again = await session.generate(job(key="cat"))
    assert {video.task_id for video in [*videos, again]} == {"task-1"}
    assert len(line.posts) == 1


async def test_a_key_in_a_stream_twice_is_one_post_and_two_outcomes(path: Path) -> None:
    line = Line()
    outcomes = await run_batch(line, path, keyed("cat", "dog", "cat"))
    assert [(outcome.index, outcome.key) for outcome in outcomes] == [(0, "cat"), (1, "dog"), (2, "cat")]
    assert outcomes[0] == Success(outcomes[0].job, "cat", 0, outcomes[2].video)  # type: ignore[union-attr]
    assert sorted(map(str, line.prompts)) == ["cat", "dog"]


async def test_a_caller_who_leaves_takes_nothing_from_another_of_the_same_job(path: Path) -> None:
    line = Line(on_query=never)
    async with line.session(journal=path, max_running=1) as session:
        holding = await session.submit(job("holds the slot", key="first"))
        await holding.accepted()
        waiting = await session.submit(job(key="cat"))
        joining = asyncio.create_task(session.generate(job(key="cat")))
        await anyio.wait_all_tasks_blocked()
        joining.cancel()
        await asyncio.wait([joining])
        line.on_query = None
        assert (await waiting).task_id == "task-2"
    assert line.prompts == ["holds the slot", "a cat"]


async def test_another_job_under_a_key_is_refused_and_the_batch_goes_on(path: Path) -> None:
    line = Line()
    outcomes = await run_batch(line, path, [job("a cat", key="pet"), job("a dog", key="pet"), job("a cow", key="cow")])
    assert in_short(outcomes) == ["task-1", "JobError", "task-2"]
    assert isinstance(outcomes[1], Failure)
    assert isinstance(outcomes[1].error, JobError)
    assert (outcomes[1].error.field, outcomes[1].error.value) == ("key", "pet")
    async with line.session(journal=path) as session:
        with pytest.raises(JobError, match="names another job in this journal"):
            await session.submit(job("a horse", key="pet"))
    assert len(line.posts) == 2


@pytest.mark.parametrize("keep_jobs", [False, True])
async def test_a_job_that_a_wrong_key_left_unsent_may_be_changed_under_its_own(path: Path, keep_jobs: bool) -> None:
    line = Line(on_post=no_such_key)
    async with line.session(journal=path, keep_jobs=keep_jobs) as session:
        with pytest.raises(AuthenticationError):
            await session.generate(job("a cat", key="pet"))
    line.on_post = None
    async with line.session(journal=path) as session:
        await session.generate(job("a dog", key="pet"))
    assert line.prompts == ["a cat", "a dog"]


# --- A journal that fails ---------------------------------------------------------------------------------------------


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that another program holds is waited for for a moment, not for seconds."""
    monkeypatch.setattr(JournalWriter, "open", partial(JournalWriter.open, busy_timeout_s=0.01))
    for module in ("commits", "writer"):
        monkeypatch.setattr(f"hailuo_async._io.journal.{module}.SHORT_PATIENCE_S", 0.05)


@pytest.mark.slow
async def test_a_disk_that_is_full_for_a_while_delays_a_batch_and_ends_nothing(path: Path) -> None:
    line, seen = Line(), list[Outcome]()
    full, is_full = contextlib.ExitStack(), anyio.Event()

    async def fill_after_five(request: Request) -> Answer:
        if len(line.posts) == 5:
            await anyio.to_thread.run_sync(full.enter_context, no_room(path))
            is_full.set()
        return line.accept()

    line.on_post = fill_after_five
    with full:
        async with line.session(journal=path, max_running=2) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(read_into, seen, session.stream(keyed(*(f"job-{number}" for number in range(40)))))
            await is_full.wait()
            with anyio.move_on_after(0.3):  # for many tries that fail
                await anyio.sleep_forever()
            during = len(line.posts)
            full.close()
    assert during <= 6
    assert len(seen) == len(line.posts) == 40
    assert all(isinstance(outcome, Success) for outcome in seen)


async def test_what_was_accepted_while_the_journal_was_locked_is_delivered_and_on_record_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_impatient(monkeypatch)
    line = Line()
    async with contextlib.AsyncExitStack() as lock:

        async def accept_under_lock(request: Request) -> Answer:
            await lock.enter_async_context(locked(path))
            return line.accept()

        line.on_post = accept_under_lock
        async with line.session(journal=path) as session:
            generation = await session.submit(job(key="cat"))
            await until(lambda: line.posts)
            with anyio.fail_after(60):
                assert await generation.accepted() == "task-1"
            assert await states_in(path) == {"cat": JournalState.SENDING}
            await lock.aclose()
            assert (await generation).task_id == "task-1"
    record = (await records_in(path))["cat"]
    assert (record.state, record.task_id) == (JournalState.SUCCESS, "task-1")


async def test_two_services_do_not_share_a_journal(path: Path) -> None:
    await run_batch(Line(), path, keyed("cat"))
    other = AsyncSession(api_key=KEY, base_url="http://localhost:81", journal=path, transport=Line())
    with pytest.raises(JournalError, match="belongs to http://localhost, and this session to http://localhost:81"):
        await other.__aenter__()
    with pytest.raises(SessionClosedError):
        await other.submit(job())


@pytest.mark.parametrize("where", ["missing/batch.db", "."])
async def test_a_journal_that_cannot_be_opened_opens_no_session(tmp_path: Path, where: str) -> None:
    line = Line()
    with pytest.raises(JournalError, match=r"make it first|give the path of a file in it"):
        await line.session(journal=tmp_path / where).__aenter__()
    assert line.posts == []


async def test_a_session_without_a_journal_has_nothing_to_resume(path: Path) -> None:
    async with Line().session() as session:
        with pytest.raises(ConfigError, match="journal"):
            await anext(session.resume())
        with pytest.raises(ConfigError, match="journal"):
            await session.resolve("cat", forget=True)


async def test_a_closed_session_says_so_and_not_that_its_journal_is_closed(path: Path) -> None:
    session = Line().session(journal=path)
    async with session:
        video = await session.generate(job())
    with pytest.raises(SessionClosedError):
        await session.submit(job())
    with pytest.raises(SessionClosedError):
        await session.attach("task-1")
    with pytest.raises(SessionClosedError):
        await anext(session.resume())
    with pytest.raises(SessionClosedError):
        await session.resolve("cat", forget=True)
    with pytest.raises(SessionClosedError):
        await session.download(video, path.parent / "cat.mp4")


@pytest.mark.parametrize("key", ["", "k" * 201, "line\nbreak", "nul\0", 7])
def test_a_key_that_could_not_stand_in_a_journal_is_refused(key: object) -> None:
    with pytest.raises(JobError) as caught:
        ImageToVideo(IMAGE_URL, key=key)  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.value) == ("key", key)


# --- Letting go -------------------------------------------------------------------------------------------------------


async def test_a_job_that_nobody_waits_for_any_more_is_free_for_another_session(leap: Leap, path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with line.session(journal=path, max_running=1) as session, other.session(journal=path) as second:
        timed_out = await session.submit(job("timed out", key="accepted"), timeout=3)
        await timed_out.accepted()
        leap(3)
        with pytest.raises(WaitTimeoutError):
            await timed_out
        holding = await session.submit(job("holds the slot", key="held"))
        await holding.accepted()
        with pytest.raises(WaitTimeoutError):
            await session.generate(job("never sent", key="queued"), timeout=0.05)
        with anyio.fail_after(20):  # sooner than a lease runs out
            assert (await second.generate(job("timed out", key="accepted"))).task_id == "task-1"
            assert (await second.generate(job("never sent", key="queued"))).task_id == "task-1"
    assert other.prompts == ["never sent"]


async def test_what_an_earlier_stream_left_unsent_is_sent_before_what_a_new_one_has_ahead(path: Path) -> None:
    first, second = Line(on_query=never), Line()
    async with first.session(journal=path, max_running=1) as session:
        stream = session.stream(keyed("a", "left"))
        leaving = asyncio.ensure_future(anext(stream))
        await wait_for(path, lambda records: "left" in records and records["a"].state is JournalState.ACCEPTED)
        leaving.cancel()
        await asyncio.wait([leaving])
        await stream.aclose()
    await run_batch(second, path, keyed("b", "c", "d", "left"), max_running=1)
    assert second.prompts.index("left") < second.prompts.index("d")


async def test_leaving_a_stream_frees_what_was_not_sent(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with line.session(journal=path, max_running=1) as session, other.session(journal=path) as second:
        stream = session.stream(keyed("a", "b", "c"))
        leaving = asyncio.ensure_future(anext(stream))
        await wait_for(path, lambda records: len(records) == 3)
        leaving.cancel()
        await asyncio.wait([leaving])
        await stream.aclose()
        await wait_for(path, lambda records: records["c"].holder is None)
        with anyio.fail_after(20):
            await second.generate(job("c", key="c"))
        assert other.prompts == ["c"]
    assert (await states_in(path))["b"] is JournalState.INTENDED


@pytest.mark.slow
async def test_a_job_taken_over_before_its_post_is_followed_and_not_sent(path: Path) -> None:
    line = Line(on_query=never)
    async with line.session(journal=path, max_running=1, max_jobs=2) as session:
        await (await session.submit(job("holds the slot", key="held"))).accepted()
        followed = await session.submit(job(key="cat"))
        ahead = partial(JournalWriter.open, path, base_url="http://localhost", now=lambda: time.time() + 30)
        other = await ahead()
        record = (await records_in(path))["cat"]
        assert record.fingerprint is not None
        mine = Intent(
            identity="cat", key="cat", fingerprint=record.fingerprint, kind="ImageToVideo", model="m", facts={}
        )
        assert (await other.intend(mine)).ours
        line.on_query = None
        await other.sending("cat", time.time())
        await other.note(other.jobs.accepted, "cat", "task-77", time.time())
        await other.aclose()
        assert (await followed).task_id == "task-77"
        assert line.prompts == ["holds the slot"]
        await session.generate(job("what was not paid for may be", key="dog"))
    assert len(line.posts) == 2


async def test_of_a_job_at_work_its_own_session_asks_the_journal_no_more_and_another_under_its_key_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who leaves while that is asked would free the job of the caller before."""
    intend, asked = JournalWriter.intend, list[str | None]()

    async def note(journal: JournalWriter, intent: Intent) -> Claim:
        asked.append(intent.key)
        return await intend(journal, intent)

    monkeypatch.setattr(JournalWriter, "intend", note)
    async with Line(on_query=never).session(journal=path) as session:
        first, second = [await session.submit(job("a cat", key="cat")) for _ in range(2)]
        assert await first.accepted() == await second.accepted()
        assert asked == ["cat"]
        with pytest.raises(JobError, match="names another job in this journal"):
            await session.submit(job("a dog", key="cat"))


async def test_a_job_that_waits_in_another_session_takes_no_place_and_no_money_of_this_one(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with line.session(journal=path, max_running=1) as first, other.session(journal=path, max_jobs=1) as second:
        await (await first.submit(job("holds the slot", key="held"))).accepted()
        await first.submit(job(key="cat"))
        assert (await second.submit(job(key="cat"))).status is Status.QUEUED
        assert second.stats().queued == 0
        await second.submit(job(key="dog"))


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "x" * 1_000_001, "", 5, 10**40, ["k"], None])
async def test_what_can_name_no_job_is_found_nowhere(path: Path, key: Any) -> None:
    async with Line().session(journal=path) as session:
        with pytest.raises(JobNotFoundError) as caught:
            await session.find(key)
        assert len(str(caught.value)) < 300
        with pytest.raises(JobError, match="must name a job in this journal"):
            await session.resolve(key, forget=True)


@pytest.mark.slow
async def test_a_job_found_and_then_given_is_sent_if_its_session_leaves_it_unsent(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with other.session(journal=path) as second:
        async with line.session(journal=path, max_running=1) as session:
            await (await session.submit(job("holds the slot", key="held"))).accepted()
            await session.submit(job(key="cat"))
            found = await second.find("cat")
            given = await second.submit(job(key="cat"))
        assert (await found).task_id == (await given).task_id == "task-1"
    assert (line.prompts, other.prompts) == (["holds the slot"], ["a cat"])


@pytest.mark.slow
async def test_a_job_found_and_then_given_is_sent_though_its_session_ended_unnoticed_meanwhile(path: Path) -> None:
    line, other, may_claim = Line(on_query=never), Line(), asyncio.Event()
    async with other.session(journal=path) as second:
        async with line.session(journal=path, max_running=1) as session:
            await (await session.submit(job("holds the slot", key="held"))).accepted()
            await session.submit(job(key="cat"))
            found = await second.find("cat")
            try_claim = found._tracked.try_claim

            async def claim_late() -> Claim | None:
                await may_claim.wait()
                return None if try_claim is None else await try_claim()

            found._tracked.try_claim = claim_late
        given = await second.submit(job(key="cat"))
        with anyio.fail_after(20):
            assert (await found).task_id == (await given).task_id == "task-1"
        may_claim.set()
    assert (line.prompts, other.prompts) == (["holds the slot"], ["a cat"])


@pytest.mark.slow
async def test_a_job_whose_session_ended_before_sending_it_is_sent_by_the_one_that_waited(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with other.session(journal=path) as second:
        async with line.session(journal=path, max_running=1) as session:
            await (await session.submit(job("holds the slot", key="held"))).accepted()
            queued = await session.submit(job(key="cat"))
            followed = await second.submit(job(key="cat"))
            assert followed.status is Status.QUEUED
        with pytest.raises(SessionClosedError):
            await queued
        assert (await followed).task_id == "task-1"
    assert (line.prompts, other.prompts) == (["holds the slot"], ["a cat"])


async def test_a_task_that_is_followed_and_taken_over_is_asked_about_and_told(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with line.session(journal=path) as slow:
        accepted = await slow.submit(job(key="cat"))
        task_id = await accepted.accepted()
        async with other.session(journal=path) as quick:
            found = await quick.find("cat")
            assert await found.accepted() == task_id
            await lapse(path, "cat")
            monitor = quick._engine and quick._engine.team_monitor
            assert monitor
            await monitor._take_over()
            with anyio.fail_after(60):
                assert (await found).task_id == task_id
    assert len(line.posts + other.posts) == 1


async def test_an_opening_that_is_cancelled_leaves_nothing_behind(path: Path) -> None:
    for moments in range(12):
        line = Line()
        opening = asyncio.ensure_future(line.session(journal=path).__aenter__())
        for _ in range(moments):
            await asyncio.sleep(0)
        opening.cancel()
        done, _ = await asyncio.wait([opening])
        with contextlib.suppress(asyncio.CancelledError):
            await done.pop().result().aclose()


async def test_a_session_that_cannot_join_its_team_opens_nothing_and_closes_its_line(path: Path) -> None:
    class Alone(JournalWriter):
        async def join(self, member: object) -> Refreshed:
            raise JournalError(path=str(path), reason="away")

    line = Line()
    settings, money = make_settings("http://localhost", journal=path), Money()
    with pytest.raises(JournalError, match="away"):
        await start_engine(settings, SessionState(), Parts(transport=line), Hooks(), money, Alone.open)
    assert line.is_closed


async def test_an_engine_that_is_cancelled_while_it_starts_closes_what_it_holds(path: Path) -> None:
    line = Line()
    settings, state = make_settings("http://localhost", journal=path), SessionState(phase=Phase.OPENING)
    starting = asyncio.ensure_future(start_engine(settings, state, Parts(transport=line), Hooks(), Money()))
    await until(lambda: starting.done() or "hailuo-async engine" in map(asyncio.Task.get_name, asyncio.all_tasks()))
    starting.cancel()
    await asyncio.wait([starting])
    if not starting.cancelled():
        await starting.result().close(0)
    assert line.is_closed


@pytest.mark.slow
async def test_a_job_whose_post_may_not_leave_as_the_journal_is_locked_waits_and_ends_by_its_deadline(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_impatient(monkeypatch)
    line = Line(on_query=never)
    async with line.session(journal=path, max_running=1) as session:
        first = await session.submit(job("first", key="first"))
        await first.accepted()
        waiting = [await session.submit(job("cat", key="cat"), timeout=0.5), await session.submit(job(key="dog"))]
        async with locked(path):
            line.on_query = None
            assert (await first).task_id == "task-1"
            with pytest.raises(WaitTimeoutError):
                await waiting[0]
            assert len(line.posts) == 1
        assert (await waiting[1]).task_id == "task-2"
        assert session.stats().running == 0
    assert len(line.posts) == 2


async def test_who_follows_a_job_hears_of_its_deletion_by_another_session(path: Path) -> None:
    line, other = Line(on_query=never), Line()
    async with line.session(journal=path, keep_jobs=True, max_running=1) as working:
        await (await working.submit(job("holds the slot", key="held"))).accepted()
        waiting = asyncio.ensure_future(working.generate(job(key="cat")))
        await wait_for(path, lambda records: "cat" in records)
        async with other.session(journal=path) as web:
            found = await web.find("cat")
            await anyio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait([waiting])
            with anyio.fail_after(20), pytest.raises(JournalError, match="was removed"):
                await found


def run_in(path: Path, statement: str) -> None:
    """Has another program change the journal. Blocks."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(statement)


@pytest.mark.parametrize("statement", ["DROP TABLE job", "DELETE FROM team"])
async def test_a_journal_that_another_program_empties_ends_a_stream_with_its_error_and_breaks_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    line = Line()
    async with line.session(journal=path, keep_jobs=True) as session:
        await session.generate(job(key="before"))
        await anyio.to_thread.run_sync(run_in, path, statement)
        with pytest.raises(JournalError):
            async for _ in session.stream(jobs(20)):
                pass
        assert session._session_state.is_open
    assert len(line.posts) == 1
    assert line.is_closed
    assert "please report this" not in caplog.text


async def test_a_caller_who_leaves_while_the_error_of_the_journal_is_written_down_breaks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def sending(*_: object) -> Permit:
        raise JournalError(path="x", reason="its tables are gone")

    async def refused(*_: object) -> None:
        waiting.cancel()
        await asyncio.wait([waiting])

    monkeypatch.setattr(JournalRecorder, "sending", sending)
    monkeypatch.setattr(JournalRecorder, "refused", refused)
    async with Line().session(journal=path) as session:
        waiting = asyncio.ensure_future(session.generate(job()))
        await asyncio.wait([waiting])
        await until(lambda: not session.stats().queued)
    assert waiting.cancelled()
    assert "please report this" not in caplog.text


async def test_a_follower_hears_of_an_end_whose_number_is_below_that_of_a_row_that_was_deleted(path: Path) -> None:
    has_ended = False

    async def answer(request: Request) -> Answer:
        return told(200, (finished if has_ended else running)(asked_about(request)))

    def delete() -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM job WHERE key <> 'runs'")
            connection.execute("UPDATE team SET gone = gone + 1")

    line = Line(on_query=answer)
    async with line.session(journal=path, max_running=1) as works, line.session(journal=path) as follows:
        await (await works.submit(job(key="runs"))).accepted()
        found, monitor = await follows.find("runs"), follows._running_engine().team_monitor
        assert monitor is not None
        seen = monitor._seen or 0
        for number in range(9):
            await works.submit(job(str(number), key=str(number)))
        await until(lambda: (monitor._seen or 0) >= seen + 9)
        await anyio.to_thread.run_sync(delete)
        await follows._running_engine().journal_or_raise().renew(0.0)  # it hears of the deletion without a look
        has_ended = True
        with anyio.fail_after(20):
            await found
