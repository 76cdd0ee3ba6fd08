"""A receiver of the service's webhooks for aiohttp.web. It answers at once: a delivery is a hint, no more."""

from aiohttp import web

from hailuo_async import AsyncSession


def receiver(session: AsyncSession) -> web.Application:
    async def hear(request: web.Request) -> web.Response:
        session.notice(request.headers.get("X-Modellix-Task-ID", ""))
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/done", hear)])
    return app
