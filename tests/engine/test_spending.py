"""Money: no job is sent that may pass the limit, and what was spent is the service's own sum, to the cent."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hailuo_async import (
    AsyncSession,
    AuthenticationError,
    FirstLastFrameToVideo,
    ImageToVideo,
    Job,
    Outcome,
    SpendingLimitError,
    SubmissionUnknownError,
    Success,
    TaskFailedError,
)
from hailuo_async._engine.spending_limit import Payment, SpendingLimit
from hailuo_async._io.journal.records import JournalState, Spending
from hailuo_async._rules.wire import Answer, Request, unknown
from hailuo_async.emulator import Fault, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.crash_journal import records_in, taken_over
from ..support.leaping import Leap
from ..support.service import (
    CONCURRENT,
    KEY,
    Line,
    Reply,
    asked_about,
    failed,
    finished,
    lost,
    never,
    refusal,
    taken,
    told,
    until,
)
from ..support.streams import read_into
from ..support.tables import record_in

PRICE, ZERO = Decimal("0.3240"), Decimal(0)
UNKNOWN_MODEL = "/api/v1/minimax/some-other-model"


def paid_job(number: int = 0, **options: Any) -> FirstLastFrameToVideo:
    """A job whose price is known to the cent."""
    return FirstLastFrameToVideo("https://pictures.example/cat.jpg", prompt=f"job {number}", **options)


def paid_jobs(count: int) -> list[Job]:
    return [paid_job(number, key=f"k{number}") for number in range(count)]


def bill(content: dict[str, Any], amount: object) -> dict[str, Any]:
    """The same answer with what the task cost."""
    return {**content, "data": {**content["data"], "billing": {"amount": amount}}}


def billing(amount: object) -> Line:
    """A service that bills each task so."""

    async def answer(request: Request) -> Answer:
        return told(200, bill(finished(asked_about(request)), amount))

    return Line(on_query=answer)


def money(session: AsyncSession) -> tuple[Decimal, Decimal]:
    return session.stats().spent, session.stats().committed


async def test_what_waits_and_runs_is_committed_and_what_has_ended_is_spent_as_it_was_billed() -> None:
    line = billing("0.3000")
    line.on_query = never
    async with line.session(max_running=1) as session:
        first = await session.submit(paid_job(1))
        second = await session.submit(paid_job(2))
        await first.accepted()
        assert money(session) == (ZERO, 2 * PRICE)
        line.on_query = billing("0.3000").on_query
        assert (await first).cost == Decimal("0.3000")
        await second
        assert money(session) == (Decimal("0.6000"), ZERO)


@pytest.mark.parametrize("amount", [None, "lots", "NaN", "-1", "9" * 1000, [], {"usd": 1}])
async def test_without_a_bill_that_can_be_believed_a_video_counts_at_its_highest_price(amount: object) -> None:
    async with billing(amount).session() as session:
        video = await session.generate(paid_job())
        assert (video.cost, money(session)) == (None, (PRICE, ZERO))


@pytest.mark.parametrize(("amount", "spent"), [(None, PRICE), ("0", Decimal(0)), ("0.1", Decimal("0.1"))])
async def test_a_failed_task_counts_as_spent_until_the_service_says_otherwise(
    amount: str | None, spent: Decimal
) -> None:
    async def answer(request: Request) -> Answer:
        return told(200, bill(failed(asked_about(request)), amount))

    async with Line(on_query=answer).session() as session:
        with pytest.raises(TaskFailedError) as caught:
            await session.generate(paid_job())
        assert caught.value.cost == (None if amount is None else Decimal(amount))
        assert money(session) == (spent, ZERO)


async def test_a_doubt_stays_committed_and_a_refusal_costs_nothing() -> None:
    async def lose(request: Request) -> Answer:
        return unknown("cut") if len(line.posts) == 1 else told(422, refusal(422, "no"))

    line = Line(on_post=lose)
    async with line.session() as session:
        for _ in range(2):
            await asyncio.gather(session.generate(paid_job()), return_exceptions=True)
        assert money(session) == (ZERO, PRICE)


async def test_a_job_that_may_pass_the_limit_is_not_sent_and_the_error_names_the_sums() -> None:
    line = Line(on_query=never)
    async with line.session(max_cost=1) as session:
        for number in range(3):
            await (await session.submit(paid_job(number))).accepted()
        with pytest.raises(SpendingLimitError) as caught:
            await session.submit(paid_job())
        error = caught.value
        assert (error.max_cost, error.spent, error.committed, error.cost) == (Decimal(1), ZERO, 3 * PRICE, PRICE)
        assert len(line.posts) == 3


async def test_a_limit_is_for_what_was_billed_not_for_what_might_have_been() -> None:
    line = billing("0.1000")
    async with line.session(max_cost="0.55", max_running=1) as session:
        for number in range(3):
            await session.generate(paid_job(number))
        with pytest.raises(SpendingLimitError):
            await session.generate(paid_job())
    assert len(line.posts) == 3


async def test_a_job_without_a_price_needs_a_limit_of_jobs() -> None:
    job = ImageToVideo("https://pictures.example/cat.jpg", model=UNKNOWN_MODEL)
    line = billing("0.5")
    async with line.session(max_cost=1) as session:
        with pytest.raises(SpendingLimitError, match="no price of this job is known"):
            await session.submit(job)
        assert line.posts == []
    async with line.session(max_cost=1, max_jobs=1) as session:
        await session.generate(job)
        assert money(session) == (Decimal("0.5"), ZERO)
        with pytest.raises(SpendingLimitError, match="1 jobs may be paid for"):
            await session.submit(job)


async def test_a_streams_limit_ends_the_stream_after_what_runs() -> None:
    line = billing("0.3240")
    async with line.session(max_running=2) as session:
        outcomes: list[Outcome] = []
        with pytest.raises(SpendingLimitError) as caught:
            await read_into(outcomes, session.stream(paid_jobs(30), max_cost=Decimal("1.62")))
        assert caught.value.max_cost == Decimal("1.62")
        assert [type(outcome) for outcome in outcomes] == [Success] * 5
        assert money(session) == (5 * PRICE, ZERO)
        await session.generate(paid_job())
    assert len(line.posts) == 6


async def test_jobs_that_were_taken_before_one_that_cannot_be_paid_for_are_sent_all_the_same() -> None:
    line, outcomes = billing("0.3240"), list[Outcome]()
    async with line.session(max_running=1) as session:
        given = [*paid_jobs(3), ImageToVideo("https://pictures.example/cat.jpg", model=UNKNOWN_MODEL)]
        with pytest.raises(SpendingLimitError):
            await read_into(outcomes, session.stream(given, max_cost=9))
    assert [type(outcome) for outcome in outcomes] == [Success] * 3


@pytest.mark.parametrize("is_journalled", [False, True])
async def test_a_stream_waits_for_running_jobs_that_may_cost_less_than_is_committed(
    tmp_path: Path, *, is_journalled: bool
) -> None:
    line, outcomes = billing("0.2000"), list[Outcome]()
    async with line.session(journal=tmp_path / "batch.db" if is_journalled else None) as session:
        with pytest.raises(SpendingLimitError) as caught:
            await read_into(outcomes, session.stream(paid_jobs(30), max_cost="1.62"))
        error = caught.value
        assert (len(outcomes), error.spent, error.committed, error.cost) == (7, Decimal("1.4000"), ZERO, PRICE)
    assert len(line.posts) == 7


async def test_a_stream_does_not_wait_for_what_runs_if_no_end_of_it_makes_room() -> None:
    async with billing("0.3240").session(max_cost="0.9") as session:
        await session.generate(paid_job())
        with pytest.raises(SpendingLimitError) as caught:
            await read_into([], session.stream([paid_job(1), paid_job(2, duration=10)]))
        assert (caught.value.spent, caught.value.committed) == (PRICE, PRICE)


@pytest.mark.slow
async def test_a_job_that_was_sent_before_is_not_held_back_until_there_is_money(tmp_path: Path) -> None:
    async def answer(request: Request) -> Answer:
        is_slow = asked_about(request) == "task-1"
        return await never(request) if is_slow else told(200, bill(finished(asked_about(request)), "0.3240"))

    line, path, outcomes = Line(on_query=never), tmp_path / "batch.db", list[Outcome]()
    async with line.session(journal=path) as session:
        for job in paid_jobs(40):  # more than a stream pulls at once
            await (await session.submit(job)).accepted()
    line.on_query = answer
    async with line.session(journal=path, max_cost=40 * PRICE) as session:
        reading = asyncio.ensure_future(read_into(outcomes, session.stream(paid_jobs(40))))
        await until(lambda: len(outcomes) == 39)
        line.on_query = billing("0.3240").on_query
        await reading
        assert money(session) == (40 * PRICE, ZERO)
    assert (len(outcomes), len(line.posts)) == (40, 40)


async def test_a_batch_that_is_run_again_counts_what_it_spent_before(tmp_path: Path) -> None:
    line, path = billing("0.3240"), tmp_path / "batch.db"
    for _ in range(3):
        async with line.session(journal=path, max_cost="1.62") as session:
            outcomes: list[Outcome] = []
            with pytest.raises(SpendingLimitError):
                await read_into(outcomes, session.stream(paid_jobs(30)))
            assert len(outcomes) == 5
            assert money(session) == (5 * PRICE, ZERO)
        async with line.session(journal=path) as session:
            outcomes = []
            with pytest.raises(SpendingLimitError):
                await read_into(outcomes, session.stream(paid_jobs(30), max_cost="1.62"))
            assert len(outcomes) == 5
    assert len(line.posts) == 5


async def test_what_runs_or_is_in_doubt_when_a_session_ends_is_committed_in_the_next_and_settled_there(
    tmp_path: Path,
) -> None:
    line, path = billing("0.3000"), tmp_path / "batch.db"
    line.on_query = never
    async with line.session(journal=path) as session:
        await (await session.submit(paid_job(1, key="runs"))).accepted()
        line.on_post = lost
        with pytest.raises(SubmissionUnknownError):
            await session.generate(paid_job(2, key="doubt"))
        assert money(session) == (ZERO, 2 * PRICE)
    line.on_post, line.on_query = None, billing("0.3000").on_query
    async with line.session(journal=path, max_cost="0.9") as session:
        assert money(session) == (ZERO, 2 * PRICE)
        with pytest.raises(SpendingLimitError):
            await session.submit(paid_job(3, key="new"))
        await session.generate(paid_job(1, key="runs"))
        assert money(session) == (Decimal("0.3000"), PRICE)
        await session.resolve("doubt", task_id="task-9")
        await session.generate(paid_job(2, key="doubt"))
        assert money(session) == (Decimal("0.6000"), ZERO)
    assert len(line.posts) == 2


def test_a_job_that_another_session_was_sending_and_left_unsent_is_committed_once() -> None:
    session_limit, own = SpendingLimit(max_cost=PRICE), SpendingLimit(max_cost=PRICE)
    payment = Payment((session_limit, own), PRICE)
    payment.adopt(record_in(JournalState.SENDING, price=PRICE))
    assert [limit.committed for limit in payment.limits] == [PRICE, PRICE]
    payment.reserve()
    assert [(limit.used, limit.committed) for limit in payment.limits] == [(1, PRICE), (1, PRICE)]
    payment.give_back()
    assert [(limit.used, limit.committed) for limit in payment.limits] == [(0, ZERO), (0, ZERO)]


def test_what_was_kept_of_a_doubt_stays_committed_when_its_owner_has_it_forgotten_and_gives_its_key_again() -> None:
    """A job that another session left unsent looks the same, so its price stays committed as well."""
    limit = SpendingLimit(max_cost=2 * PRICE)
    limit.begin_with(Spending(ZERO, {"cat": PRICE}))
    payment = Payment((limit,), PRICE)
    payment.adopt(record_in(JournalState.INTENDED, price=PRICE))
    payment.reserve()
    assert limit.committed == 2 * PRICE


def test_what_was_kept_of_a_doubt_stays_committed_when_another_session_sends_a_dearer_job_of_its_key() -> None:
    limit = SpendingLimit(max_cost=9 * PRICE)
    limit.begin_with(Spending(ZERO, {"cat": PRICE}))
    payment = Payment((limit,))
    payment.adopt(record_in(JournalState.ACCEPTED, price=2 * PRICE))
    assert limit.committed == 3 * PRICE
    payment.settle(2 * PRICE, "task-1")
    assert (limit.spent, limit.committed) == (2 * PRICE, PRICE)


def test_the_task_of_a_doubt_adds_what_it_cost_itself_and_not_once_more_what_was_paid_before() -> None:
    limit = SpendingLimit()
    limit.begin_with(Spending(PRICE, {"cat": PRICE}))
    cost = Decimal("0.25")
    limit.resolve(record_in(JournalState.SUCCESS, price=PRICE, cost=cost, cost_before=PRICE, task_id="task-1"))
    assert (limit.spent, limit.committed) == (PRICE + cost, ZERO)


@pytest.mark.parametrize("state", [JournalState.SENDING, JournalState.ACCEPTED, JournalState.UNKNOWN])
def test_a_job_that_another_session_may_have_paid_for_is_committed_once_in_each_limit(state: JournalState) -> None:
    payment = Payment((SpendingLimit(), SpendingLimit()))
    for _ in range(2):  # this session goes on with it
        payment.adopt(record_in(state, price=PRICE))
    assert [limit.committed for limit in payment.limits] == [PRICE, PRICE]


@pytest.mark.parametrize(
    ("runs", "in_doubt", "ahead", "waits"),
    [(True, False, 0, True), (False, True, 0, False), (False, False, 0, False), (False, False, 2, True)],
)
def test_a_job_waits_for_room_in_a_limit_only_if_what_runs_or_is_ahead_of_it_may_make_some(
    runs: bool, in_doubt: bool, ahead: int, waits: bool
) -> None:
    limit = SpendingLimit(max_jobs=2, max_cost=PRICE)
    limit.committed += PRICE * runs
    limit.begin_with(Spending(ZERO, {"cat": PRICE} if in_doubt else {}))
    assert limit.has_no_room_yet(PRICE, [ZERO] * ahead) is waits


def test_a_job_is_sent_again_only_if_each_limit_has_room_and_its_end_gives_all_of_that_back() -> None:
    payment = Payment((SpendingLimit(max_cost=3 * PRICE), SpendingLimit(max_cost=2 * PRICE)), PRICE)
    payment.reserve()
    assert (payment.reserve_again(), payment.reserve_again()) == (True, False)
    assert [limit.committed for limit in payment.limits] == [2 * PRICE] * 2
    payment.give_back_last()
    assert [limit.committed for limit in payment.limits] == [PRICE] * 2
    for committed, used, change in ((ZERO, 0, payment.give_back), (PRICE, 1, payment.reserve)):
        change()
        assert [(limit.committed, limit.used) for limit in payment.limits] == [(committed, used)] * 2


async def test_a_job_sent_again_after_a_doubt_commits_both_and_not_beyond_the_limit() -> None:
    line = Line(on_post=lost)
    async with line.session(on_unknown="resubmit", max_cost="0.7") as session:
        with pytest.raises(SubmissionUnknownError):
            await session.generate(paid_job())
        assert (len(line.posts), money(session)) == (2, (ZERO, 2 * PRICE))


async def test_a_task_that_was_attached_counts_what_it_cost_and_only_once() -> None:
    async with billing("0.25").session() as session:
        for _ in range(2):
            await (await session.attach("task-5"))
            assert money(session) == (Decimal("0.25"), ZERO)
        made = await session.generate(paid_job())
        await (await session.attach(made.task_id))
        assert money(session) == (Decimal("0.50"), ZERO)


@pytest.mark.parametrize(("ends_first", "has_journal"), [(True, False), (False, False), (True, True), (False, True)])
async def test_a_task_that_is_attached_before_its_submit_is_answered_counts_once(
    tmp_path: Path, ends_first: bool, has_journal: bool
) -> None:
    answered = asyncio.Event()

    async def accept(request: Request) -> Answer:
        await answered.wait()
        return line.accept()

    line, bill_it = Line(on_post=accept, on_query=never), billing("0.25").on_query
    path = tmp_path / "batch.db" if has_journal else None
    async with line.session(journal=path) as session:
        submitted = await session.submit(paid_job())
        await until(lambda: line.posts)
        attached = await session.attach("task-1")
        line.on_query = bill_it if ends_first else never
        if ends_first:
            await attached
        answered.set()
        await submitted.accepted()
        line.on_query = bill_it
        assert (await submitted).task_id == (await attached).task_id
        assert money(session) == (Decimal("0.25"), ZERO)
    if has_journal:
        async with line.session(journal=path) as session:
            assert money(session) == (Decimal("0.25"), ZERO)


@pytest.mark.parametrize("has_journal", [False, True])
async def test_two_jobs_whose_answers_name_one_task_are_both_paid_for(tmp_path: Path, has_journal: bool) -> None:
    """Something on the way has repeated the answer to the first POST: the second was accepted all the same."""

    async def repeat(request: Request) -> Answer:
        return told(200, taken("task-1"))

    line, path = billing("0.25"), tmp_path / "batch.db" if has_journal else None
    line.on_post = repeat
    async with line.session(journal=path) as session:
        made = [await session.generate(paid_job(number)) for number in range(2)]
        assert [video.task_id for video in made] == ["task-1"] * 2
        await (await session.attach("task-1"))
        assert money(session) == (Decimal("0.50"), ZERO)
    if has_journal:
        async with line.session(journal=path) as session:
            assert money(session) == (Decimal("0.50"), ZERO)


@pytest.mark.parametrize("has_journal", [False, True])
async def test_a_doubt_that_was_sent_again_and_then_names_a_task_hides_it_from_no_caller(
    tmp_path: Path, has_journal: bool
) -> None:
    line = billing("0.25")
    line.on_post = lose_the_first(line, told(400, {**refusal(400, "odd"), "data": {"task_id": "task-7"}}))
    async with line.session(on_unknown="resubmit", journal=tmp_path / "batch.db" if has_journal else None) as session:
        with pytest.raises(SubmissionUnknownError) as caught:
            await session.generate(paid_job(key="cat"))
        assert caught.value.task_id == "task-7"
        assert money(session) == (ZERO, 2 * PRICE)


def test_tasks_that_were_counted_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hailuo_async._engine.spending_limit.MAX_SETTLED", 2)
    limit = SpendingLimit()
    for number in range(4):
        limit.settle(f"task-{number}", is_sent=True)
    assert [*limit.settled] == ["task-2", "task-3"]
    limit.settle("task-3", is_sent=False)  # it was attached, too: a job that is sent counts all the same
    assert [limit.has_counted("task-3", is_sent=is_sent) for is_sent in (True, False)] == [False, True]


def test_a_job_that_another_session_had_sent_counts_beside_one_whose_answer_names_the_same_task() -> None:
    limit = SpendingLimit()
    for kind, spent in (("ImageToVideo", 2 * PRICE), (None, PRICE)):  # one that was attached counts once
        limit.spent, limit.settled = ZERO, {}
        theirs, ours = Payment((limit,)), Payment((limit,), PRICE)
        theirs.adopt(record_in(JournalState.ACCEPTED, kind=kind, price=PRICE, task_id="task-1"))
        theirs.settle(PRICE, "task-1")
        ours.reserve()
        ours.settle(PRICE, "task-1")
        assert limit.spent == spent


async def test_a_doubt_whose_task_is_attached_counts_that_task_alone() -> None:
    async def refuse_and_name(request: Request) -> Answer:
        return told(400, {**refusal(400, "odd"), "data": {"task_id": "task-7"}})

    line = billing("0.25")
    line.on_post = refuse_and_name
    async with line.session() as session:
        with pytest.raises(SubmissionUnknownError) as caught:
            await session.generate(paid_job())
        assert money(session) == (ZERO, PRICE)
        await (await session.attach(caught.value.task_id or ""))
        assert money(session) == (Decimal("0.25"), ZERO)


@pytest.mark.parametrize("has_ended", [True, False])
async def test_a_task_that_was_attached_and_turns_out_to_be_that_of_a_doubt_counts_once(
    tmp_path: Path, has_ended: bool
) -> None:
    line, bill_it = Line(on_post=lost), billing("0.25").on_query
    line.on_query = bill_it if has_ended else never
    async with line.session(journal=tmp_path / "batch.db") as session:
        with pytest.raises(SubmissionUnknownError):
            await session.generate(paid_job(key="cat"))
        attached = await session.attach("task-7")
        if has_ended:
            await attached
            assert money(session) == (Decimal("0.25"), PRICE)
        await session.resolve("cat", task_id="task-7")
        generation = await session.submit(paid_job(key="cat"))
        line.on_query = bill_it
        assert (await attached).task_id == (await generation).task_id == "task-7"
        assert money(session) == (Decimal("0.25"), ZERO)
        assert session.stats().running == 0
    async with line.session(journal=tmp_path / "batch.db") as session:
        assert money(session) == (Decimal("0.25"), ZERO)
    assert len(line.posts) == 1


async def test_a_doubt_whose_task_another_session_has_seen_end_is_spent(tmp_path: Path) -> None:
    line = billing("0.25")
    line.on_post = lost
    async with line.session(journal=tmp_path / "batch.db") as session:
        with pytest.raises(SubmissionUnknownError):
            await session.generate(paid_job(key="cat"))
        async with line.session(journal=tmp_path / "batch.db") as other:
            await (await other.attach("task-7"))
        await session.resolve("cat", task_id="task-7")
        assert money(session) == (Decimal("0.25"), ZERO)


@pytest.mark.parametrize("has_journal", [False, True])
async def test_a_task_whose_query_met_a_wrong_key_stays_committed_until_it_is_known(
    tmp_path: Path, has_journal: bool
) -> None:
    async def forbid(request: Request) -> Answer:
        return told(401, refusal(401, "Authentication failed"))

    line = Line(on_query=forbid)
    async with line.session(journal=tmp_path / "batch.db" if has_journal else None) as session:
        with pytest.raises(AuthenticationError) as caught:
            await session.generate(paid_job())
        assert money(session) == (ZERO, PRICE)
        line.on_query = billing("0.25").on_query
        await (await session.attach(caught.value.task_id or ""))
        assert money(session) == (Decimal("0.25"), ZERO)


@pytest.mark.parametrize("has_journal", [False, True])
async def test_a_task_whose_deadline_passed_stays_committed_until_it_is_known(
    leap: Leap, tmp_path: Path, has_journal: bool
) -> None:
    line = Line(on_query=never)
    async with line.session(journal=tmp_path / "batch.db" if has_journal else None) as session:
        generation = await session.submit(paid_job(), timeout=15)
        await generation.accepted()
        leap(15)
        await until(lambda: generation.status.is_final)
        assert money(session) == (ZERO, PRICE)
        line.on_query = None  # it bills nothing: then the price of the job counts, which is known
        await (await session.attach(generation.task_id or ""))
        assert money(session) == (PRICE, ZERO)


def test_a_doubt_stays_committed_when_the_task_of_the_next_post_ends_after_its_caller_has_left() -> None:
    limits = [SpendingLimit(), SpendingLimit()]
    for limit in limits:
        payment = Payment((limit,), PRICE)
        payment.reserve()
        payment.reserve_again()
        payment.keep("cat")
    attached, resolved = limits
    payment = Payment((attached,))
    payment.adopt_task("cat")
    payment.settle(Decimal("0.25"), "cat")
    resolved.resolve(record_in(JournalState.SUCCESS, task_id="task-7", cost=Decimal("0.25"), cost_before=PRICE))
    assert [(limit.spent, limit.committed) for limit in limits] == 2 * [(Decimal("0.25"), PRICE)]


async def test_a_job_that_another_session_sends_stays_committed_when_its_caller_here_has_left(tmp_path: Path) -> None:
    answers = asyncio.Event()

    async def hold(request: Request) -> Answer:
        await answers.wait()
        return told(200, taken())

    line = Line(on_post=hold)
    async with line.session(journal=tmp_path / "batch.db") as session:
        await session.submit(paid_job(key="cat"))
        await until(lambda: len(line.posts) == 1)
        async with line.session(journal=tmp_path / "batch.db", max_cost="0.5") as other:
            generation = await other.submit(paid_job(key="cat"), timeout=0.1)
            await until(lambda: generation.status.is_final)
            assert money(other) == (ZERO, PRICE)
            with pytest.raises(SpendingLimitError):
                await other.submit(paid_job(key="dog"))
        answers.set()


def lose_the_first(line: Line, answer: Answer) -> Reply:
    async def reply(request: Request) -> Answer:
        return unknown("cut") if len(line.posts) == 1 else answer

    return reply


async def test_a_doubt_that_was_sent_again_counts_in_the_next_session_too(tmp_path: Path) -> None:
    line = billing("0.3000")
    line.on_post = lose_the_first(line, line.accept())
    async with line.session(on_unknown="resubmit", journal=tmp_path / "batch.db") as session:
        await session.generate(paid_job(key="cat"))
        assert money(session) == (Decimal("0.3000"), PRICE)
    async with line.session(journal=tmp_path / "batch.db", max_cost="0.9") as session:
        assert money(session) == (Decimal("0.3000") + PRICE, ZERO)
        with pytest.raises(SpendingLimitError):
            await session.submit(paid_job(key="dog"))
    assert len(line.posts) == 2


@pytest.mark.parametrize(("has_journal", "keeps"), [(False, False), (True, False), (True, True)])
async def test_a_doubt_that_waits_to_be_sent_again_stays_one_when_its_session_closes(
    tmp_path: Path, has_journal: bool, keeps: bool
) -> None:
    """The next run would have sent it again, and paid again, though its caller was told that none would."""
    line, path = Line(), tmp_path / "batch.db"
    line.on_post = lose_the_first(line, told(429, CONCURRENT))
    async with line.session(on_unknown="resubmit", journal=path if has_journal else None, keep_jobs=keeps) as session:
        generation = await session.submit(paid_job(key="cat"))
        await until(lambda: len(line.posts) >= 2)
        assert money(session) == (ZERO, 2 * PRICE)
        await session.aclose()
        with pytest.raises(SubmissionUnknownError) as caught:
            await generation
    if not has_journal:
        return
    record = (await records_in(path))["cat"]
    assert (record.state, record.spent, str(record.error)) == (JournalState.UNKNOWN, ZERO, str(caught.value))
    assert isinstance(record.error, SubmissionUnknownError)
    assert record.sent_at == record.error.sent_at
    posts, line.on_post = len(line.posts), None
    async with line.session(journal=path, keep_jobs=keeps) as session:
        with pytest.raises(SubmissionUnknownError):
            await session.generate(paid_job(key="cat"))
        assert money(session) == (ZERO, PRICE)
        await session.resolve("cat", resubmit=True)
        await session.generate(paid_job(key="cat"))
        assert money(session) == (PRICE, PRICE)  # the first may have been paid for, the second was
    assert len(line.posts) == posts + 1


async def test_a_doubt_that_is_refused_when_it_is_sent_again_counts_once(tmp_path: Path) -> None:
    line = Line()
    line.on_post = lose_the_first(line, told(422, refusal(422, "no")))
    async with line.session(on_unknown="resubmit", journal=tmp_path / "batch.db") as session:
        with pytest.raises(SubmissionUnknownError):
            await session.generate(paid_job(key="cat"))
        assert money(session) == (ZERO, PRICE)
    async with line.session(journal=tmp_path / "batch.db") as session:
        assert money(session) == (ZERO, PRICE)


async def test_doubts_that_were_sent_again_stay_committed_when_another_session_takes_the_job_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / "batch.db"

    async def lost_to_another(request: Request) -> Answer:
        if len(line.posts) == 2:
            await taken_over(path, "cat")
        return unknown("cut")

    line = Line(on_post=lost_to_another)
    async with line.session(on_unknown="resubmit", journal=path) as session:
        generation = await session.submit(paid_job(key="cat"))
        await until(lambda: session._engine is not None and len(session._engine.dispatcher.following) == 1)
        assert money(session) == (ZERO, 3 * PRICE)
        await session.aclose()
        with pytest.raises(SubmissionUnknownError):
            await generation
        assert (len(line.posts), money(session)) == (2, (ZERO, 2 * PRICE))


def test_a_job_that_was_sent_in_doubt_and_comes_back_from_another_session_is_reserved_once() -> None:
    limit = SpendingLimit(max_jobs=1, max_cost=2 * PRICE)
    payment = Payment((limit,), PRICE)
    payment.reserve()
    payment.reserve_again()
    payment.adopt(record_in(JournalState.INTENDED, price=PRICE, cost_before=PRICE))
    payment.reserve()
    assert (limit.used, limit.committed) == (1, 2 * PRICE)


@pytest.mark.parametrize("end", ["success", "failed", "unknown"])
async def test_what_a_forgotten_job_cost_or_may_have_cost_still_counts(tmp_path: Path, end: str) -> None:
    """``batch --redo`` forgets a job to make it anew: what it had cost was missing from then on."""
    line, path = Line(), tmp_path / "batch.db"

    async def fail(request: Request) -> Answer:
        return told(200, failed(asked_about(request)))

    line.on_post = lost if end == "unknown" else None
    line.on_query = fail if end == "failed" else None
    async with line.session(journal=path) as session:
        await asyncio.gather(session.generate(paid_job(key="cat")), return_exceptions=True)
        await session.resolve("cat", forget=True)
    assert await records_in(path) == {}
    async with line.session(journal=path, max_cost="0.6") as session:
        assert money(session) == (PRICE, ZERO)
        with pytest.raises(SpendingLimitError):
            await session.submit(paid_job(key="cat"))


def test_a_price_that_becomes_known_while_another_session_works_on_a_job_takes_nothing_back() -> None:
    payment = Payment((SpendingLimit(),))
    payment.adopt(record_in(JournalState.ACCEPTED))
    payment.price = PRICE
    payment.settle(None, None)
    assert [(limit.spent, limit.committed) for limit in payment.limits] == [(PRICE, ZERO)]


@pytest.mark.slow
def test_after_300_jobs_with_failures_the_sum_is_the_services_to_the_cent() -> None:
    service = Service(generation_s=30, max_running=20, requests_per_minute=600, fail_rate=0.1, seed=4)

    async def main() -> tuple[Decimal, Decimal, Decimal]:
        session = AsyncSession(
            api_key=KEY, base_url="http://localhost", transport=InMemory(service, api_key=service.api_key)
        )
        service.next_fault(Kind.SUBMIT, Fault.REFUSE)
        async with session:
            async for _ in session.stream(paid_jobs(300)):
                pass
            return session.stats().spent, session.stats().committed, service.ledger.spent

    spent, committed, billed = run_virtual(main)
    assert (spent, committed) == (billed, ZERO)
    assert billed > 80
