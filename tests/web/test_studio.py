"""Requests of visitors, answered by either face over the same studio: what is taken, told, passed on and refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import attrs
import httpx
import pytest
from aiohttp import web as aiohttp_web
from starlette.applications import Starlette
from starlette.routing import Mount

import hailuo_async
from hailuo_async import (
    AsyncSession,
    ConfigError,
    HailuoError,
    ImageError,
    JobError,
    JournalError,
    SubmissionUnknownError,
    TaskFailedError,
    web,
)
from hailuo_async._images.frame import inspect_image
from hailuo_async.emulator import Emulator, Fault, Kind
from hailuo_async.testing import run_virtual
from hailuo_async.web import events
from hailuo_async.web.answers import Answer, error_answer
from hailuo_async.web.films import remove_old

from ..support.crash_journal import locked
from ..support.pictures import plain, refusal, written
from ..support.service import KEY, Line, picture, until

PICTURE = picture()
ID = "0123456789abcdef"


def session_on(emulator: Emulator, folder: Path, **settings: Any) -> AsyncSession:
    given: dict[str, Any] = {"keep_jobs": True, "poll_interval": (0.005, 0.02), "journal": folder / "videos.db"}
    return AsyncSession(api_key=KEY, base_url=emulator.url, **(given | settings))


@attrs.define(eq=False)
class Visitor:
    """Asks a studio without a framework between."""

    studio: web.Studio

    async def post(self, body: bytes | None = None, headers: Mapping[str, str] | None = None, **fields: str) -> Answer:
        if body is None:
            request = httpx.Request("POST", "http://x/", data=fields, files={"image": ("a.png", PICTURE)})
            body, headers = request.read(), {**request.headers, **(headers or {})}

        async def pieces() -> AsyncIterator[bytes]:
            yield body

        named = {name.title(): value for name, value in (headers or {}).items()}
        return await self.studio.create(named, pieces(), path="/videos")

    async def when(self, id: str, *statuses: str) -> dict[str, Any]:
        with anyio.fail_after(60):
            while (state := await self.studio.state(id))["status"] not in statuses:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        return state

    async def told(self, id: str, last: str = "") -> list[tuple[str, dict[str, Any]]]:
        """The id and the content of every event."""
        answer = await self.studio.events(id, {"Last-Event-ID": last})
        assert not isinstance(answer.body, bytes)
        text = b"".join([piece async for piece in answer.body]).decode()
        found = [block.split("\n") for block in text.split("\n\n") if block.startswith("id: ")]
        return [(id[4:], json.loads(data[6:])) for id, data in found]


@contextlib.asynccontextmanager
async def visited(session: AsyncSession, **options: Any) -> AsyncIterator[Visitor]:
    async with session:
        studio = web.Studio(session, **options)
        yield Visitor(studio)
        await studio.aclose()


@pytest.fixture
async def visitor(emulator: Emulator, tmp_path: Path) -> AsyncIterator[Visitor]:
    async with visited(session_on(emulator, tmp_path)) as visitor:
        yield visitor


async def bytes_of(answer: Answer) -> bytes:
    return answer.body if isinstance(answer.body, bytes) else b"".join([piece async for piece in answer.body])


# --- What is taken ---


async def test_a_job_is_taken_once_under_the_visitors_own_key(visitor: Visitor, emulator: Emulator) -> None:
    for _ in range(3):
        answer = await visitor.post(prompt="a cat", headers={"Idempotency-Key": f'"{ID}"'})
        assert (answer.status, answer.headers["Location"], answer.content) == (202, f"/videos/{ID}", {"id": ID})
    assert (await visitor.when(ID, "success"))["cost"] is not None
    refused = await visitor.post(prompt="another", headers={"Idempotency-Key": ID})
    assert (refused.status, refused.content["message"]) == (422, "id: names another job: choose another")
    assert emulator.ledger.posts == 1


async def test_an_id_that_is_easily_guessed_is_refused_by_the_name_the_visitor_gave_it(visitor: Visitor) -> None:
    by_header = await visitor.post(prompt="a cat", headers={"Idempotency-Key": "order-7"})
    by_field = await visitor.post(prompt="a cat", id="order-7")
    as_a_path = await visitor.post(prompt="a cat", id=f"{ID}/..")
    assert [(each.status, each.content["field"]) for each in (by_header, by_field, as_a_path)] == [
        (422, "Idempotency-Key"),
        (422, "id"),
        (422, "id"),
    ]
    assert "16 to 64" in str(by_header.content["message"])


async def test_an_id_that_is_made_here_is_one_that_nobody_guesses(visitor: Visitor) -> None:
    made = {str((await visitor.post(prompt=f"{number}")).content["id"]) for number in range(3)}
    assert [len(id) for id in made] == [32] * 3


async def test_an_option_is_the_applications_unless_it_is_left_to_visitors(emulator: Emulator, tmp_path: Path) -> None:
    options: dict[str, Any] = {"options": {"duration"}, "defaults": {"resolution": "768P", "duration": 6}}
    async with visited(session_on(emulator, tmp_path), **options) as visitor:
        assert (await visitor.post(duration="10", id=ID)).status == 202
        refused = await visitor.post(model="hailuo-02-i2v")
        assert (refused.status, refused.content["field"]) == (422, "model")
        await visitor.when(ID, "success")
    assert (emulator.ledger.paid_s, emulator.ledger.posts) == (10, 1)


async def test_a_job_that_ends_on_a_picture_has_no_fast_pretreatment(emulator: Emulator, tmp_path: Path) -> None:
    options: dict[str, Any] = {"options": {"fast_pretreatment"}, "defaults": {"fast_pretreatment": True}}
    url = "https://example.com/last.jpg"
    async with visited(session_on(emulator, tmp_path), **options) as visitor:
        assert (await visitor.post(last_frame_image=url)).status == 202  # the default is for other jobs
        refused = await visitor.post(last_frame_image=url, fast_pretreatment="true")
        assert (refused.status, refused.content["field"]) == (422, "fast_pretreatment")


async def test_a_picture_that_is_given_by_both_of_its_names_is_refused(visitor: Visitor, emulator: Emulator) -> None:
    answer = await visitor.post(first_frame_image="https://example.com/a.png")
    assert (answer.status, answer.content["field"], emulator.ledger.posts) == (422, "first_frame_image", 0)


async def test_a_full_queue_says_when_to_come_again(emulator: Emulator, tmp_path: Path) -> None:
    emulator.service.max_running = 0
    async with visited(session_on(emulator, tmp_path, max_queued=1)) as visitor:
        answers = [await visitor.post(prompt=f"{number}") for number in range(4)]
        full = answers[-1]
        assert (answers[0].status, full.status, full.headers["Retry-After"]) == (202, 503, "30")
        assert full.content["error"] == "QueueFullError"
        assert len(str(full.content["id"])) == 32  # with it the visitor comes again


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 415),
        (b"x", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-type": "application/json"}, 422),
        (b"prompt=x", {"content-type": "application/x-www-form-urlencoded"}, 422),
        (b"x", {"content-type": "multipart/form-data"}, 400),
        (b"x", {"content-type": "multipart/form-data; boundary=e", "content-length": "3000000000"}, 413),
    ],
)
async def test_what_is_no_job_is_refused(
    body: bytes, headers: dict[str, str], status: int, visitor: Visitor, emulator: Emulator
) -> None:
    answer = await visitor.post(body, headers)
    assert (answer.status, "message" in answer.content) == (status, True)
    assert emulator.ledger.posts == 0


async def test_a_full_disk_is_said_and_nothing_is_taken(
    visitor: Visitor, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hailuo_async.web.forms._new_file", full)
    answer = await visitor.post(prompt="a cat")
    assert (answer.status, answer.content["message"], emulator.ledger.posts) == (507, "No space left on device", 0)


async def test_an_upload_for_which_no_file_can_be_opened_may_come_again(
    visitor: Visitor, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_up() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("hailuo_async.web.forms._new_file", used_up)
    answer = await visitor.post(prompt="a cat")
    assert (answer.status, answer.headers["Retry-After"], emulator.ledger.posts) == (503, "30", 0)


async def test_a_visitor_who_leaves_while_he_sends_is_no_full_disk(visitor: Visitor, emulator: Emulator) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"prompt="
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await visitor.studio.create({"Content-Type": "application/x-www-form-urlencoded"}, broken())
    assert emulator.ledger.posts == 0


# --- While the journal is away ---


@pytest.mark.slow
async def test_who_meets_an_outage_of_the_journal_is_sent_away_and_no_job_is_taken(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with visited(session_on(emulator, tmp_path), patience_s=0.05) as visitor:
        async with locked(tmp_path / "videos.db"):
            refused = await visitor.post(prompt="a cat")
            asked = [await visitor.studio.look(ID), await visitor.studio.events(ID), await visitor.studio.file(ID)]
        assert [(each.status, each.headers["Retry-After"]) for each in (refused, *asked)] == [(503, "30")] * 4
        assert (refused.content["error"], sorted(refused.content)) == ("JournalError", ["error", "id", "message"])
        visitor.studio.patience_s = 60.0
        id = str(refused.content["id"])
        assert (await visitor.studio.look(id)).status == 404
        for _ in range(2):
            again = await visitor.post(prompt="a cat", id=id)
            assert (again.status, again.content) == (202, {"id": id})
        await visitor.when(id, "success")
    assert emulator.ledger.posts == 1


class _Away:
    """A session whose journal does not answer."""

    hooks: list[object] = []  # noqa: RUF012
    has_journal = True

    async def submit(self, job: object) -> None:
        await asyncio.sleep(300)

    find = submit


async def test_a_disk_that_times_out_is_not_taken_for_the_journal(visitor: Visitor) -> None:
    with pytest.raises(TimeoutError, match="disk"):
        async with visitor.studio.in_time("the job was not on record"):
            raise TimeoutError("the disk does not answer")


async def test_what_waits_too_long_says_what_did_not_happen(visitor: Visitor) -> None:
    visitor.studio.patience_s = 0.001
    with pytest.raises(JournalError, match=r"the job was not on record within 0\.001 s"):
        async with visitor.studio.in_time("the job was not on record"):
            await anyio.sleep_forever()


def test_a_visitor_waits_for_the_journal_as_long_as_a_proxy_does() -> None:
    async def waited_s() -> list[float]:
        visitor, loop = Visitor(web.Studio(_Away())), asyncio.get_running_loop()  # type: ignore[arg-type]
        plain = {"content-type": "application/x-www-form-urlencoded"}  # it needs no thread, for which no clock waits
        posting = visitor.post(b"image=https%3A%2F%2Fexample.com%2Fa.png", plain)
        times = [loop.time()]
        for asking in (posting, visitor.studio.look(ID), visitor.studio.file(ID)):
            assert (await asking).status == 503
            times.append(loop.time())
        return [after - before for before, after in itertools.pairwise(times)]

    assert run_virtual(waited_s) == pytest.approx([20.0] * 3, abs=0.1)


# --- Where it stands ---


async def test_events_tell_each_change_once_and_go_on_behind_the_last_one_that_was_heard(
    visitor: Visitor, emulator: Emulator
) -> None:
    await visitor.post(prompt="a cat", id=ID)
    heard = await visitor.told(ID)
    order = ["queued", "sending", "pending", "processing", "success"]
    assert [status for status, _ in heard] == sorted({status for status, _ in heard}, key=order.index)
    assert (heard[-1][1]["status"], heard[-1][1]["id"]) == ("success", ID)
    assert [status for status, _ in await visitor.told(ID, last="processing")] == ["success"]
    over = await visitor.studio.events(ID, {"Last-Event-ID": "success"})
    assert (over.status, over.body) == (204, b"")


async def test_a_silent_stream_says_that_it_lives_and_ends_when_the_server_stops(
    visitor: Visitor, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)
    emulator.service.max_running = 0
    await visitor.post(prompt="a cat", id=ID)
    answer = await visitor.studio.events(ID)
    assert (answer.headers["X-Accel-Buffering"], answer.headers["Cache-Control"]) == ("no", "no-cache")
    assert not isinstance(answer.body, bytes)
    assert await anext(answer.body) == b"retry: 2000\n\n"
    with anyio.fail_after(60):
        while await anext(answer.body) != b": still here\n\n":
            pass
    await visitor.studio.aclose()
    assert b"abandoned" not in b"".join([piece async for piece in answer.body])


async def test_more_streams_than_may_be_open_are_sent_away_and_room_comes_back(
    visitor: Visitor, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_STREAMS", 2)
    emulator.service.max_running = 0
    await visitor.post(prompt="a cat", id=ID)
    watching = [(await visitor.studio.events(ID)).body for _ in range(2)]
    for stream in watching:
        assert not isinstance(stream, bytes)
        await anext(stream)
    sent_away = await visitor.studio.events(ID)
    assert (sent_away.status, sent_away.headers["Retry-After"]) == (503, "30")
    for stream in watching:
        assert not isinstance(stream, bytes)
        await stream.aclose()
    assert (await visitor.studio.events(ID)).status == 200


async def test_who_waits_is_told_a_place_and_a_time_and_an_etag_holds_while_nothing_changes(
    visitor: Visitor, emulator: Emulator
) -> None:
    emulator.service.generation_s = 600
    emulator.service.max_running = 1
    ids = [f"{number:016}" for number in range(4)]
    for id in ids:
        await visitor.post(prompt=id, id=id)
    await visitor.when(ids[0], "pending", "processing")
    await visitor.when(ids[1], "queued")
    states = [await visitor.studio.state(id) for id in ids]
    assert (states[0]["place"], states[3]["status"]) == (None, "queued")
    assert 0 < int(str(states[0]["seconds_left"])) <= int(str(states[3]["seconds_left"]))
    assert states[3]["place"] in (2, 3)  # one of those before it may be on its way to be refused
    first = await visitor.studio.look(ids[3])
    same = await visitor.studio.look(ids[3], {"If-None-Match": first.headers["ETag"]})
    assert (first.status, same.status) in ((200, 304), (200, 200))


async def test_a_failure_is_told_with_its_reason(visitor: Visitor, emulator: Emulator) -> None:
    emulator.service.fail_rate = 1.0
    await visitor.post(prompt="a cat", id=ID)
    error = (await visitor.when(ID, "failed"))["error"]
    assert error["message"].startswith("the service gave the video up: ")
    assert (await visitor.studio.file(ID)).status == 502
    emulator.next_fault(Kind.SUBMIT, Fault.CUT_AFTER)
    await visitor.post(prompt="a dog", id=ID[::-1])
    assert (await visitor.when(ID[::-1], "unknown"))["error"]["error"] == "SubmissionUnknownError"


async def test_asking_about_a_job_that_is_over_is_no_news(visitor: Visitor) -> None:
    heard: list[str] = []
    await visitor.post(id=ID)
    await visitor.when(ID, "success")
    visitor.studio.session.hooks.append(lambda event: heard.append(type(event).__name__))
    for _ in range(3):
        assert (await visitor.studio.look(ID)).status == 200
    assert (heard, visitor.studio.session.stats().succeeded) == ([], 1)


@pytest.mark.parametrize("id", ["", "nobody", "../videos.db", "\0", "é" * 300, "0" * 32, "' OR 1=1"])
async def test_an_id_that_is_none_leads_nowhere(id: str, visitor: Visitor) -> None:
    answers = [await visitor.studio.look(id), await visitor.studio.events(id), await visitor.studio.file(id)]
    assert [answer.status for answer in answers] == [404] * 3


# --- The video ---


@pytest.mark.parametrize("is_copied", [True, False])
async def test_any_part_of_a_video_can_be_had(is_copied: bool, emulator: Emulator, tmp_path: Path) -> None:
    emulator.service.video_size = 700_000
    options = {"save_to": tmp_path / "copies"} if is_copied else {}
    async with visited(session_on(emulator, tmp_path), **options) as visitor:
        assert (await visitor.post(id=ID)).status == 202
        early = await visitor.studio.file(ID)
        assert (early.status, early.headers["Retry-After"]) == (409, "5")
        await visitor.when(ID, "success")
        whole = await visitor.studio.file(ID)
        film = await bytes_of(whole)
        assert (whole.status, len(film), whole.headers["Content-Length"]) == (200, 700_000, "700000")
        for asked, told_as, start, end in (
            ("bytes=0-1", "bytes 0-1/700000", 0, 2),
            ("bytes=300000-", "bytes 300000-699999/700000", 300_000, 700_000),
            ("bytes=-5", "bytes 699995-699999/700000", 699_995, 700_000),
        ):
            part = await visitor.studio.file(ID, {"Range": asked})
            assert (part.status, part.headers["Content-Range"]) == (206, told_as)
            assert await bytes_of(part) == film[start:end]
        behind = await visitor.studio.file(ID, {"Range": "bytes=700000-"})
        assert (behind.status, behind.headers["Content-Range"]) == (416, "bytes */700000")
        head = await visitor.studio.file(ID, is_head=True)
        assert (head.status, head.body, head.headers["Accept-Ranges"]) == (200, b"", "bytes")
        for known in (head.headers["ETag"], f'"other", W/{head.headers["ETag"]}', " * "):
            assert (await visitor.studio.file(ID, {"If-None-Match": known})).status == 304
        assert (await visitor.studio.file(ID, {"If-None-Match": '"other"'}, is_head=True)).status == 200
        assert (await visitor.studio.look(ID, {"If-None-Match": "*"})).status == 304
    assert emulator.ledger.posts == 1


async def test_a_player_that_takes_a_video_in_ranges_has_its_size_asked_for_once(
    visitor: Visitor, emulator: Emulator
) -> None:
    await visitor.post(id=ID)
    await visitor.when(ID, "success")
    for start in range(3):
        assert (await visitor.studio.file(ID, {"Range": f"bytes={start}-"})).status == 206
    assert len(emulator.ledger.of(Kind.DOWNLOAD)) == 1 + 3


async def test_a_copy_outlives_what_the_service_keeps_and_without_one_the_video_is_gone(
    emulator: Emulator, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    async with visited(session_on(emulator, tmp_path), save_to=copies) as visitor:
        await visitor.post(id=ID)
        await visitor.when(ID, "success")
        await until(lambda: list(copies.glob("*.mp4")))
        emulator.clock_offset_s = 8 * 24 * 3600
        assert len(await bytes_of(await visitor.studio.file(ID))) == 4096
    async with visited(session_on(emulator, tmp_path)) as visitor:  # another process, which keeps no copies
        assert (await visitor.studio.file(ID)).status == 410


async def test_a_video_that_another_worker_copies_or_that_has_no_room_is_passed_on(
    emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "no folder").touch()
    async with visited(session_on(emulator, tmp_path), save_to=tmp_path / "no folder") as visitor:
        await visitor.post(id=ID)
        await visitor.when(ID, "success")
        assert len(await bytes_of(await visitor.studio.file(ID))) == 4096


async def test_a_video_whose_copy_takes_too_long_is_passed_on(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(*given: object, **more: object) -> Path:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(AsyncSession, "download", endless)
    async with visited(session_on(emulator, tmp_path), save_to=tmp_path / "copies") as visitor:
        visitor.studio._films.wait_s = 0.01
        await visitor.post(id=ID)
        await visitor.when(ID, "success")
        assert len(await bytes_of(await visitor.studio.file(ID))) == 4096


def test_a_copy_that_another_worker_has_just_removed_does_not_keep_the_others(tmp_path: Path) -> None:
    (tmp_path / "removed.mp4").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    for number in range(20):
        (tmp_path / f"{number}.mp4").touch()
    remove_old(tmp_path, -1.0)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".mp4"] == ["removed.mp4"]


async def test_copies_are_kept_as_long_as_told(emulator: Emulator, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    async with visited(session_on(emulator, tmp_path), save_to=copies, keep_for_s=1e-9) as visitor:
        await visitor.post(id=ID)
        await visitor.when(ID, "success")
        await until(lambda: (copies / ".now").exists() and not list(copies.glob("*.mp4")))
        emulator.clock_offset_s = 8 * 24 * 3600
        assert (await visitor.studio.file(ID)).status == 410


async def test_of_an_answer_that_is_not_sent_no_file_stays_open(emulator: Emulator, tmp_path: Path) -> None:
    copies = tmp_path / "copies"

    def is_open() -> bool:
        links = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
        return any(link.endswith(".mp4") for link in links)

    async with visited(session_on(emulator, tmp_path), save_to=copies) as visitor:
        await visitor.post(id=ID)
        await visitor.when(ID, "success")
        await until(lambda: list(copies.glob("*.mp4")) and not is_open())
        answer = await visitor.studio.file(ID)
        assert is_open()
        del answer
        gc.collect()
        await until(lambda: not is_open())


async def test_copies_that_are_old_enough_go_also_where_no_job_ends(emulator: Emulator, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    async with visited(session_on(emulator, tmp_path), save_to=copies) as visitor:
        await visitor.post(id=ID)
        await visitor.when(ID, "success")
    old = copies / "old.mp4"
    copies.mkdir(exist_ok=True)  # the first copy may not have begun
    old.touch()
    os.utime(old, (0, 0))
    async with visited(session_on(emulator, tmp_path), save_to=copies, keep_for_s=3600.0) as visitor:
        assert len(await bytes_of(await visitor.studio.file(ID))) == 4096
    assert not old.exists()


# --- Errors ---


def test_every_error_is_told_by_its_status_and_without_what_a_stranger_may_not_know() -> None:
    kinds = [kind for kind in vars(hailuo_async).values() if isinstance(kind, type) and issubclass(kind, HailuoError)]
    assert len(kinds) > 15
    for kind in kinds:
        error = kind.__new__(kind)
        facts = {"task_id": "task-1", "request_id": None, "field": "prompt", "value": "secret", "rule": "is short"}
        error.__dict__.update(facts, message="secret", reason="too dark", path="secret", image="secret", key="secret")
        error.__dict__.update(timeout_s=1.0, max_queued=1, max_kept_bytes=None, max_jobs=1, max_cost=None, status=None)
        error.__dict__.update(code=None, cost=None, is_outage=False, can_fit=False)
        answer = error_answer(error)
        assert (answer.status, answer.content["error"]) == (kind.http_status, kind.__name__)
        assert b"secret" not in answer.body  # type: ignore[operator]
        assert ("Retry-After" in answer.headers) is (kind.http_status == 503)
        assert ("field" in answer.content) is issubclass(kind, JobError)


def test_a_visitor_reads_what_his_picture_is_where_it_is_of_another_format_or_shape() -> None:
    told = []
    for given in (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), written(plain(200, 200))):
        error = refusal(functools.partial(inspect_image, "first_frame_image", given))
        told.append(error_answer(error).content["message"])
    assert told == [
        "image: found a HEIC; must be a JPEG, PNG or WebP, by its content",
        "image: found 200 x 200 px; short side must be over 300 px",
    ]


def test_an_outage_of_the_journal_asks_the_visitor_to_come_again() -> None:
    answers = [error_answer(JournalError(path="dsn", reason="away", is_outage=passes)) for passes in (True, False)]
    assert [(answer.status, answer.headers.get("Retry-After")) for answer in answers] == [(503, "30"), (500, None)]


def test_what_a_job_ended_in_is_no_warning_again_with_each_look_of_a_visitor(caplog: pytest.LogCaptureFixture) -> None:
    doubt = SubmissionUnknownError(reason="the answer was cut", key=ID)
    for error in (doubt, TaskFailedError(reason="too dark"), JournalError(path="dsn", reason="away")):
        error_answer(error)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_process_that_can_open_no_more_files_asks_the_visitor_to_come_again_and_gives_him_no_orders() -> None:
    rule = "must be readable, and this process can open no more files: raise ulimit -n, or run fewer jobs at once"
    error = ImageError(field="first_frame_image", image="a.png", value="Too many open files", rule=rule)
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    answer = error_answer(error, id=ID)
    told = {"error": "ImageError", "message": "the video cannot be made now: try again later", "id": ID}
    assert (answer.status, answer.headers["Retry-After"], answer.content) == (503, "30", told)


# --- The faces ---


async def test_an_app_that_is_started_twice_opens_a_new_session_each_time(emulator: Emulator, tmp_path: Path) -> None:
    videos = web.app(lambda: session_on(emulator, tmp_path))
    app = Starlette(routes=[Mount("/videos", videos)], lifespan=videos.lifespan)
    for number in range(2):
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
        ):
            id = f"{ID}-{number}"
            made = await client.post("/videos/", data={"id": id}, files={"image": ("a.png", PICTURE)})
            assert (made.status_code, made.headers["location"]) == (202, f"/videos/{id}")
            assert (await client.get(f"/videos/{id}/events")).text.endswith("\n\n")
            assert (await client.get(f"/videos/{id}")).json()["status"] == "success"
            assert (await client.get(f"/videos/{ID}-0")).json()["status"] == "success"
            assert (await client.head(f"/videos/{id}/file")).headers["content-length"] == "4096"
            assert (await client.post("/videos/webhook", headers={"X-Modellix-Task-ID": "x"})).status_code == 204
            assert (await client.get("/videos/health")).json() == {"status": "ok"}
    with pytest.raises(RuntimeError, match="not open"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            await client.get(f"/videos/{ID}-0")


async def test_an_open_session_can_be_given_to_the_app(emulator: Emulator, tmp_path: Path) -> None:
    async with session_on(emulator, tmp_path) as session:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(web.app(session)), base_url="http://x")
        async with client:
            assert (await client.post("/", data={"id": ID}, files={"image": ("a.png", PICTURE)})).status_code == 202
            assert (await client.get(f"/{ID}/events")).status_code == 200


async def test_of_events_a_head_is_told_without_waiting_for_them(emulator: Emulator, tmp_path: Path) -> None:
    emulator.service.generation_s = 3600.0
    async with session_on(emulator, tmp_path) as session:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(web.app(session)), base_url="http://x")
        async with client, asyncio.timeout(60):
            await client.post("/", data={"id": ID}, files={"image": ("a.png", PICTURE)})
            head = await client.head(f"/{ID}/events")
            assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_the_answers_of_one_face_leave_those_of_the_other_in_their_place() -> None:
    program = "from hailuo_async import web; import hailuo_async.web.reply; assert callable(web.reply), web.reply"
    subprocess.run([sys.executable, "-c", program], check=True)


@contextlib.asynccontextmanager
async def _served(app: aiohttp_web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    runner = aiohttp_web.AppRunner(app)
    await runner.setup()
    await aiohttp_web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        yield client
    await runner.cleanup()


#: Uses the package where one module is missing.
_WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from hailuo_async import web
web.Studio
"""


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "can_be_used"), [("starlette", True), ("starlette.responses", False)])
def test_without_starlette_the_rest_works_and_a_broken_starlette_says_what_it_lacks(
    missing: str, can_be_used: bool
) -> None:
    run = subprocess.run([sys.executable, "-c", _WITHOUT, missing], capture_output=True, text=True, check=False)
    assert (run.returncode == 0, missing in run.stderr) == (can_be_used, not can_be_used)


