"""The example's web handlers: on real servers, under load, left by their visitors, stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio
import pytest
import uvicorn
from aiohttp import web

from hailuo_async import JournalState
from hailuo_async.emulator import Emulator, Fault, FaultRates, Faults, Kind

from ..support.crash_journal import states_in
from ..support.running_emulator import credentials, emulator_in_thread
from ..support.service import until
from ..support.web import (
    AIOHTTP,
    PICTURE,
    SERVERS,
    Crowd,
    Server,
    app_running,
    form,
    hang_up_in_the_body,
    told_by,
    visiting,
)

#: An emulator that never makes a visitor wait for a slot or for the next minute.
ROOMY: dict[str, Any] = {"requests_per_minute": None, "max_running": 50}
VISITORS = 108  # a third of them hang up
CRLF = "a\r\ncat"  # as a browser sends the lines of a text

on_both = pytest.mark.parametrize("name", ["fastapi", "aiohttp"])
HEALTH = {"fastapi": "/health", "aiohttp": "/videos/health"}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with emulator_in_thread(**ROOMY) as emulator:
        yield emulator


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Iterator[Path]:
    """A folder in which an app can be imported and started in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for variable, value in credentials(emulator).items():
        monkeypatch.setenv(variable, value)
    yield tmp_path
    sys.modules.pop("app", None)


