"""Videos in a web application: take a picture and a prompt, answer with an id, and tell where the video stands.

``app`` is an ASGI application to mount in Starlette, FastAPI or Litestar (extra ``web``), ``add_videos`` adds the same
routes to aiohttp.web. ``Studio`` is what both are made of, for routes of one's own: each of its methods answers one
request with an ``Answer``, which ``Reply`` (ASGI) or ``reply`` (aiohttp.web) sends.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("starlette") is not None:  # the extra is installed
    import hailuo_async.web.reply  # noqa: F401 (imported later, it would replace the function of its name)
from hailuo_async.session import AsyncSession
from hailuo_async.web.aiohttp_face import add_videos, reply
from hailuo_async.web.answers import Answer
from hailuo_async.web.studio import Studio

if TYPE_CHECKING:
    from hailuo_async.web.asgi import VideoApp

__all__ = ["Answer", "Studio", "add_videos", "app", "reply"]


def app(session: AsyncSession | Callable[[], AsyncSession], **options: Any) -> VideoApp:
    """An ASGI application to mount: ``app.mount("/videos", web.app(session))``. Needs the extra ``web``.

    Give it an open session, or a callable that makes one. With a callable, its ``lifespan`` opens a new session at each
    start of the application, and closes it at its end: ``FastAPI(lifespan=videos.lifespan)``. An application that is
    mounted is not started by itself. ``options`` are those of ``Studio``.
    """
    try:
        from hailuo_async.web import asgi
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: web.app needs the extra 'web': pip install 'hailuo-async[web]'") from error
    return asgi.VideoApp(session, options)
