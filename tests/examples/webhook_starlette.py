"""A receiver of the service's webhooks for Starlette, FastAPI and Litestar, over an open session.

``app.mount("/hailuo", receiver(session))`` takes them at ``https://your.host/hailuo/done``, the session's
``webhook_url``. It needs no secret, reads no body, and answers at once: a stranger's delivery is not believed, and
causes one query at most.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hailuo_async import AsyncSession


def receiver(session: AsyncSession) -> Starlette:
    async def hear(request: Request) -> Response:
        session.notice(request.headers.get("X-Modellix-Task-ID", ""))
        return Response(status_code=204)

    return Starlette(routes=[Route("/done", hear, methods=["POST"])])
