"""``python -m benchmarks soak --simulated``: random lives, and the books that they are held against."""

from __future__ import annotations

import asyncio
import itertools
import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from benchmarks import soak_simulated
from benchmarks.__main__ import main
from benchmarks.books import Books, Payer, Post
from benchmarks.videos import _Content
from benchmarks.weather import draw_service
from hailuo_async import TaskFailedError, Video
from hailuo_async.money import to_nanos
from hailuo_async.testing import run_virtual

from ..support.emulated import NOW, job


@pytest.fixture
def books() -> Books:
    service = draw_service(0, Random(0))
    service.fail_rate = service.cancel_rate = 0.0
    service.max_running = service.requests_per_minute = None
    return service.books


def accepted(books: Books, payer: Payer, prompt: str = "cat", *, is_heard: bool = True) -> str:
    """A POST is accepted, and the session hears its answer, or not. Returns the task."""
    assert books.service.handle(job(prompt=prompt), NOW).status == 200
    task_id = books.service.ledger.accepted[prompt][-1]
    post = Post(payer)
    books.arrived(prompt, task_id, post)
    books.answered(post, task_id if is_heard else None)
    return task_id


def row(state: str, task_id: str | None, **facts: Any) -> dict[str, dict[str, Any]]:
    """A journal that has one job."""
    columns = ("price", "cost", "cost_before", "error")
    return {"cat": {"state": state, "task_id": task_id, **dict.fromkeys(columns), **facts}}


def problems(books: Books) -> list[str]:
    return [problem.partition(":")[0] for problem in books.problems]


