"""The emulator on a socket: what aiohttp carries in and out, well and badly."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import io
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from PIL import Image

from hailuo_async.emulator import Emulator, FaultRates, Faults, Kind
from hailuo_async.emulator.film_cache import FilmCache
from hailuo_async.emulator.films import FilmOrder

from ..support.emulated import I2V, START, served

pytestmark = pytest.mark.anyio


async def post(client: aiohttp.ClientSession, **fields: object) -> tuple[int, Any]:
    async with client.post(I2V, json={"first_frame_image": START, **fields}) as response:
        return response.status, await response.json()


async def film_url(client: aiohttp.ClientSession, **fields: object) -> str:
    _, accepted = await post(client, **fields)
    async with client.get(f"/api/v1/tasks/{accepted['data']['task_id']}") as response:
        return str((await response.json())["data"]["result"]["resources"][0]["url"])


async def fetch(url: str, **headers: str) -> tuple[int, bytes, str | None]:
    async with aiohttp.request("GET", url, headers=headers) as response:
        return response.status, await response.read(), response.headers.get("Content-Length")


async def test_a_job_goes_from_submit_to_film() -> None:
    async with served(video_size=600_000) as (emulator, client):
        status, accepted = await post(client, prompt="a cat")
        assert status == 200
        async with aiohttp.request("GET", accepted["data"]["get_result"]["url"]) as response:
            assert response.status == 401
        url = await film_url(client, prompt="a dog")
        assert url.startswith(f"{emulator.url}/results/")
        status, body, length = await fetch(url)
        assert (status, len(body), body[4:8], length) == (200, 600_000, b"ftyp", "600000")
        assert await fetch(url, Range="bytes=599990-") == (206, body[599_990:], "10")
        assert await fetch(url, Range="bytes=600000-") == (416, b"", "0")
        assert emulator.ledger.accepted.keys() == {"a cat", "a dog"}


async def test_every_answer_has_the_servers_own_date_and_limits() -> None:
    emulated_later = served(clock=lambda: 1_800_000_000.0, clock_offset_s=600.0)
    async with emulated_later as (_, client), client.get("/api/v1/models") as response:
        date = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp()
        assert (date, response.headers["X-RateLimit-Reset"]) == (1_800_000_600.0, "1800000660")


async def test_a_large_body_is_read_and_its_picture_arrives_byte_for_byte() -> None:
    file = io.BytesIO()
    Image.effect_noise((900, 700), 100).save(file, "PNG")
    image = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    async with served() as (emulator, client):
        assert (await post(client, first_frame_image=image))[0] == 200
        (entry,) = emulator.ledger.entries
        assert entry.body_bytes > 256 * 1024
        assert entry.first_frame is not None
        assert entry.first_frame.startswith("sha256:")


async def test_a_body_over_64_mib_is_refused() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield bytes(1024 * 1024)

    async with served() as (emulator, client):
        async with client.post(I2V, data=body(), headers={"Content-Type": "application/json"}) as response:
            assert (response.status, (await response.json())["message"]) == (
                413,
                "body too large: a request may have at most 64 MiB",
            )
        assert emulator.ledger.submits_accepted == 0


async def test_an_upload_goes_up_and_comes_back() -> None:
    file = io.BytesIO()
    Image.new("RGB", (400, 400)).save(file, "WEBP")
    form = aiohttp.FormData()
    form.add_field("file", file.getvalue(), filename="a/cat.webp", content_type="image/webp")
    async with served() as (_, client):
        async with client.post("/api/v1/media/files", data=form) as response:
            stored = (await response.json())["data"]
        assert (stored["filename"], stored["size"]) == ("a%2Fcat.webp", len(file.getvalue()))
        assert (await fetch(stored["url"]))[:2] == (200, file.getvalue())


async def test_a_third_upload_at_once_is_refused() -> None:
    file = io.BytesIO()
    Image.new("RGB", (400, 400)).save(file, "PNG")

    async def upload(client: aiohttp.ClientSession) -> int:
        form = aiohttp.FormData()
        form.add_field("file", file.getvalue(), filename="cat.png")
        async with client.post("/api/v1/media/files", data=form) as response:
            return response.status

    async with served(upload_s=0.1) as (_, client):
        assert sorted(await asyncio.gather(*(upload(client) for _ in range(3)))) == [200, 200, 429]
        assert await upload(client) == 200


@pytest.mark.parametrize(("fault", "accepted"), [("cut_before", 0), ("cut_after", 1)])
async def test_a_cut_connection_brings_no_answer(fault: str, accepted: int) -> None:
    async with served() as (emulator, client):
        emulator.next_fault("submit", fault)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await post(client)
        assert emulator.ledger.submits_accepted == accepted
        assert (await post(client))[0] == 200


async def test_a_truncated_answer_ends_short_of_its_length() -> None:
    async with served() as (emulator, client):
        url = await film_url(client)
        emulator.next_fault("submit", "truncated")
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(client)
        emulator.next_fault("download", "truncated")
        async with aiohttp.request("GET", url) as response:
            assert response.content_length == 4096
            start = await response.content.readexactly(2048)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()
        assert (await fetch(url))[1].startswith(start)


async def test_a_hanging_request_has_no_answer_until_the_server_closes() -> None:
    arrived = asyncio.Event()

    def clock() -> float:  # is read when the request has been received
        arrived.set()
        return 1_800_000_000.0

    async with served(clock=clock, faults=Faults(query=FaultRates(hang_before=1))) as (emulator, client):
        hanging = asyncio.ensure_future(client.get("/api/v1/tasks/task-1"))
        await arrived.wait()
        assert (await post(client))[0] == 200
        assert (hanging.done(), emulator.ledger.requests) == (False, {Kind.QUERY: 1, Kind.SUBMIT: 1})
        await emulator.__aexit__(None, None, None)
        with pytest.raises(aiohttp.ClientConnectionError):
            await hanging


async def test_faults_can_be_switched_on_while_it_runs() -> None:
    async with served() as (emulator, client):
        assert (await post(client))[0] == 200
        emulator.faults = Faults(submit=FaultRates(error_500=1))
        assert emulator.faults is emulator.service.faults
        assert (await post(client))[0] == 500


async def test_the_ledger_knows_which_requests_shared_a_connection() -> None:
    async with served() as (emulator, client):
        await post(client)
        await post(client)
        await fetch(emulator.url)
        first, second, third = (entry.connection for entry in emulator.ledger.entries)
        assert (first == second, first == third) == (True, False)


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_noted_and_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as (emulator, client):
        host, _, port = emulator.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {I2V} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        assert (await post(client))[0] == 200
        writer.close()
        await writer.wait_closed()
        assert (await post(client))[0] == 200
        assert emulator.ledger.posts == 2
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    async with Emulator() as emulator:
        port = int(emulator.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            async with Emulator(port=port):
                pytest.fail("entered")


async def test_it_may_be_left_in_another_task_than_it_was_entered() -> None:
    emulator = Emulator()
    await asyncio.create_task(emulator.__aenter__())
    assert (await fetch(emulator.url))[0] == 404
    await asyncio.create_task(emulator.__aexit__(None, None, None))
    with pytest.raises(aiohttp.ClientConnectionError):
        await fetch(emulator.url)


@pytest.mark.parametrize(
    ("host", "start"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
async def test_its_url_is_one_that_a_client_of_this_machine_can_reach(host: str, start: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with Emulator(host=host) as emulator:
        assert emulator.url.startswith(start)
        assert (await fetch(emulator.url))[0] == 404


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.slow
async def test_rendered_films_are_made_once_and_removed_with_the_server() -> None:
    async with served(render=True) as (emulator, client):
        url = await film_url(client)
        bodies = await asyncio.gather(*(fetch(url) for _ in range(3)))
        assert len(set(bodies)) == 1
        status, film, _ = bodies[0]
        assert (status, film[4:8]) == (200, b"ftyp")
        assert await fetch(url, Range="bytes=100-199") == (206, film[100:200], "100")
        cache = emulator._rendered
        assert cache is not None
        directory = anyio.Path(cache.directory)
        assert [(await path.stat()).st_size async for path in directory.iterdir()] == [len(film)]
    assert not await directory.exists()


ORDER = FilmOrder("task-1", 6, 768, 768, None, None)


class SlowProjector:
    """Renders nothing, until it may go on or has to stop; tells when it has begun. Works in a thread."""

    def __init__(self) -> None:
        self.rendered: list[str] = []
        self.begun = asyncio.Event()
        self.may_go_on = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, order: FilmOrder, path: Path, stopping: Callable[[], bool]) -> None:
        self.rendered.append(order.task_id)
        self._loop.call_soon_threadsafe(self.begun.set)
        while not self.may_go_on.wait(0.01):
            if stopping():
                raise InterruptedError
        path.write_bytes(b"film")


async def test_callers_share_a_rendering_and_one_that_leaves_does_not_stop_it(tmp_path: Path) -> None:
    projector = SlowProjector()
    cache = FilmCache(tmp_path, projector)
    callers = [asyncio.create_task(cache.film(ORDER)) for _ in range(3)]
    await projector.begun.wait()
    callers[0].cancel()
    projector.may_go_on.set()
    films = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(films[0], asyncio.CancelledError)
    assert films[1] == films[2]
    assert projector.rendered == ["task-1"]
    await cache.aclose()
    assert not await anyio.Path(tmp_path).exists()


async def test_closing_stops_what_is_being_rendered(tmp_path: Path) -> None:
    projector = SlowProjector()
    cache = FilmCache(tmp_path, projector)
    caller = asyncio.create_task(cache.film(ORDER))
    await projector.begun.wait()
    await cache.aclose()
    with pytest.raises(InterruptedError):
        await caller
