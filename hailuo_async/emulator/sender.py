"""Carries webhooks from the core to their receivers: each POST once, when it is due.

Receivers are on this machine, unless the caller allows others: a test must not call strangers. The certificate of a
receiver on this machine is not checked: no authority signs one for 127.0.0.1. A receiver that may not be called counts
as one that cannot be reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import aiohttp
import attrs

from .announcements import WebhookPost
from .service import Service
from .webhooks import is_loopback

_TIMEOUT = aiohttp.ClientTimeout(total=10)
#: A clock that stands still must not make the loop spin.
_SHORTEST_WAIT_S = 0.005


@attrs.define(eq=False)
class WebhookSender:
    """Calls the webhooks of one service, between ``start`` and ``aclose``, on one loop."""

    _service: Service
    _now: Callable[[], float]
    _anywhere: bool
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _client: aiohttp.ClientSession | None = attrs.field(default=None, init=False)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    def start(self) -> None:
        self._spawn(self._send_all())

    def wake(self) -> None:
        """Makes it look again, if a delivery is planned: it may be an earlier one than the one waited for."""
        if self._service.next_webhook_at is not None:
            self._news.set()

    async def send(self, post: WebhookPost) -> None:
        """Calls a webhook once, and tells the service how that went."""
        self._service.settle_webhook(post, await self._status_of(post), self._now())
        self.wake()

    async def aclose(self) -> None:
        """Stops. Deliveries that have not arrived are lost."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def _send_all(self) -> None:
        while True:
            self._news.clear()
            wait_s = None
            if (due_at := self._service.next_webhook_at) is not None:
                now = self._now()
                for post in self._service.take_webhooks(now):
                    self._spawn(self.send(post))
                wait_s = max(_SHORTEST_WAIT_S, due_at - now)
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _status_of(self, post: WebhookPost) -> int | None:
        """What the receiver answered, ``None`` if it could not be reached or must not be."""
        if not (self._anywhere or is_loopback(post.url)):
            return None
        self._client = self._client or aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._client.post(
                post.url, data=post.body, headers=post.headers, allow_redirects=False, ssl=not is_loopback(post.url)
            ) as response:
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
