"""The face for ASGI: an application to mount in Starlette, FastAPI or Litestar. Needs the extra ``web``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hailuo_async.session import AsyncSession
from hailuo_async.web.reply import Body, Reply, create
from hailuo_async.web.studio import GRACE_S, ROUTES, Ask, Studio


class VideoApp(Starlette):
    """The application, over a session or a new one of a callable at each start. ``options`` are those of ``Studio``."""

    def __init__(self, session: AsyncSession | Callable[[], AsyncSession], options: dict[str, Any]) -> None:
        self._session, self._options = session, options
        self._studio = Studio(session, **options) if isinstance(session, AsyncSession) else None
        routes = [Route(path, self._asked(ask), methods=[method]) for method, path, ask in ROUTES]
        super().__init__(routes=[Route("/", self._create, methods=["POST"]), *routes], lifespan=self.lifespan)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None]:
        """The session, open, from the start of the application that mounts this one to its end.

        A session that was given must not be open yet.
        """
        async with self._session if isinstance(self._session, AsyncSession) else self._session() as session:
            self._studio = studio = self._studio or Studio(session, **self._options)
            try:
                yield
            finally:
                self._studio = None
                await studio.aclose()
                await session.aclose(GRACE_S)

    async def _create(self, request: Request) -> Response:
        return await create(self._open_studio(), request)

    def _asked(self, ask: Ask) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            id, is_head = request.path_params.get("id", ""), request.method == "HEAD"
            body = Body(request) if request.method == "POST" else None
            return Reply(await ask(self._open_studio(), id, request.headers, is_head), body)

        return endpoint

    def _open_studio(self) -> Studio:
        if self._studio is None:
            raise RuntimeError("the session is not open: give the application this app's lifespan, or an open session")
        return self._studio
