"""Webhooks on a socket: the emulator calls a receiver on this machine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hailuo_async.emulator import Kind

from ..support.emulated import I2V, START, served
from ..support.https import serving

pytestmark = pytest.mark.anyio


class Receiver:
    """Takes webhooks on this machine, and answers each with the next of ``statuses``, then with 204."""

    def __init__(self, *statuses: int) -> None:
        self.url = ""
        self.heard: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._statuses = list(statuses)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.heard.put_nowait((request.headers["X-Modellix-Retry-Count"], (await request.json())["data"]))
        status = self._statuses.pop(0) if self._statuses else 204
        return web.Response(status=status, headers={"Location": self.url})


@asynccontextmanager
async def receiving(*statuses: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(*statuses)
    runner = web.ServerRunner(web.Server(receiver.answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        receiver.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()


async def submit_with(client: aiohttp.ClientSession, url: str) -> str:
    content = {"first_frame_image": START}
    async with client.post(I2V, json=content, headers={"X-Webhook-URL": url}) as response:
        return str((await response.json())["data"]["task_id"])


async def first_answer(url: str, **settings: Any) -> tuple[int | None, bool]:
    """What is noted of the answer to a webhook, and whether it will be called again."""
    noted = asyncio.Event()
    async with served(webhook_retry_s=60.0, **settings) as (emulator, client):
        emulator.ledger.watcher = lambda entry: noted.set() if entry.kind is Kind.WEBHOOK else None
        await submit_with(client, url)
        await noted.wait()
        (entry,) = emulator.ledger.of("webhook")
        return entry.status, emulator.service.next_webhook_at is not None


async def test_a_webhook_is_called_when_its_task_ends_and_again_until_it_is_taken() -> None:
    async with receiving(503, 429) as receiver, served(generation_s=0.02, webhook_retry_s=0.01) as (_, client):
        task_id = await submit_with(client, receiver.url)
        heard = [await receiver.heard.get() for _ in range(3)]
        assert [retry for retry, _ in heard] == ["0", "1", "2"]
        assert {(data["task_id"], data["status"]) for _, data in heard} == {(task_id, "success")}


async def test_an_early_webhook_is_called_before_its_submit_is_answered() -> None:
    async with receiving() as receiver, served(generation_s=60.0) as (emulator, client):
        emulator.next_fault("webhook", "early")
        task_id = await submit_with(client, receiver.url)
        _, data = receiver.heard.get_nowait()
        assert (data["task_id"], data["status"]) == (task_id, "success")


async def test_a_webhook_on_another_machine_is_not_called_unless_that_is_allowed() -> None:
    async with receiving() as receiver:
        elsewhere = receiver.url.replace("127.0.0.1", "0.0.0.0")  # reaches this machine, but is no loopback address
        assert await first_answer(elsewhere) == (None, True)
        assert receiver.heard.empty()
        assert await first_answer(elsewhere, webhooks_anywhere=True) == (204, False)


async def test_a_receiver_that_is_not_there_is_a_network_fault() -> None:
    async with receiving() as receiver:
        url = receiver.url
    assert await first_answer(url) == (None, True)


async def test_a_redirection_that_a_webhook_meets_is_not_followed_and_ends_it() -> None:
    async with receiving(307) as receiver:
        assert await first_answer(receiver.url) == (307, False)
        assert receiver.heard.qsize() == 1


async def test_the_certificate_of_a_receiver_on_this_machine_is_not_checked() -> None:
    async with receiving(tls=serving()) as receiver:
        assert await first_answer(receiver.url) == (204, False)