@contextlib.asynccontextmanager
async def hosted(name: str, folder: Path) -> AsyncIterator[str]:
    """The app on a server in this process, at that URL."""
    await anyio.Path(folder / "app.py").write_text(SERVERS[name][0], "utf-8")
    assert "handler_cancellation=True" in AIOHTTP  # as below
    app = importlib.import_module("app").app
    async with (under_uvicorn if name == "fastapi" else under_aiohttp)(app) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def under_uvicorn(app: Any) -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def under_aiohttp(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def asked(client: aiohttp.ClientSession, url: str, prompt: str = "a cat") -> str:
    """The id of a job that was accepted."""
    async with client.post(f"{url}/videos", data=form(prompt)) as answer:
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def answer_to(client: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    """Status and content."""
    async with client.get(url) as answer:
        is_json = answer.content_type == "application/json"
        return answer.status, await (answer.json() if is_json else answer.read())


async def watched(client: aiohttp.ClientSession, job: str) -> list[str]:
    """Every status of a job, up to its last."""
    async with client.get(f"{job}/events") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        return [status async for status in told_by(answer)]


def words_in_a_file() -> aiohttp.FormData:
    data = aiohttp.FormData()
    for field in ("image", "prompt"):
        data.add_field(field, io.BytesIO(PICTURE), filename="cat.png", content_type="image/png")
    return data


async def begun(client: aiohttp.ClientSession, url: str, prompt: str = "a cat") -> str:
    """The URL of a job that the service works on."""
    job = f"{url}/videos/{await asked(client, url, prompt)}"
    async with client.get(f"{job}/events") as answer:
        async for status in told_by(answer):
            if status == "pending":
                return job
    raise AssertionError(job)


async def read_until(answer: aiohttp.ClientResponse, status: str) -> None:
    """Returns as soon as the events have told that status."""
    async for told in told_by(answer):
        if told == status:
            return
    raise AssertionError(status)


def part_of_a_form(name: str, filename: str | None = None) -> bytes:
    """The beginning of a form."""
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + bytes(100)


async def files_in(folder: Path) -> list[str]:
    return sorted([path.name async for path in anyio.Path(folder).iterdir()])


# --- What they answer -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@on_both
async def test_a_picture_becomes_a_video_that_is_passed_on(name: str, tmp_path: Path, emulator: Emulator) -> None:
    emulator.service.video_size = 700_000
    emulator.service.generation_s = 600.0
    async with app_running(name, tmp_path, emulator) as server, visiting() as client:
        url = await server.url()
        assert await answer_to(client, f"{url}{HEALTH[name]}") == (200, {"status": "ok"})
        job = f"{url}/videos/{await asked(client, url, CRLF)}"
        assert (await answer_to(client, f"{job}/file"))[0] == 409
        await until(lambda: emulator.ledger.submits_accepted)
        emulator.clock_offset_s = 600.0
        statuses = await watched(client, job)
        assert statuses[-1] == "success"
        assert statuses == sorted(statuses, key=["queued", "sending", "pending", "processing", "success"].index)
        id = job.rpartition("/")[2]
        assert await answer_to(client, job) == (200, {"id": id, "status": "success", "cost": "0.3240"})
        async with client.get(f"{job}/file") as answer:
            assert (answer.status, answer.content_type) == (200, "video/mp4")
            film = await answer.read()
        async with client.get(f"{job}/file", headers={"Range": "bytes=600000-"}) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 600000-699999/700000")
            assert await answer.read() == film[600_000:]
        async with client.head(f"{job}/file") as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "700000")
        assert (len(film), film[4:8]) == (700_000, b"ftyp")
        another_name = f"{url}/videos/..%2Fvideos%2F{id}"
        assert (await answer_to(client, another_name))[0] == 404

        await server.end()
        url = await server.start()
        job = f"{url}/videos/{id}"
        assert (await answer_to(client, job))[1]["status"] == "success"
        assert await answer_to(client, f"{job}/file") == (200, film)
    assert list(emulator.ledger.accepted) == [CRLF]
    assert emulator.ledger.posts == 1


@pytest.mark.slow
@on_both
async def test_what_cannot_be_a_job_is_refused_and_nothing_is_kept_of_it(
    name: str, tmp_path: Path, emulator: Emulator
) -> None:
    bad = {
        "no picture": (form("a cat", b"no picture"), 422),
        "too many words": (form("x" * 2001), 422),
        "too large": (form("a cat", bytes(22_000_000)), 413),
        "no image": (aiohttp.FormData({"prompt": "a cat"}), 422),
        "words in a file": (words_in_a_file(), 422),
    }
    async with app_running(name, tmp_path, emulator) as server, visiting() as client:
        url = await server.url()
        for data, status in bad.values():
            async with client.post(f"{url}/videos", data=data) as answer:
                assert answer.status == status
                assert "upload" not in await answer.text()
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        async with client.post(f"{url}/videos", data=b"no form", headers=headers) as answer:
            assert answer.status == 400
        for nobody in ("0" * 32, "nobody", "..%2Fvideos.db", "%00", "é"):
            status, _ = await answer_to(client, f"{url}/videos/{nobody}")
            assert status == 404, nobody
    assert await files_in(tmp_path / "tmp") == []
    assert emulator.ledger.posts == 0


@pytest.mark.slow
@on_both
@pytest.mark.parametrize(
    ("kind", "first", "status"),
    [
        ("image/png", PICTURE, 415),
        ("multipart/form-data; boundary=edge", b"--edge\r\nX-Name: x\r\n\r\n", 400),
        ("multipart/form-data; boundary=edge", part_of_a_form("prompt", "words.txt"), 422),
        ("multipart/form-data; boundary=edge", part_of_a_form("prompt") + bytes(40_000), 413),
    ],
)
async def test_an_answer_that_is_known_before_the_whole_body_has_come_reaches_a_client_that_still_writes(
    name: str, kind: str, first: bytes, status: int, here: Path
) -> None:
    """The client says that it closes the connection, as nginx does: a server may then close it with the answer."""
    size = 20_000_000
    head = f"POST /videos HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {size}"
    async with hosted(name, here) as url, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(f"{head}\r\n\r\n".encode() + first)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        writer.write(bytes(size - len(first)))
        await writer.drain()
        assert "message" in json.loads(await reader.read())
        writer.close()


@pytest.mark.slow
@on_both
async def test_a_video_that_cannot_be_had_has_the_status_of_its_error(
    name: str, tmp_path: Path, emulator: Emulator
) -> None:
    async with app_running(name, tmp_path, emulator) as server, visiting() as client:
        url = await server.url()

        async def ends(prompt: str) -> tuple[str, int, Any]:
            job = f"{url}/videos/{await asked(client, url, prompt)}"
            *_, last = await watched(client, job)
            status, content = await answer_to(client, f"{job}/file")
            return last, status, content["error"]

        emulator.next_fault(Kind.SUBMIT, Fault.CUT_AFTER)
        assert await ends("lost") == ("unknown", 502, "SubmissionUnknownError")
        emulator.next_fault(Kind.SUBMIT, Fault.REFUSE)
        assert await ends("refused") == ("refused", 422, "RequestRejectedError")
        emulator.service.fail_rate = 1.0
        assert await ends("failed") == ("failed", 502, "TaskFailedError")
        emulator.service.fail_rate = 0.0
        job = f"{url}/videos/{await asked(client, url, 'gone')}"
        assert (await watched(client, job))[-1] == "success"
        emulator.clock_offset_s = 8 * 24 * 3600
        assert (await answer_to(client, f"{job}/file"))[0] == 410


@pytest.mark.slow
@on_both
async def test_a_full_queue_is_busy_and_says_when_to_come_back(name: str, tmp_path: Path, emulator: Emulator) -> None:
    emulator.service.max_running = 0
    async with app_running(name, tmp_path, emulator, max_queued="2") as server, visiting() as client:
        url, accepted, status = await server.url(), -1, 202
        while status == 202:
            accepted += 1
            async with client.post(f"{url}/videos", data=form(f"job {accepted}")) as answer:
                status = answer.status
        assert (status, answer.headers["Retry-After"]) == (503, "30")
    assert accepted >= 2


# --- Many processes, and many lives of one ----------------------------------------------------------------------------


@pytest.mark.slow
async def test_what_one_process_accepted_another_finds_and_passes_on(tmp_path: Path, emulator: Emulator) -> None:
    async with (
        app_running("aiohttp", tmp_path, emulator) as one,
        app_running("aiohttp", tmp_path, emulator) as other,
        visiting() as client,
    ):
        jobs = [await asked(client, await one.url(), f"job {number}") for number in range(4)]
        for job in jobs:
            here = f"{await other.url()}/videos/{job}"
            assert (await watched(client, here))[-1] == "success"
            status, film = await answer_to(client, f"{here}/file")
            assert (status, len(film)) == (200, 4096)
    assert emulator.ledger.posts == 4


@pytest.mark.slow
async def test_what_waited_when_it_was_killed_is_sent_when_it_is_up_again_before_anyone_asks(
    tmp_path: Path, emulator: Emulator
) -> None:
    emulator.service.faults = Faults(submit=FaultRates(hang_before=1.0))  # refused, it would hold off, ever longer
    async with app_running("aiohttp", tmp_path, emulator) as server, visiting() as client:
        for number in range(34):
            await asked(client, await server.url(), f"job {number}")
        await server.end(signal.SIGKILL)
        assert emulator.ledger.submits_accepted == 0
        waiting = list((await states_in(tmp_path / "videos.db")).values()).count(JournalState.INTENDED)
        assert waiting > 16  # more than a stream pulls ahead
        emulator.service.faults = Faults()
        await server.start()
        await until(lambda: emulator.ledger.submits_accepted == waiting)
    assert set(map(len, emulator.ledger.accepted.values())) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_who_waits_for_events_does_not_hold_up_the_stop_of_a_server_that_waits_for_its_answers(
    number: signal.Signals, tmp_path: Path
) -> None:
    """uvicorn waits for each open answer, without a limit of its own: Docker would kill it after ten seconds."""
    with emulator_in_thread(**{**ROOMY, "generation_s": 600}) as emulator:
        async with app_running("without a time", tmp_path, emulator) as server, visiting() as client:
            job = await asked(client, await server.url())
            async with client.get(f"{await server.url()}/videos/{job}/events") as answer:
                statuses = aiter(told_by(answer))
                await anext(statuses)
                with anyio.fail_after(20):
                    await server.end(number)
                assert "success" not in [status async for status in statuses]


@pytest.mark.slow
@on_both
async def test_every_video_that_was_accepted_is_delivered_through_a_stop_and_a_kill_and_paid_for_once(
    name: str, tmp_path: Path
) -> None:
    with emulator_in_thread(**ROOMY, video_size=600_000) as emulator:
        async with app_running(name, tmp_path, emulator) as server, visiting() as client:
            crowd = Crowd(server, client)
            torn = await outlive_a_stop_and_a_kill(crowd, server, emulator, tmp_path / "videos.db", VISITORS)
            check_what_came_of_it(crowd, emulator, torn)
            assert len(crowd.accepted) == VISITORS - VISITORS // 9


async def outlive_a_stop_and_a_kill(
    crowd: Crowd, server: Server, emulator: Emulator, journal: Path, visitors: int
) -> set[str]:
    """Three waves of visitors, each met by a server that has just come up. Returns the ids whose POST the kill tore."""

    async def come(wave: int) -> None:
        for number in range(wave, visitors, 3):
            tasks.start_soon(crowd.visit, number // 3)

    enough = visitors // 12
    async with anyio.create_task_group() as tasks:
        await come(0)
        await until(lambda: len(crowd.delivered) >= enough)
        assert await server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        await server.start()

        emulator.next_fault(Kind.SUBMIT, Fault.HANG)  # of one POST at least it stays open whether it was accepted
        await come(1)
        await until(lambda: emulator.ledger.faults and len(crowd.delivered) >= 2 * enough)
        assert await server.end(signal.SIGKILL) == -signal.SIGKILL
        torn = {job for job, state in (await states_in(journal)).items() if state is JournalState.SENDING}
        await server.start()
        await come(2)
    for job in crowd.accepted.keys() - crowd.delivered.keys():
        await crowd.finish(job)
    return torn


def check_what_came_of_it(crowd: Crowd, emulator: Emulator, torn: set[str]) -> None:
    assert torn
    assert crowd.refused == dict.fromkeys(torn & crowd.accepted.keys(), (502, "SubmissionUnknownError"))
    assert crowd.delivered.keys() == crowd.accepted.keys() - torn
    assert len(set(crowd.delivered.values())) == len(crowd.delivered)
    paid = emulator.ledger.accepted
    assert {prompt: tasks for prompt, tasks in paid.items() if len(tasks) > 1} == {}
    assert paid.keys() >= {crowd.accepted[job] for job in crowd.delivered}


@pytest.mark.slow
async def test_a_stop_ends_in_its_time_whoever_waits_and_a_post_that_hangs_is_in_doubt(
    tmp_path: Path, emulator: Emulator
) -> None:
    emulator.next_fault(Kind.SUBMIT, Fault.HANG)
    async with app_running("fastapi", tmp_path, emulator) as server, visiting() as client:
        url = await server.url()
        job = await asked(client, url)
        await until(lambda: emulator.ledger.faults)
        async with client.get(f"{url}/videos/{job}/events"):
            with anyio.fail_after(45):  # sooner than the POST is given up
                await server.end()
        await server.start()
        job_url = f"{await server.url()}/videos/{job}"
        assert await watched(client, job_url) == ["unknown"]
        assert (await answer_to(client, f"{job_url}/file"))[0] == 502
    assert emulator.ledger.posts == 1


# --- Visitors who hang up, and many who wait --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile")  # Starlette, of half a body
@on_both
async def test_a_visitor_who_hangs_up_frees_his_waiter_and_nothing_else(
    name: str, here: Path, emulator: Emulator
) -> None:
    emulator.service.video_size = 20_000_000
    async with hosted(name, here) as url:
        async with visiting() as client:
            job = f"{url}/videos/{await asked(client, url)}"
            assert (await watched(client, job))[-1] == "success"
            emulator.service.generation_s = 600
            waiting = await begun(client, url, "slow")
        before = len(asyncio.all_tasks())
        async with visiting() as client:
            watching = [await client.get(f"{waiting}/events") for _ in range(20)]
            loading = [await client.get(f"{job}/file") for _ in range(5)]
            for answer in watching:
                await read_until(answer, "pending")
            assert len(asyncio.all_tasks()) > before + 20
            for answer in watching + loading:
                answer.close()
        for _ in range(5):
            await hang_up_in_the_body(url)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        async with visiting() as client:
            assert (await answer_to(client, waiting))[1]["status"] == "pending"
    assert emulator.ledger.posts == 2


@pytest.mark.slow
@on_both
async def test_while_many_wait_the_health_is_told_at_once(name: str, tmp_path: Path, emulator: Emulator) -> None:
    emulator.service.generation_s = 600
    async with app_running(name, tmp_path, emulator) as server, visiting() as client:
        url = await server.url()
        job = await begun(client, url)
        watching = [await client.get(f"{job}/events") for _ in range(VISITORS)]
        with anyio.fail_after(60):
            for _ in range(100):
                assert await answer_to(client, f"{url}{HEALTH[name]}") == (200, {"status": "ok"})
        for answer in watching:
            await read_until(answer, "pending")
            answer.close()
