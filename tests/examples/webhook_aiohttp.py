"""A receiver of the service's webhooks for aiohttp.web, over an open session.

``app.add_subapp("/hailuo", receiver(session))`` takes them at ``https://your.host/hailuo/done``, the session's
``webhook_url``. It needs no secret, reads no body, and answers at once: a stranger's delivery is not believed, and
causes one query at most.
"""

from aiohttp import web

from hailuo_async import AsyncSession


def receiver(session: AsyncSession) -> web.Application:
    async def hear(request: web.Request) -> web.Response:
        session.notice(request.headers.get("X-Modellix-Task-ID", ""))
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/done", hear)])
    return app
