"""The page's server: what it shows, what it takes, and what it keeps to itself. In memory, over an emulator."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import httpx
import pytest

from hailuo_async import AsyncSession, ImageToVideo, Journal, JournalError, JournalState
from hailuo_async.emulator import Emulator, Fault, Kind
from hailuo_async.hooks import Ended
from hailuo_async.web.board import Board
from hailuo_async.web.page import Page, what_can_be_made

from ..support.service import KEY, picture, until

ORIGIN = "http://127.0.0.1:8765"
PICTURE = picture()


@attrs.define(eq=False)
class Visit:
    """The page at work, its emulator, and a client."""

    page: Page
    emulator: Emulator
    client: httpx.AsyncClient

    async def make(self, id: str, image: bytes = PICTURE, **fields: str) -> httpx.Response:
        return await self.client.post("/api/jobs", data={"id": id, **fields}, files={"image": ("a.png", image)})

    async def job(self, id: str) -> dict[str, Any]:
        """The job as the page shows it now; empty if it shows none."""
        await self.page._board._look()
        return self.page._board._jobs.get(id, {})

    async def when(self, id: str, status: str, *, says_why: bool = False) -> dict[str, Any]:
        with anyio.fail_after(60):
            while (job := await self.job(id)).get("status") != status or (says_why and not job["error"]):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        return job


def page_over(folder: Path, emulator: Emulator, key: str = KEY, **settings: Any) -> Page:
    def make_session() -> AsyncSession:
        given: dict[str, Any] = {"poll_interval": (0.005, 0.02), "journal_prompts": True, "keep_jobs": True}
        return AsyncSession(api_key=key, base_url=emulator.url, journal=folder / "batch.db", **(given | settings))

    return Page(make_session=make_session, journal=folder / "batch.db", folder=folder)


@pytest.fixture
async def visit(tmp_path: Path, emulator: Emulator) -> AsyncIterator[Visit]:
    page = page_over(tmp_path, emulator)
    app = page.app(hosts={"127.0.0.1:8765"})
    async with page.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        yield Visit(page, emulator, client)


def id_of(number: int) -> str:
    return f"{number:032x}"


async def test_a_picture_becomes_a_video_that_plays_in_any_part(visit: Visit) -> None:
    answer = await visit.make(id_of(1), prompt="[Push in] <b>a cat</b>", duration="6", resolution="768P")
    assert (answer.status_code, answer.json(), answer.headers["location"]) == (
        202,
        {"id": id_of(1)},
        f"/api/jobs/{id_of(1)}",
    )
    job = await visit.when(id_of(1), "success")
    assert (job["prompt"], job["cost"], job["can_retry"]) == ("[Push in] <b>a cat</b>", "0.3240", True)
    whole = await visit.client.get(f"/api/jobs/{id_of(1)}/file")
    assert (whole.status_code, whole.headers["content-type"], len(whole.content)) == (200, "video/mp4", 4096)
    part = await visit.client.get(f"/api/jobs/{id_of(1)}/file", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.headers["content-range"]) == (206, "bytes 100-199/4096")
    assert part.content == whole.content[100:200]
    shown = await visit.client.get(f"/api/jobs/{id_of(1)}/picture")
    assert (shown.headers["content-type"], shown.content) == ("image/png", PICTURE)
    assert (await visit.client.head(f"/api/jobs/{id_of(1)}/file")).headers["content-length"] == "4096"
    assert visit.emulator.ledger.posts == 1


async def test_a_second_click_is_the_same_job(visit: Visit) -> None:
    for _ in range(3):
        assert (await visit.make(id_of(1), prompt="once")).status_code == 202
    await visit.when(id_of(1), "success")
    assert (await visit.make(id_of(1), prompt="once")).status_code == 202
    assert visit.emulator.ledger.posts == 1


@pytest.mark.parametrize(
    ("image", "fields", "status", "field"),
    [
        (b"", {}, 422, "image"),
        (b"x", {}, 422, "image"),
        (b"PK\x03\x04" + bytes(400), {}, 422, "image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), {}, 422, "image"),
        (bytes(21_000_000), {}, 413, "image"),
        (PICTURE, {"prompt": "x" * 2001}, 422, "prompt"),
        (PICTURE, {"duration": "7"}, 422, "duration"),
        (PICTURE, {"duration": "10", "resolution": "1080P"}, 422, "resolution"),
        (PICTURE, {"duration": "9" * 9999}, 422, "duration"),
        (PICTURE, {"model": "/api/v1/../../admin"}, 422, "model"),
        (PICTURE, {"model": "hailuo-02-fl2v"}, 422, "model"),
        (PICTURE, {"prompt_optimizer": "perhaps"}, 422, "prompt_optimizer"),
        (PICTURE, {"id": "../../etc/passwd"}, 422, "id"),
        (PICTURE, {"id": "short"}, 422, "id"),
    ],
)
async def test_what_cannot_be_a_job_is_refused_and_nothing_is_kept_of_it(
    image: bytes, fields: dict[str, str], status: int, field: str, visit: Visit, tmp_path: Path
) -> None:
    answer = await visit.make(**{"id": id_of(1), "image": image, **fields})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert str(tmp_path) not in answer.text
    assert [path.name async for path in anyio.Path(tmp_path / "pictures").iterdir()] == []
    assert (visit.emulator.ledger.posts, await visit.job(id_of(1))) == (0, {})


@pytest.mark.parametrize(
    "prompt", ["🐈" * 2000, "<script>alert(1)</script>", "\u202eright to left", "'; DROP TABLE job; --"]
)
async def test_any_text_is_a_prompt(prompt: str, visit: Visit) -> None:
    assert (await visit.make(id_of(1), prompt=prompt)).status_code == 202
    assert (await visit.when(id_of(1), "success"))["prompt"] == prompt
    assert list(visit.emulator.ledger.accepted) == [prompt]


@pytest.mark.parametrize(
    "path",
    [
        "..%2F..%2Fbatch.db",
        "..%2Fpictures",
        "nobody",
        "%00",
        "%2Fetc%2Fpasswd",
        "a%0d%0ab",
        "é",
        "x" * 4000,
        "'%20OR%201=1",
    ],
)
async def test_a_path_leads_to_no_file_and_to_no_other_job(path: str, visit: Visit) -> None:
    for what in ("file", "picture"):
        assert (await visit.client.get(f"/api/jobs/{path}/{what}")).status_code == 404
    assert (await visit.client.get(f"/static/{path}")).status_code == 404
    for what in ("retry", "resolve"):
        assert (await visit.client.post(f"/api/jobs/{path}/{what}", json={"id": id_of(2)})).status_code == 404


async def test_a_picture_that_cannot_be_kept_is_a_full_disk_and_sends_nothing(visit: Visit, tmp_path: Path) -> None:
    await anyio.to_thread.run_sync(shutil.rmtree, tmp_path / "pictures")
    answer = await visit.make(id_of(1), prompt="kept nowhere")
    assert (answer.status_code, answer.json()["error"]) == (507, "StorageFull")
    assert (visit.emulator.ledger.posts, await visit.job(id_of(1))) == (0, {})


async def test_what_failed_says_why_and_is_tried_again_once(visit: Visit) -> None:
    visit.emulator.service.fail_rate = 1.0
    await visit.make(id_of(1), prompt="hopeless")
    job = await visit.when(id_of(1), "failed")
    assert "the service gave the task up" in job["error"]
    visit.emulator.service.fail_rate = 0.0
    guessable = await visit.client.post(f"/api/jobs/{id_of(1)}/retry", json={"id": "2"})
    assert (guessable.status_code, guessable.json()["field"]) == (422, "id")
    for _ in range(2):
        answer = await visit.client.post(f"/api/jobs/{id_of(1)}/retry", json={"id": id_of(2)})
        assert answer.status_code == 202
    assert (await visit.when(id_of(2), "success"))["prompt"] == "hopeless"
    assert visit.emulator.ledger.posts == 2


async def test_a_job_that_is_refused_under_the_id_of_another_takes_no_picture_from_that(visit: Visit) -> None:
    await visit.make(id_of(1), prompt="a cat")
    assert (await visit.make(id_of(1), prompt="a dog")).status_code == 422
    assert (await visit.client.get(f"/api/jobs/{id_of(1)}/picture")).content == PICTURE


async def test_of_a_retry_that_is_not_taken_no_picture_stays(tmp_path: Path, emulator: Emulator) -> None:
    page = page_over(tmp_path, emulator, max_jobs=1)
    app = page.app(hosts={"127.0.0.1:8765"})
    async with page.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        visit = Visit(page, emulator, client)
        await visit.make(id_of(1), prompt="once")
        await visit.when(id_of(1), "success")
        answer = await client.post(f"/api/jobs/{id_of(1)}/retry", json={"id": id_of(2)})
        assert (answer.status_code, page._intake.pictures.has(id_of(2))) == (503, False)


async def test_a_key_that_is_not_valid_is_said_on_the_card_and_the_job_stays_for_a_page_that_has_a_valid_one(
    tmp_path: Path, emulator: Emulator
) -> None:
    wrong = page_over(tmp_path, emulator, "wrong")
    app = wrong.app(hosts={"127.0.0.1:8765"})
    async with wrong.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        visit = Visit(wrong, emulator, client)
        assert (await visit.make(id_of(1), prompt="later")).status_code == 202
        job = await visit.when(id_of(1), "unsent", says_why=True)
        assert (job["error"][:3], job["can_retry"]) == ("401", False)
    right = page_over(tmp_path, emulator)
    async with right.opened():
        await Visit(right, emulator, httpx.AsyncClient()).when(id_of(1), "success")
    assert emulator.ledger.submits_accepted == 1


async def test_why_a_job_was_not_sent_is_said_even_if_the_journal_is_read_while_it_is_sent(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, read, ended = page_over(tmp_path, emulator, "wrong"), Board._read, threading.Event()
    app = page.app(hosts={"127.0.0.1:8765"})

    def early(board: Board, dirty: set[str]) -> Any:
        monkeypatch.setattr(Board, "_read", read)
        ended.wait(60)
        records, *others = read(board, dirty)
        return [attrs.evolve(record, state=JournalState.SENDING) for record in records], *others

    async with page.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        visit = Visit(page, emulator, client)
        page._intake.session.hooks.append(lambda event: ended.set() if isinstance(event, Ended) else None)
        monkeypatch.setattr(Board, "_read", early)
        await visit.make(id_of(1))
        assert (await visit.job(id_of(1)))["status"] == "sending"
        job = await visit.job(id_of(1))
        assert (job["status"], job["error"][:3]) == ("unsent", "401")


async def away(session: AsyncSession, job: object) -> None:
    raise JournalError(path="batch.db", reason="is locked", is_outage=True)


async def test_in_an_outage_the_picture_stays_for_the_visitor_who_comes_again(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(AsyncSession, "submit", away)
        assert (await visit.make(id_of(1))).status_code == 503
        assert visit.page._intake.pictures.has(id_of(1))
    assert (await visit.make(id_of(1))).status_code == 202
    await visit.when(id_of(1), "success")
    assert (await visit.client.get(f"/api/jobs/{id_of(1)}/picture")).content == PICTURE


async def in_doubt(visit: Visit) -> None:
    visit.emulator.next_fault(Kind.SUBMIT, Fault.CUT_AFTER)
    await visit.make(id_of(1), prompt="lost")
    await visit.when(id_of(1), "unknown")


async def decide(visit: Visit, **decision: str) -> int:
    return (await visit.client.post(f"/api/jobs/{id_of(1)}/resolve", json=decision)).status_code


async def test_a_doubt_is_decided_by_its_task(visit: Visit) -> None:
    await in_doubt(visit)
    ((task_id,),) = visit.emulator.ledger.accepted.values()
    assert [await decide(visit), await decide(visit, action="pay"), await decide(visit, action="task")] == [422] * 3
    assert await decide(visit, action="task", task_id=task_id) == 200
    await visit.when(id_of(1), "success")
    assert visit.emulator.ledger.posts == 1


async def test_a_doubt_is_decided_by_sending_it_again_once(visit: Visit) -> None:
    await in_doubt(visit)
    assert await decide(visit, action="resubmit") == 200
    assert await decide(visit, action="resubmit") == 409
    await visit.when(id_of(1), "success")
    assert visit.emulator.ledger.posts == 2


async def test_a_doubt_whose_picture_is_gone_stays_one_and_is_not_sent_again(visit: Visit) -> None:
    await in_doubt(visit)
    await anyio.to_thread.run_sync(visit.page._intake.pictures.remove, id_of(1))
    assert await decide(visit, action="resubmit") == 409
    assert (await visit.job(id_of(1)))["status"] == "unknown"


async def test_a_decision_that_an_outage_cuts_in_the_middle_can_be_made_again(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_over(tmp_path, emulator, keep_jobs=False)  # or this session might take the job by itself
    app = page.app(hosts={"127.0.0.1:8765"})
    async with page.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        visit = Visit(page, emulator, client)
        await in_doubt(visit)
        with monkeypatch.context() as patched:
            patched.setattr(AsyncSession, "submit", away)
            assert await decide(visit, action="resubmit") == 503
        assert [await decide(visit, action=other) for other in ("task", "forget")] == [409] * 2
        assert await decide(visit, action="resubmit") == 200
        await visit.when(id_of(1), "success")
        assert await decide(visit, action="resubmit") == 409
    assert emulator.ledger.posts == 2


@pytest.mark.parametrize("method", ["resolve", "submit"])
async def test_a_decision_waits_for_the_journal_as_long_as_any_visitor(
    method: str, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waiting(session: AsyncSession, *given: object, **decision: object) -> None:
        await anyio.sleep_forever()

    await in_doubt(visit)
    monkeypatch.setattr(AsyncSession, method, waiting)
    monkeypatch.setattr(visit.page._intake, "patience_s", 0.05)
    with anyio.fail_after(60):
        assert await decide(visit, action="resubmit") == 503


async def test_a_doubt_that_is_given_up_is_gone(visit: Visit) -> None:
    await in_doubt(visit)
    assert await decide(visit, action="forget") == 200
    assert (await visit.job(id_of(1)), (await visit.client.get(f"/api/jobs/{id_of(1)}/picture")).status_code) == (
        {},
        404,
    )


async def test_a_journal_of_a_batch_opens_as_the_page(tmp_path: Path, emulator: Emulator) -> None:
    session = AsyncSession(
        api_key=KEY, base_url=emulator.url, journal=tmp_path / "batch.db", poll_interval=(0.005, 0.02)
    )
    async with session:
        jobs = [
            ImageToVideo("https://example.com/a.jpg", key="last night ü"),
            ImageToVideo("https://example.com/b.jpg"),
        ]
        async for _ in session.stream(jobs, save_to=tmp_path):
            pass
    page = page_over(tmp_path, emulator)
    app = page.app(hosts={"127.0.0.1:8765"})
    async with page.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        visit = Visit(page, emulator, client)
        job = await visit.job("last night ü")
        assert (job["status"], job["named"], job["can_retry"]) == ("success", True, False)
        film = await client.get("/api/jobs/last%20night%20%C3%BC/file")
        assert (film.status_code, len(film.content)) == (200, 4096)
        (unnamed,) = (id for id in page._board._jobs if id != "last night ü")
        assert (await client.get(f"/api/jobs/{unnamed.replace('#', '%23')}/file")).status_code == 200
        again = await client.post("/api/jobs/last%20night%20%C3%BC/retry", json={"id": id_of(1)})
        assert (again.status_code, "run the command again" in again.json()["message"]) == (409, True)
    assert emulator.ledger.posts == 2


async def test_news_begin_with_a_snapshot_and_go_on_with_what_changes(visit: Visit) -> None:
    news = visit.page._board.news()
    first = await anext(news)
    assert first is not None
    assert (first["is_snapshot"], first["jobs"], first["stats"]["queued"]) == (True, [], 0)
    await visit.make(id_of(1), prompt="a cat")
    seen: list[str] = []
    with anyio.fail_after(60):
        while "success" not in seen:
            change = await anext(news)
            seen += [job["status"] for job in (change or {"jobs": []})["jobs"]]
            assert change is None or not change["is_snapshot"]
    assert seen == sorted(seen, key=["queued", "sending", "pending", "processing", "success"].index)
    visit.page.stop()
    assert [each async for each in news] == []


async def test_a_look_that_finds_nothing_new_is_no_news(visit: Visit) -> None:
    news = visit.page._board.news()
    await anext(news)
    coming = asyncio.ensure_future(anext(news))
    for _ in range(3):
        await visit.page._board._look()
        await anyio.wait_all_tasks_blocked()
    assert not coming.done()
    await visit.make(id_of(1))
    told = await coming
    while told is None or not told["jobs"]:  # a number may change before a job does
        told = await anext(news)
    assert told["jobs"][0]["id"] == id_of(1)
    await news.aclose()


async def test_news_that_are_silent_say_that_they_live(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hailuo_async.web.board._HEARTBEAT_S", 0.01)
    news = visit.page._board.news()
    assert [await anext(news) is None for _ in range(3)] == [False, True, True]
    await news.aclose()


async def test_what_changes_while_news_are_being_sent_comes_with_the_next(visit: Visit) -> None:
    news = visit.page._board.news()
    await anext(news)  # its sender takes its time
    await visit.make(id_of(1))
    await visit.when(id_of(1), "success")
    with anyio.fail_after(60):
        change = await anext(news)
    assert [job["status"] for job in (change or {"jobs": []})["jobs"]] == ["success"]
    await news.aclose()


async def test_the_page_says_what_was_paid_for_failed_and_forgotten_jobs_too(visit: Visit) -> None:
    visit.emulator.service.fail_rate = 1.0
    await visit.make(id_of(1))
    job = await visit.when(id_of(1), "failed")
    visit.emulator.service.fail_rate = 0.0
    assert job["cost"] is not None
    await visit.make(id_of(2))
    made = await visit.when(id_of(2), "success")
    await visit.page._intake.session.resolve(id_of(1), forget=True)
    board = visit.page._board
    await board._look()
    assert Decimal(board._stats()["spent"]) == Decimal(job["cost"]) + Decimal(made["cost"])


async def test_a_slow_reading_does_not_take_a_later_one_back(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    board, read = visit.page._board, Board._read
    has_read, may_go_on = threading.Event(), threading.Event()

    def slowly(board: Board, dirty: set[str]) -> Any:
        found = read(board, dirty)
        if not has_read.is_set():
            has_read.set()
            may_go_on.wait(60)
        return found

    monkeypatch.setattr(Board, "_read", slowly)
    board._counts = {JournalState.INTENDED: 1}  # all is read
    async with anyio.create_task_group() as looks:
        looks.start_soon(board._look)
        await anyio.to_thread.run_sync(has_read.wait)
        await visit.make(id_of(1))
        looks.start_soon(board._look)
        await anyio.wait_all_tasks_blocked()
        may_go_on.set()
    assert list(board._jobs) == [id_of(1)]


async def test_a_job_that_is_taken_out_of_the_journal_leaves_every_page(visit: Visit) -> None:
    await in_doubt(visit)
    news = visit.page._board.news()
    assert [job["status"] for job in (await anext(news) or {})["jobs"]] == ["unknown"]
    assert await decide(visit, action="forget") == 200
    with anyio.fail_after(60):
        while (change := await anext(news)) is None or not change["is_snapshot"]:
            pass
    assert change["jobs"] == []
    await news.aclose()


async def test_a_journal_that_cannot_be_read_for_a_while_leaves_what_was_known(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await visit.make(id_of(1))
    await visit.when(id_of(1), "success")
    with monkeypatch.context() as patched:
        patched.setattr(visit.page._board, "journal", Path("/nowhere/batch.db"))
        assert (await visit.job(id_of(1)))["status"] == "success"
        await visit.page._board._look()
    assert caplog.text.count("the page shows what was known before") == 1


def test_the_form_offers_what_each_model_takes_and_its_price() -> None:
    offer = what_can_be_made()
    by_slug = {model["slug"]: model for model in offer["models"]}
    assert by_slug["hailuo-2.3-i2v"]["sizes"] == {"6": ["768P", "1080P"], "10": ["768P"]}
    assert by_slug["hailuo-02-fl2v"]["prices"]["6/1080P"] == ["0.6360", "0.6360"]
    assert (by_slug["minimax-i2v-01"]["camera_commands"], len(offer["commands"])) == (False, 15)
    json.dumps(offer)


async def test_a_token_is_given_once_and_kept_in_a_cookie(tmp_path: Path, emulator: Emulator) -> None:
    page = page_over(tmp_path, emulator)
    app = page.app(hosts=(), token="open sesame")
    async with page.opened(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        assert (await client.get("/api/options")).status_code == 401
        assert (await client.post("/login", data={"token": "guess"})).status_code == 401
        no_text = await client.post(
            "/login", content=b'{"token": "\\ud800"}', headers={"Content-Type": "application/json"}
        )
        assert no_text.status_code == 401
        assert (await client.post("/login", data={"token": "x" * 40_000})).status_code == 413
        answer = await client.post("/login", data={"token": "open sesame"})
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert "open sesame" not in cookie
        assert (await client.get("/api/options")).status_code == 200


async def test_a_visitor_who_leaves_in_the_middle_of_a_decision_decides_nothing(visit: Visit) -> None:
    await in_doubt(visit)
    path = f"/api/jobs/{id_of(1)}/resolve"
    headers = [(b"host", b"127.0.0.1:8765"), (b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    coming = [{"type": "http.request", "body": b"action=forget", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await visit.page.app(hosts={"127.0.0.1:8765"})({**scope, "http_version": "1.1"}, receive, send)
    assert sent[0]["status"] == 400
    assert (await visit.job(id_of(1)))["status"] == "unknown"


async def test_what_is_served_is_named_and_a_journal_keeps_what_the_page_made(visit: Visit, tmp_path: Path) -> None:
    index = await visit.client.get("/")
    assert "static/page.js" in index.text
    assert "This page needs JavaScript" in index.text.partition("<noscript>")[2].partition("</noscript>")[0]
    assert "<script>" not in index.text
    for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")):
        assert (await visit.client.get(f"/static/{name}")).headers["content-type"].startswith(kind)
    await visit.make(id_of(1), prompt="kept")
    await visit.when(id_of(1), "success")
    await until(lambda: (tmp_path / f"{id_of(1)}.mp4").exists())

    def prompts() -> list[str | None]:
        with Journal.open(tmp_path / "batch.db") as journal:
            return [record.prompt for record in journal.records()]

    assert await anyio.to_thread.run_sync(prompts) == ["kept"]
