"""Sessions whose journal keeps whole jobs: what was submitted is sent once, by a session that is alive."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import sqlite3
import time
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import PIL.Image
import pytest

from hailuo_async import (
    AuthenticationError,
    ConfigError,
    Failure,
    FirstLastFrameToVideo,
    ImageError,
    ImageToVideo,
    InsufficientBalanceError,
    Job,
    JobError,
    JournalError,
    JournalState,
    QueueFullError,
    SessionClosedError,
    SpendingLimitError,
    Status,
    Success,
    WaitTimeoutError,
)
from hailuo_async._engine import keeping
from hailuo_async._engine.keeping import TAKEN_AT_ONCE, Keeper, PictureLeft
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.kept import KeptBounds, KeptClaim, KeptImage, KeptJob
from hailuo_async._io.journal.records import Claim, Intent
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.wire import Answer, Request, unsent
from hailuo_async.testing import run_virtual

from ..support.crash_journal import bytes_of, lapse, locked, records_in, states_in, wait_for
from ..support.service import (
    Line,
    asked_about,
    body_of,
    finished,
    job,
    never,
    no_such_key,
    picture,
    refusal,
    request_for,
    taken,
    told,
    until,
)
from ..support.streams import resumed
from ..support.tables import record_in


def expected_of(asked: Job) -> bytes:
    return body_of(request_for(asked))


async def left_unsent(path: Path, *jobs: Job) -> None:
    """Submits jobs that wait for a slot when their session ends."""
    line = Line(on_query=never)
    async with line.session(journal=path, keep_jobs=True, max_running=1) as session:
        await (await session.submit(job("first", key="first"))).accepted()
        for each in jobs:
            await session.submit(each)
        await session.aclose(0.0)


def bodies_taken_by(line: Line) -> list[bytes]:
    """The body of each POST, all of which ``line`` accepts from now on."""
    bodies: list[bytes] = []

    async def read(request: Request) -> Answer:
        bodies.append(await anyio.to_thread.run_sync(body_of, request))
        return line.accept()

    line.on_post = read
    return bodies


async def test_what_a_session_left_is_sent_by_the_next_one_as_it_was_submitted(path: Path, tmp_path: Path) -> None:
    content = picture()
    file = tmp_path / "dog.png"
    file.write_bytes(picture(seed=6))
    image = PIL.Image.open(io.BytesIO(picture(seed=7)))
    image.load()
    jobs: list[Job] = [
        ImageToVideo(content, prompt="bytes", key="bytes"),
        ImageToVideo(file, prompt="file", key="file", duration=10),
        FirstLastFrameToVideo(last_frame_image=image, first_frame_image="https://e.example/a.jpg", key="PIL"),
    ]
    expected = [await anyio.to_thread.run_sync(expected_of, each) for each in jobs]
    await left_unsent(path, *jobs)
    file.unlink()  # what was read at submit is sent, whatever becomes of the file

    line = Line()
    bodies = bodies_taken_by(line)
    async with line.session(journal=path, keep_jobs=True) as session:
        told_of = await resumed(session)
    assert sorted(bodies) == sorted(expected)  # each is read on a thread, and the shortest may be first
    assert all(isinstance(told_of[key], Success) for key in ("bytes", "file", "PIL"))
    assert set((await states_in(path)).values()) == {JournalState.SUCCESS}
    assert content[500:1500] not in await bytes_of(path)


async def test_a_session_that_was_not_told_to_never_sends_what_it_was_not_given(path: Path) -> None:
    await left_unsent(path, job(key="cat"))
    line = Line()
    async with line.session(journal=path) as session:
        outcome = (await resumed(session))["cat"]
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, JournalError)
    assert line.posts == []
    assert (await states_in(path))["cat"] is JournalState.INTENDED


async def test_a_session_that_keeps_jobs_takes_over_without_a_call_in_the_order_of_asking(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count(time.time() - 3600)  # a second apart: two clocks say what was first
    monkeypatch.setattr(keeping, "wall_clock", lambda: next(asked))
    monkeypatch.setattr(keeping, "TAKE_EVERY_S", 0.05)
    await left_unsent(path, *(job(f"job {number}", key=str(number)) for number in range(40)))
    line, done = Line(), anyio.Event()

    async def count(request: Request) -> Answer:
        if len(line.posts) == 40:
            done.set()
        return line.accept()

    line.on_post = count
    async with line.session(journal=path, keep_jobs=True, max_running=1):
        with anyio.fail_after(60):
            await done.wait()
    assert line.prompts == [f"job {number}" for number in range(40)]


@pytest.mark.slow
async def test_a_session_whose_stream_has_no_end_takes_over_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "TAKE_EVERY_S", 0.05)
    await left_unsent(path, *(job(f"left {number}", key=str(number)) for number in range(TAKEN_AT_ONCE + 1)))
    line = Line()
    async with (
        line.session(journal=path, keep_jobs=True, max_running=1) as session,
        contextlib.aclosing(session.stream(job(f"job {number}") for number in itertools.count())) as stream,
    ):
        with anyio.fail_after(60):
            while f"left {TAKEN_AT_ONCE}" not in line.prompts:
                await anext(stream)


async def test_what_a_session_left_keeps_its_place_in_the_line_of_the_next_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "TAKE_EVERY_S", 0.01)
    there, here, is_done = Line(on_query=never), Line(), anyio.Event()

    async def finish(request: Request) -> Answer:
        await is_done.wait()
        return told(200, finished(asked_about(request)))

    here.on_query = finish
    one, other = (line.session(journal=path, keep_jobs=True, max_running=1) for line in (there, here))
    async with one, other:
        await (await one.submit(job("there", key="there"))).accepted()
        await (await other.submit(job("here", key="here"))).accepted()
        await one.submit(job("asked first", key="first"))
        last = await other.submit(job("asked last", key="last"))
        await one.aclose(0.0)
        await until(lambda: other.stats().queued == 2)
        is_done.set()
        await last
    assert here.prompts == ["here", "asked first", "asked last"]


async def test_a_waiting_job_holds_no_picture_in_memory(path: Path) -> None:
    line = Line(on_query=never)
    async with line.session(journal=path, keep_jobs=True, max_running=1) as session:
        await (await session.submit(job("first", key="first"))).accepted()
        content = picture()
        generation = await session.submit(ImageToVideo(content, key="cat"))
        assert generation.job is not None
        left = generation.job.first_frame_image
        assert isinstance(left, PictureLeft)
        assert left.size == len(content)
        assert generation.job.key == "cat"


@pytest.mark.parametrize("how", ["cancelled", "deadline", "limit"])
async def test_a_job_that_is_not_wanted_any_more_is_sent_by_nobody(path: Path, how: str) -> None:
    line = Line(on_query=never)
    async with line.session(journal=path, keep_jobs=True, max_running=1, max_jobs=2) as session:
        await (await session.submit(job("first", key="first"))).accepted()
        if how == "limit":
            await session.submit(job("second", key="second"))
            with pytest.raises(SpendingLimitError):
                await session.submit(job(key="cat"))
        elif how == "deadline":
            with pytest.raises(WaitTimeoutError):
                await (await session.submit(job(key="cat"), timeout=0.05))
        else:
            waiting = asyncio.ensure_future(session.generate(job(key="cat")))
            await wait_for(path, lambda records: "cat" in records)
            waiting.cancel()
            await asyncio.wait([waiting])
        await session.aclose(0.0)
    assert "cat" not in await states_in(path)


async def test_of_two_who_submit_the_same_job_the_one_who_leaves_takes_no_picture_from_the_other(path: Path) -> None:
    cat, line = ImageToVideo(picture(), key="cat"), Line()
    bodies = bodies_taken_by(line)
    async with line.session(journal=path, keep_jobs=True) as session:
        engine = session._running_engine()
        commits, keeper = engine.journal_or_raise()._commits, engine.admission.keeper
        assert keeper is not None

        def both_have_come() -> bool:
            return len(commits._pending) + sum(each.statistics().tasks_waiting for each in keeper._keeping.values()) > 1

        async with locked(path):
            held = asyncio.ensure_future(session.submit(job(key="other")))
            await until(lambda: commits.is_under_way)
            leaving, staying = (asyncio.ensure_future(session.submit(cat)) for _ in range(2))
            await until(both_have_come)
            leaving.cancel()
            await asyncio.wait([leaving])
        await held
        await (await staying)
    assert leaving.cancelled()
    assert len(bodies) == 2
    assert await anyio.to_thread.run_sync(expected_of, cat) in bodies


async def test_a_job_is_written_for_one_caller_at_a_time_and_others_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []
    waited: list[float] = []
    keep = JournalWriter.keep

    async def held_up(journal: JournalWriter, intent: Intent, *given: Any) -> Claim:
        began.append(intent.identity)
        waited.append(given[-1])
        if began == ["cat"]:
            await anyio.sleep_forever()
        return await keep(journal, intent, *given)

    monkeypatch.setattr(JournalWriter, "keep", held_up)
    async with Line().session(journal=path, keep_jobs=True) as session:
        leaving = asyncio.ensure_future(session.submit(job(key="cat")))
        await until(lambda: began)
        staying = asyncio.ensure_future(session.submit(job(key="cat")))
        await session.submit(job(key="dog"))
        assert began == ["cat", "dog"]
        await anyio.sleep(0.01)
        leaving.cancel()
        await (await staying)
    assert began == ["cat", "dog", "cat"]
    assert waited[2] >= 0.01  # an outage that comes now has so much less of its caller's patience


async def test_a_job_whose_session_is_closed_while_it_is_written_ends_as_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, closed, keep = anyio.Event(), anyio.Event(), JournalWriter.keep

    async def held_up(journal: JournalWriter, *given: Any) -> Claim:
        began.set()
        await closed.wait()
        return await keep(journal, *given)

    monkeypatch.setattr(JournalWriter, "keep", held_up)
    async with Line().session(journal=path, keep_jobs=True) as session:
        submitting = asyncio.ensure_future(session.submit(job(key="cat")))
        await began.wait()
        await session.aclose()
        closed.set()
        with pytest.raises(SessionClosedError):
            await submitting


async def test_a_key_that_is_not_valid_leaves_its_jobs_to_sessions_with_another(path: Path) -> None:
    line = Line(on_post=no_such_key)
    async with line.session(journal=path, keep_jobs=True) as session:
        with pytest.raises(AuthenticationError):
            await session.generate(job(key="cat"))
        await anyio.lowlevel.checkpoint()
    assert len(line.posts) == 1
    assert (await states_in(path))["cat"] is JournalState.INTENDED
    other = Line()
    async with other.session(journal=path, keep_jobs=True) as session:
        assert isinstance((await resumed(session))["cat"], Success)


async def test_kept_jobs_that_met_an_empty_balance_are_sent_when_it_is_topped_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "PAUSE_S", 0.05)
    monkeypatch.setattr(keeping, "TAKE_EVERY_S", 0.02)
    is_topped_up = False

    async def answer(request: Request) -> Answer:
        return line.accept() if is_topped_up else told(402, refusal(402, "insufficient balance: 0 USD"))

    line = Line(on_post=answer)
    async with line.session(journal=path, keep_jobs=True) as session:
        for key in ("cat", "dog"):
            await session.submit(job(key=key))
        await until(lambda: len(line.posts) >= 5)
        is_topped_up = True
        await until(lambda: session.stats().succeeded == 2)
    (told_once,) = [text for text in caplog.messages if text.startswith("kept jobs wait in the journal: 402")]
    assert "one of them is tried every" in told_once


async def test_a_look_at_a_job_that_waits_for_money_sends_nothing_and_follows_it_to_its_end(path: Path) -> None:
    is_topped_up = False

    async def answer(request: Request) -> Answer:
        return line.accept() if is_topped_up else told(402, refusal(402, "insufficient balance: 0 USD"))

    line = Line(on_post=answer)
    async with line.session(journal=path, keep_jobs=True) as session:
        with pytest.raises(InsufficientBalanceError):
            await session.generate(job(key="cat"))
        found = [await session.find("cat") for _ in range(5)]
        assert ({each.status for each in found}, len(line.posts)) == ({Status.QUEUED}, 1)
        is_topped_up, keeper = True, session._running_engine().admission.keeper
        assert keeper is not None
        keeper._paused_until = 0.0
        await keeper.take_one("cat")
        assert ([(await each).task_id for each in found], len(line.posts)) == (["task-1"] * 5, 2)


async def test_a_look_at_a_job_that_is_not_kept_does_not_wait_for_money(path: Path) -> None:
    """No session would ever send it, so its caller would wait without end."""
    async with Line(on_query=never).session(journal=path, max_running=1) as session:
        await (await session.submit(job("first", key="first"))).accepted()
        await session.submit(job(key="left"))
        await session.aclose(0.0)

    async def answer(request: Request) -> Answer:
        return told(402, refusal(402, "insufficient balance: 0 USD"))

    async with Line(on_post=answer, on_query=never).session(journal=path, keep_jobs=True) as session:
        with pytest.raises(InsufficientBalanceError):
            await session.generate(job(key="cat"))
        with anyio.fail_after(20), pytest.raises(JournalError, match="give the job itself again"):
            await (await session.find("left"))


async def test_a_kept_picture_that_was_damaged_ends_its_job_unpaid(path: Path) -> None:
    await left_unsent(path, ImageToVideo(picture(), key="cat"))

    def damage() -> None:
        connection = sqlite3.connect(path)
        connection.execute("UPDATE piece SET data = zeroblob(length(data))")
        connection.commit()
        connection.close()

    await anyio.to_thread.run_sync(damage)
    line = Line()

    async def read(request: Request) -> Answer:
        try:
            await anyio.to_thread.run_sync(body_of, request)
        except ImageError as error:
            return unsent(str(error), error)
        return line.accept()

    line.on_post = read
    async with line.session(journal=path, keep_jobs=True) as session:
        outcome = (await resumed(session))["cat"]
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, ImageError)
    assert (await records_in(path))["cat"].state is JournalState.REFUSED


@pytest.mark.parametrize(
    "kept",
    [
        '{"path": "/a", "options": {}, "images": []}',
        '{"path": "/a", "options": {}, "images": {"first_frame_image": {"url": 5}}}',
    ],
)
async def test_a_kept_job_that_cannot_be_read_ends_unpaid_and_nothing_else_does(path: Path, kept: str) -> None:
    await left_unsent(path, job(key="cat"))

    def damage() -> None:
        connection = sqlite3.connect(path)
        connection.execute("UPDATE job SET kept = ? WHERE identity = 'cat'", (kept,))
        connection.commit()
        connection.close()

    await anyio.to_thread.run_sync(damage)
    line = Line()
    async with line.session(journal=path, keep_jobs=True) as session:
        await wait_for(path, lambda records: records["cat"].state is JournalState.REFUSED)
        await session.generate(job("a dog", key="dog"))
    assert line.prompts == ["a dog"]


async def test_the_bounds_of_a_journal_are_those_of_all_its_sessions(path: Path) -> None:
    line = Line(on_query=never)
    options = {"journal": path, "keep_jobs": True, "max_running": 1, "max_queued": 2, "max_kept_bytes": 400_000}
    async with line.session(**options) as one, line.session(**options) as other:
        for session, key in ((one, "first"), (other, "second")):
            await (await session.submit(job(key, key=key))).accepted()
        await one.submit(ImageToVideo(picture(), key="a"))
        with pytest.raises(QueueFullError, match="400000 bytes"):
            await other.submit(ImageToVideo(picture(seed=6), key="b"))
        await other.submit(job(key="c"))
        with pytest.raises(QueueFullError, match="2 jobs wait already"):
            await other.submit(job(key="d"))


async def test_the_task_of_a_kept_job_whose_deadline_has_passed_is_free_for_other_sessions(path: Path) -> None:
    async with Line(on_query=never).session(journal=path, keep_jobs=True) as session:
        generation = await session.submit(job(key="cat"), timeout=0.2)
        await generation.accepted()
        with pytest.raises(WaitTimeoutError):
            await generation
        found = await wait_for(path, lambda records: records["cat"].holder is None)
        assert found["cat"].task_id == "task-1"


def test_keeping_needs_a_journal() -> None:
    with pytest.raises(ConfigError, match="keep_jobs True: needs a journal to keep them in: give journal="):
        Line().session(keep_jobs=True)


def test_what_others_left_is_looked_for_well_within_a_lease() -> None:
    assert keeping.TAKE_EVERY_S <= 5.0


async def test_a_found_job_is_sent_by_who_found_it_if_its_session_goes(path: Path) -> None:
    line = Line(on_query=never)
    other = Line()
    async with other.session(journal=path, keep_jobs=True) as finding:
        async with line.session(journal=path, keep_jobs=True, max_running=1) as session:
            await (await session.submit(job("first", key="first"))).accepted()
            await session.submit(job(key="cat"))
            found = await finding.find("cat")
            await session.aclose(0.0)
        with anyio.fail_after(60):
            assert (await found).task_id
    assert len(other.posts) == 1


@pytest.mark.parametrize("how", ["find", "submit"])
async def test_a_job_that_is_followed_and_taken_over_is_sent_once(
    path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, other = Line(on_query=never), Line()
    monkeypatch.setattr(keeping, "TAKE_EVERY_S", 3600.0)
    async with line.session(journal=path, keep_jobs=True, max_running=1) as slow:
        await (await slow.submit(job("first", key="first"))).accepted()
        monkeypatch.setattr(keeping, "TAKE_EVERY_S", 0.05)  # for the other one
        theirs = await slow.submit(job(key="cat"))
        async with other.session(journal=path, keep_jobs=True) as quick:
            found = await (quick.find("cat") if how == "find" else quick.submit(job(key="cat")))
            await lapse(path, "cat")
            with anyio.fail_after(60):
                video = await found
        assert len(other.posts) == 1
        assert theirs.task_id in (None, video.task_id)
    assert len(line.posts) == 1


@pytest.mark.parametrize(("keep_jobs", "left"), [(True, {}), (False, {"cat": None})])
async def test_a_look_at_a_job_that_ends_and_is_forgotten_meanwhile_leaves_none_that_a_session_holds_or_sends(
    path: Path, keep_jobs: bool, left: dict[str, str | None]
) -> None:
    """The look enters the job anew. Kept, it would be sent and paid for, though no caller wants it."""
    may_answer, is_looked_at, may_look, has_looked = (anyio.Event() for _ in range(4))

    async def answer(request: Request) -> Answer:
        await may_answer.wait()
        return told(200, taken())

    line = Line(on_post=answer)
    async with (
        line.session(journal=path, keep_jobs=keep_jobs) as there,
        line.session(journal=path, keep_jobs=keep_jobs) as here,
    ):
        theirs = await there.submit(job(key="cat"))
        await until(lambda: line.posts)
        ours = await here.submit(job(key="cat"))
        assert here._engine is not None
        tracked = here._engine.dispatcher.find("cat")
        assert tracked is not None
        look = tracked.try_claim
        assert look is not None

        async def look_late() -> Claim | None:
            is_looked_at.set()
            await may_look.wait()
            claim = await look()
            has_looked.set()
            return claim

        tracked.try_claim = look_late
        here._engine.dispatcher.following.check_all()
        await is_looked_at.wait()
        tracked.try_claim = look
        may_answer.set()
        await theirs
        await ours
        await there.resolve("cat", forget=True)
        may_look.set()
        await has_looked.wait()
        await wait_for(path, lambda records: {key: record.holder for key, record in records.items()} == left)
    assert len(line.posts) == 1


def test_after_an_error_that_each_job_would_meet_none_is_taken_over_for_a_while_and_then_one() -> None:
    looks: list[tuple[float, int]] = []

    class Empty:
        async def take_kept(self, limit: int, identity: str | None) -> list[KeptClaim]:
            looks.append((anyio.current_time(), limit))
            return []

        async def tidy_kept(self) -> int:
            return 0

    async def main() -> None:
        keeper, refused = Keeper(cast("JournalWriter", Empty()), Recorder(), KeptBounds(1, 1)), TrackedJob(0)
        refused.error = InsufficientBalanceError(message="no", status=402)
        keeper.end_nowait(refused, "cat")
        with anyio.move_on_after(keeping.PAUSE_S + keeping.TAKE_EVERY_S + 1):
            await keeper.run(lambda: 0)

    run_virtual(main)
    assert looks == [(keeping.PAUSE_S, 1), (keeping.PAUSE_S + keeping.TAKE_EVERY_S, TAKEN_AT_ONCE)]


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_followed_job_that_its_session_has_left_is_taken_over_unless_it_would_be_refused(
    is_paused: bool,
) -> None:
    taken_over: list[str | None] = []

    class Left(Recorder):
        async def try_claim(self, identity: str) -> Claim | None:
            raise self.not_sent(identity)

        async def find(self, identity: str) -> Claim:
            return Claim(record_in(JournalState.INTENDED), ours=False)

    class Keeps:
        async def keeps(self, identity: str) -> bool:
            return True

        async def take_kept(self, limit: int, identity: str | None) -> list[KeptClaim]:
            taken_over.append(identity)
            return [KeptClaim(record_in(JournalState.INTENDED), KeptJob("/a", {}, {}))]

    keeper, refused = Keeper(cast("JournalWriter", Keeps()), Left(), KeptBounds(1, 1)), TrackedJob(0)
    if is_paused:
        refused.error = InsufficientBalanceError(message="no", status=402)
        keeper.end_nowait(refused, "dog")
    claim = await keeper.try_claim("cat")
    assert (claim is None, taken_over) == ((False, []) if is_paused else (True, ["cat"]))


def test_what_was_taken_over_is_handed_on_at_once_though_a_job_among_it_cannot_be_sent() -> None:
    """A cancellation between the two would leave the others with a session that does not know them."""
    refused: list[str] = []

    class Taken:
        jobs = JobTable

        async def take_kept(self, limit: int, identity: str | None) -> list[KeptClaim]:
            return [
                KeptClaim(record_in(JournalState.INTENDED, identity=name), KeptJob("/a", {}, {"image": KeptImage(url)}))
                for name, url in (("damaged", cast("str", 5)), ("whole", "https://example.com/cat.jpg"))
            ]

        def note_nowait(self, verb: object, identity: str, error: JobError) -> None:
            refused.append(identity)

    keeper = Keeper(cast("JournalWriter", Taken()), Recorder(), KeptBounds(1, 1))
    taking = keeper.take(2)
    with pytest.raises(StopIteration) as returned:
        taking.send(None)
    assert [claim.record.identity for claim in returned.value.value] == ["whole"]
    assert refused == ["damaged"]
