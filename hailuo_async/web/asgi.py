"""The face for ASGI: an application to mount in Starlette, FastAPI or Litestar. Needs the extra ``web``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hailuo_async.session import AsyncSession
from hailuo_async.web.reply import Reply, create
from hailuo_async.web.studio import GRACE_S, Studio

MakeSession: TypeAlias = Callable[[], AsyncSession]


@attrs.define(eq=False)
class _Endpoints:
    """The routes, over the studio of the session that is open."""

    studio: Studio | None = None

    @property
    def _studio(self) -> Studio:
        if self.studio is None:
            raise RuntimeError("the session is not open: give the application this app's lifespan, or an open session")
        return self.studio

    async def create(self, request: Request) -> Response:
        return await create(self._studio, request)

    async def look(self, request: Request) -> Response:
        return Reply(await self._studio.look(request.path_params["id"], request.headers))

    async def events(self, request: Request) -> Response:
        return Reply(await self._studio.events(request.path_params["id"], request.headers))

    async def file(self, request: Request) -> Response:
        is_head = request.method == "HEAD"
        return Reply(await self._studio.file(request.path_params["id"], request.headers, is_head=is_head))

    async def webhook(self, request: Request) -> Response:
        return Reply(await self._studio.webhook(request.headers))

    async def health(self, request: Request) -> Response:
        return Response(b'{"status": "ok"}', media_type="application/json")

    def routes(self) -> list[Route]:
        """What is answered, below wherever they are mounted."""
        return [
            Route("/", self.create, methods=["POST"]),
            Route("/health", self.health),
            Route("/webhook", self.webhook, methods=["POST"]),
            Route("/{id}", self.look),
            Route("/{id}/events", self.events, methods=["GET"]),
            Route("/{id}/file", self.file),
        ]


class VideoApp(Starlette):
    """The application. ``lifespan`` is for the application that mounts it: it opens a new session at each start."""

    def __init__(self, session: AsyncSession | MakeSession, options: dict[str, Any]) -> None:
        self._make = session
        self._options = options
        self._endpoints = _Endpoints(Studio(session, **options) if isinstance(session, AsyncSession) else None)
        super().__init__(routes=self._endpoints.routes(), lifespan=self.lifespan)

    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[None]:
        """The session, open, from the start of an application to its end. A session that was given must not be open."""
        return self._opened()

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncGenerator[None]:
        if isinstance(self._make, AsyncSession):
            async with self._make:
                yield
                await self._make.aclose(GRACE_S)
            return
        async with self._make() as session:
            self._endpoints.studio = studio = Studio(session, **self._options)
            try:
                yield
            finally:
                self._endpoints.studio = None
                await studio.aclose()
                await session.aclose(GRACE_S)


def app(session: AsyncSession | MakeSession, **options: Any) -> VideoApp:
    """An ASGI application over ``session``, or a new one of a callable at each start. ``options``: a Studio's."""
    return VideoApp(session, options)
