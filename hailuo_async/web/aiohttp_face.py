"""The face for aiohttp.web: routes to add to an application, and answers for handlers of one's own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import attrs
from aiohttp import web

from hailuo_async.session import AsyncSession
from hailuo_async.web.answers import Answer
from hailuo_async.web.studio import GRACE_S, Studio

_logger = logging.getLogger("hailuo_async")


async def reply(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Sends ``answer``. A visitor who leaves ends it, if the application runs with ``handler_cancellation=True``."""
    if isinstance(answer.body, bytes):
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    async with contextlib.aclosing(answer.body) as pieces:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        await response.prepare(request)
        try:
            async for piece in pieces:
                await response.write(piece)
        except ConnectionError:
            return response
        except Exception as error:  # too late for a status: the connection is cut
            _logger.warning("an answer was cut: %s: %s", type(error).__name__, error)
            response.force_close()
            if request.transport is not None:
                request.transport.close()
        return response


async def create(studio: Studio, request: web.Request) -> web.StreamResponse:
    """Answers a ``POST`` by ``studio.create``, reading its body in pieces."""
    return await reply(request, await studio.create(request.headers, request.content.iter_any(), path=request.path))


@attrs.define(eq=False)
class _Handlers:
    """The handlers, over the studio of the session that is open."""

    key: web.AppKey[Studio]

    async def create(self, request: web.Request) -> web.StreamResponse:
        return await create(request.app[self.key], request)

    async def look(self, request: web.Request) -> web.StreamResponse:
        return await reply(request, await request.app[self.key].look(request.match_info["id"], request.headers))

    async def events(self, request: web.Request) -> web.StreamResponse:
        return await reply(request, await request.app[self.key].events(request.match_info["id"], request.headers))

    async def file(self, request: web.Request) -> web.StreamResponse:
        is_head, studio = request.method == "HEAD", request.app[self.key]
        answer = await studio.file(request.match_info["id"], request.headers, is_head=is_head)
        return await reply(request, answer)

    async def webhook(self, request: web.Request) -> web.StreamResponse:
        return await reply(request, await request.app[self.key].webhook(request.headers))

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})


def add_videos(app: web.Application, path: str, make_session: Callable[[], AsyncSession], **options: Any) -> None:
    """Adds the routes below ``path``, over a session that opens and closes with ``app``. ``options``: a Studio's."""
    handlers = _Handlers(web.AppKey("videos", Studio))
    base = path.rstrip("/")

    async def opened(app: web.Application) -> AsyncGenerator[None]:
        async with make_session() as session:
            app[handlers.key] = Studio(session, **options)
            yield
            await session.aclose(GRACE_S)

    async def stop(app: web.Application) -> None:
        await app[handlers.key].aclose()  # before the server waits for what is open

    app.cleanup_ctx.append(opened)
    app.on_shutdown.append(stop)
    app.add_routes(
        [
            web.post(base or "/", handlers.create),
            web.get(f"{base}/health", handlers.health),
            web.post(f"{base}/webhook", handlers.webhook),
            web.get(f"{base}/{{id}}", handlers.look),
            web.get(f"{base}/{{id}}/events", handlers.events, allow_head=False),
            web.get(f"{base}/{{id}}/file", handlers.file),
        ]
    )
