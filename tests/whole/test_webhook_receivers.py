"""The receivers of the examples, in front of a session: each delivery is answered at once, and finds its video."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from hailuo_async import AsyncSession
from hailuo_async.emulator import Emulator

from ..engine.test_stream import stay_running
from ..examples import webhook_aiohttp, webhook_asgi
from ..support.service import Line, job, jobs


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


async def test_the_receiver_for_asgi_answers_at_once_and_has_the_task_asked_about() -> None:
    line = Line(on_query=stay_running)
    async with line.session(poll_interval=(300, 600)) as session:
        generation = await session.submit(job())
        task_id = await generation.accepted()
        line.on_query = None
        app, sent = webhook_asgi.receiver(session), list[MutableMapping[str, Any]]()

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await app({"type": "http", "headers": [(b"x-modellix-task-id", task_id.encode())]}, None, send)
        await app({"type": "http", "headers": []}, None, send)
        with anyio.fail_after(60):
            assert (await generation).task_id == task_id
    assert [message.get("status") for message in sent] == [204, None, 204, None]
