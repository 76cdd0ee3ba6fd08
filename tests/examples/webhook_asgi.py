"""A receiver of the service's webhooks for any ASGI server. It answers at once: a delivery is a hint, no more."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hailuo_async import AsyncSession

Message = MutableMapping[str, Any]


def receiver(session: AsyncSession) -> Callable[..., Awaitable[None]]:
    async def app(scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] == "http":
            session.notice(dict(scope["headers"]).get(b"x-modellix-task-id", b"").decode("ascii", "replace"))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return app
