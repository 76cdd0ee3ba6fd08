"""The receivers of the examples, in front of a session: each delivery is answered at once, and finds its video."""

from __future__ import annotations

import asyncio
import socket
import textwrap
from collections.abc import Callable
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from hailuo_async import AsyncSession
from hailuo_async.emulator import Emulator

from ..examples import webhook_aiohttp, webhook_starlette
from ..support.service import Line, job, jobs, never


@pytest.mark.slow
async def test_the_receiver_for_aiohttp_finds_every_video_long_before_it_would_be_polled() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/done"
    async with Emulator(generation_s=0.3, spread=0, max_running=20, requests_per_minute=None) as emulator:
        session = AsyncSession(
            api_key=emulator.api_key,
            base_url=emulator.url,
            webhook_url=url,
            allow_private_network=True,
            poll_interval=(300, 600),
        )
        async with session:
            runner = web.AppRunner(webhook_aiohttp.receiver(session), access_log=None)
            await runner.setup()
            await web.SockSite(runner, listening).start()
            with anyio.fail_after(60):
                videos = await asyncio.gather(*map(session.generate, jobs(20)))
            async with aiohttp.ClientSession() as stranger, stranger.post(url) as answer:
                assert answer.status == 204
            await runner.cleanup()
    assert len({video.task_id for video in videos}) == 20


async def test_the_receiver_for_starlette_answers_at_once_and_has_the_task_asked_about() -> None:
    line = Line(on_query=never)
    async with line.session(poll_interval=(300, 600)) as session:
        generation = await session.submit(job())
        task_id = await generation.accepted()
        line.on_query = None
        app = Starlette(routes=[Mount("/hailuo", webhook_starlette.receiver(session))])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://your.host/hailuo") as client:
            answers = [await client.post("/done", headers=each) for each in ({"X-Modellix-Task-ID": task_id}, {})]
            answers.append(await client.get("/done"))
        with anyio.fail_after(60):
            assert (await generation).task_id == task_id
    assert [answer.status_code for answer in answers] == [204, 204, 405]


@pytest.mark.parametrize(
    ("response", "request_of", "status"),
    [
        (web.Response, lambda sent: make_mocked_request("POST", "/", sent), "status"),
        (Response, lambda sent: Request({"type": "http", "headers": Headers(sent).raw}), "status_code"),
    ],
    ids=["aiohttp", "Starlette"],
)
async def test_the_handler_that_notice_shows_works(
    response: type, request_of: Callable[[dict[str, str]], object], status: str
) -> None:
    shown = (AsyncSession.notice.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    line = Line(on_query=never)
    async with line.session(poll_interval=(300, 600)) as session:
        names: dict[str, Any] = {"session": session, "Response": response}
        exec(textwrap.dedent(shown).replace("(status=", f"({status}="), names)
        generation = await session.submit(job())
        sent = {"X-Modellix-Task-ID": await generation.accepted()}
        line.on_query = None
        answers = [await names["hear"](request_of(each)) for each in ({}, sent)]
        with anyio.fail_after(60):
            await generation
    assert [getattr(answer, status) for answer in answers] == [204, 204]
