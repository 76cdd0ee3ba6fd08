"""The face for aiohttp.web: routes to add to an application, and answers for handlers of one's own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from aiohttp import web

from hailuo_async.session import AsyncSession
from hailuo_async.web.answers import Answer
from hailuo_async.web.studio import GRACE_S, ROUTES, Ask, Studio

_logger = logging.getLogger("hailuo_async")


async def reply(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Sends ``answer``. A visitor who leaves ends it, if the application runs with ``handler_cancellation=True``."""
    if isinstance(answer.body, bytes):
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    async with contextlib.aclosing(answer.body) as pieces:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        try:
            await response.prepare(request)  # an error of the application's on_response_prepare becomes its 500
        except ConnectionError:
            return response
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
    """Answers a ``POST`` by ``studio.create``, reading its body in pieces.

    If the answer is known before the whole body has come, the server reads and drops the rest, for ten seconds, so that
    a client that still writes can read the answer: ``lingering_time`` of ``AppRunner``.
    """
    try:
        answer = await studio.create(request.headers, request.content.iter_any(), path=request.path)
    except ConnectionError:  # the visitor is gone, so no answer reaches him
        return web.Response(status=400)
    return await reply(request, answer)


def add_videos(app: web.Application, path: str, make_session: Callable[[], AsyncSession], **options: Any) -> None:
    """Adds the routes below ``path``, over a session that opens and closes with ``app``. ``options``: a Studio's."""
    key, base = web.AppKey("videos", Studio), path.rstrip("/")

    async def opened(app: web.Application) -> AsyncGenerator[None]:
        async with make_session() as session:
            app[key] = Studio(session, **options)
            yield
            await session.aclose(GRACE_S)

    async def stop(app: web.Application) -> None:
        await app[key].aclose()  # before the server waits for what is open

    def asked(ask: Ask) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            id, is_head = request.match_info.get("id", ""), request.method == "HEAD"
            return await reply(request, await ask(request.app[key], id, request.headers, is_head))

        return handle

    async def post(request: web.Request) -> web.StreamResponse:
        return await create(request.app[key], request)

    app.cleanup_ctx.append(opened)
    app.on_shutdown.append(stop)
    for root in {base, f"{base}/"} - {""}:  # aiohttp redirects neither to the other
        app.router.add_post(root, post)
    for method, below, ask in ROUTES:
        (app.router.add_get if method == "GET" else app.router.add_post)(base + below, asked(ask))