@pytest.mark.slow
def test_lives_pay_once_lose_nothing_and_end(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--simulated", "--seeds", "3"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("3 lives, 0 broken: ")
    assert err == ""


@pytest.mark.slow
def test_a_seed_takes_the_same_course_each_time() -> None:
    """Also where pictures are read, from a journal in a file too, and videos are saved."""
    lives = (life for seed in itertools.count(302) for life in soak_simulated._lives(first=seed, count=1))
    life = next(life for life in lives if life["counts"].get("saved"))
    assert [life] == list(soak_simulated._lives(first=life["seed"], count=1))


def test_a_session_that_is_closed_ends_the_reading_of_a_video() -> None:
    async def main() -> None:
        content = _Content(b"video", is_whole=True)
        asyncio.get_running_loop().call_later(0.05, content.set_exception, EOFError())
        with pytest.raises(EOFError):
            await content.readany()

    run_virtual(main)


def test_a_broken_life_says_how_to_live_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    life = {"seed": 7, "counts": {"paid": 2}, "problems": ["PAID TWICE: cat"]}
    monkeypatch.setattr(soak_simulated, "_lives", lambda first, count: iter([json.loads(json.dumps(life))]))
    assert main(["soak", "--simulated", "--seeds", "1", "--seed", "7"]) == 1
    first, second, verdict = capsys.readouterr().out.splitlines()
    assert first.endswith("python -m benchmarks soak --simulated --seeds 1 --seed 7")
    assert (second, verdict[:17]) == ("    PAID TWICE: cat", "1 lives, 1 broken")


def test_a_second_task_is_a_second_payment(books: Books) -> None:
    accepted(books, Payer("a"))
    accepted(books, Payer("b"))
    assert problems(books) == ["PAID TWICE"]


def test_a_second_task_after_an_answer_that_was_lost_is_one_as_well(books: Books) -> None:
    accepted(books, Payer("a"), is_heard=False)
    accepted(books, Payer("a"))
    assert problems(books) == ["PAID TWICE"]


def test_an_owner_may_pay_again_and_a_session_that_resubmits_may_after_a_lost_answer(books: Books) -> None:
    accepted(books, Payer("a"))
    books.decide("cat", forget=False)
    resubmits = Payer("b", resubmits=True)
    accepted(books, resubmits, is_heard=False)
    task_id = accepted(books, resubmits)
    assert problems(books) == []
    accepted(books, resubmits)
    assert books.problems == [f"PAID TWICE: cat, as {task_id} and then {books.service.ledger.accepted['cat'][-1]} by b"]


def test_a_task_that_is_not_on_record_is_lost(books: Books) -> None:
    accepted(books, Payer("a"))
    books.close(row("intended", None), Decimal(0))
    assert problems(books) == ["LOST", "WRONG SUM", "WRONG COST"]


@pytest.mark.parametrize("fact", ["resubmits", "is_struck", "cost_before"])
def test_a_task_of_a_job_that_waits_to_be_sent_again_is_lost_unless_its_session_has_said_so_and_gone(
    books: Books, fact: str
) -> None:
    payer = Payer("a", resubmits=fact != "resubmits", is_struck=fact != "is_struck")
    accepted(books, payer, is_heard=False)
    cost_before = to_nanos(payer.paid) if fact != "cost_before" else None
    books.close(row("intended", None, cost_before=cost_before), payer.paid)
    assert problems(books)[0] == "LOST"


def test_a_job_that_waits_to_be_sent_again_by_a_session_that_has_gone_is_not_lost(books: Books) -> None:
    accepted(books, payer := Payer("a", resubmits=True, is_struck=True), is_heard=False)
    books.close(row("intended", None, cost_before=to_nanos(payer.paid)), payer.paid)
    assert problems(books) == []


@pytest.mark.parametrize(("is_struck", "expected"), [(False, ["PAID TWICE"]), (True, [])])
def test_no_other_session_sends_again_what_one_that_is_alive_and_resubmits_has_in_doubt(
    books: Books, is_struck: bool, expected: list[str]
) -> None:
    accepted(books, Payer("a", resubmits=True, is_struck=is_struck), is_heard=False)
    accepted(books, Payer("b", resubmits=True))
    assert problems(books) == expected


def test_a_task_on_record_at_its_cost_is_as_it_must_be(books: Books) -> None:
    task_id = accepted(books, Payer("a"))
    books.close(row("success", task_id), books.service.ledger.spent)
    assert problems(books) == []


def test_a_doubt_needs_a_reason(books: Books) -> None:
    books.close(row("unknown", None, price=1), Decimal(0))
    assert problems(books) == ["DOUBT WITHOUT A REASON"]


def test_a_sum_that_is_too_high_is_wrong_where_nothing_is_in_doubt(books: Books) -> None:
    task_id = accepted(books, Payer("a"))
    books.close(row("success", task_id), books.service.ledger.spent + 1)
    assert problems(books) == ["WRONG SUM"]


@pytest.mark.parametrize(("is_counted", "expected"), [(True, []), (False, ["WRONG COST"])])
def test_what_a_job_had_cost_before_it_was_taken_back_and_given_again_counts_among_those_removed(
    books: Books, is_counted: bool, expected: list[str]
) -> None:
    accepted(books, payer := Payer("a"))
    cost = payer.paid
    books.decide("cat", forget=False)
    task_id = accepted(books, payer)
    books.close(row("success", task_id), books.service.ledger.spent, cost if is_counted else Decimal(0))
    assert problems(books) == expected


def test_an_end_that_the_service_does_not_know_is_wrong(books: Books) -> None:
    task_id = accepted(books, Payer("a"))
    books.failed(TaskFailedError(task_id=task_id, reason="so it seems"))
    books.heard("dog", Video(task_id=task_id, model="m", resources=()))
    books.close(row("failed", task_id), books.service.ledger.spent)
    assert problems(books) == ["WRONG END", "WRONG VIDEO", "WRONG END"]


def test_no_post_may_begin_after_the_last_caller_has_left(books: Books) -> None:
    books.left(["cat"], 1.0)
    books.arrived("cat", None, Post(Payer("a"), began_at=1.0))
    assert problems(books) == []
    books.arrived("cat", None, Post(Payer("a"), began_at=1.1))
    assert problems(books) == ["SENT FOR NO CALLER"]


@pytest.mark.parametrize(
    ("max_jobs", "max_cost", "expected"), [(2, "2", []), (1, None, ["OVER LIMIT"]), (None, "0.6", ["OVER LIMIT"])]
)
def test_more_than_a_stream_may_send_or_spend_is_told(
    books: Books, max_jobs: int | None, max_cost: str | None, expected: list[str]
) -> None:
    books.limit(["cat", "dog", "cow"], max_jobs, max_cost)
    for prompt in ("cat", "dog"):
        books.told.add(accepted(books, Payer("a"), prompt))
    books.close(None, Decimal(0))
    assert problems(books) == expected


def test_a_video_that_names_another_cost_is_told(books: Books) -> None:
    task_id = accepted(books, payer := Payer("a"))
    for cost in (payer.paid, payer.paid + 1):
        books.heard("cat", Video(task_id=task_id, model="m", resources=(), cost=cost))
    assert problems(books) == ["WRONG COST"]


def test_more_than_a_session_may_spend_is_told(books: Books) -> None:
    payer = Payer("a", max_cost=Decimal("0.6"))
    accepted(books, payer, "cat")
    accepted(books, payer, "dog")
    assert problems(books) == ["OVER BUDGET"]