async def test_aiohttp_answers_the_same(emulator: Emulator, tmp_path: Path) -> None:
    app = aiohttp_web.Application()
    web.add_videos(app, "/videos/", lambda: session_on(emulator, tmp_path))
    async with _served(app) as client:
        form = aiohttp.FormData({"id": ID})
        form.add_field("image", PICTURE, filename="a.png")
        async with client.post("/videos", data=form) as made:
            assert (made.status, made.headers["Location"]) == (202, f"/videos/{ID}")
        async with client.post("/videos/", data={"id": ID, "image": "https://example.com/a.png"}) as again:
            assert again.status == 422  # and not 404: a job of another picture has that id
        async with client.get(f"/videos/{ID}/events") as heard:
            assert (await heard.text()).endswith("\n\n")
        async with client.get(f"/videos/{ID}/file", headers={"Range": "bytes=1-4"}) as part:
            assert (part.status, len(await part.read()), part.headers["Content-Length"]) == (206, 4, "4")
        async with client.head(f"/videos/{ID}/file") as head:
            assert head.headers["Content-Length"] == "4096"
        async with client.get(f"/videos/{ID}") as state, client.get("/videos/health") as health:
            assert ((await state.json())["status"], health.status) == ("success", 200)
        async with client.post("/videos/webhook", headers={"X-Modellix-Task-ID": "x"}) as hint:
            assert hint.status == 204


async def test_an_error_of_the_application_before_an_answer_begins_is_its_500(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: aiohttp_web.Request, response: aiohttp_web.StreamResponse) -> None:
        if request.path.endswith("/file") and response.status == 200:
            raise ValueError("the application's own")

    app = aiohttp_web.Application()
    app.on_response_prepare.append(broken)
    web.add_videos(app, "/videos", lambda: session_on(emulator, tmp_path))
    async with _served(app) as client:
        await client.post("/videos", data={"id": ID, "image": "https://example.com/a.png"})
        async with client.get(f"/videos/{ID}/events") as heard:
            await heard.read()
        async with client.get(f"/videos/{ID}/file") as refused:
            assert refused.status == 500
    assert "an answer was cut" not in caplog.text


def test_a_studio_needs_a_journal_before_a_visitor_pays_for_what_none_finds() -> None:
    with pytest.raises(ConfigError, match="no journal: give the session journal="):
        web.app(Line().session())


async def test_a_session_that_is_closed_answers_that_the_server_stops(tmp_path: Path) -> None:
    session = Line().session(journal=tmp_path / "videos.db")
    async with session:
        studio = web.Studio(session)
        assert (await studio.health()).status == 200
    assert (await studio.health()).status == 503
    answer = await studio.look(ID)
    assert (answer.status, answer.content["error"]) == (503, "SessionClosedError")
    assert (await asyncio.wait_for(studio.file(ID), 60)).status == 503
