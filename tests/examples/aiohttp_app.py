from aiohttp import web

from hailuo_async import AsyncSession
from hailuo_async.web import add_videos


def new_session() -> AsyncSession:
    return AsyncSession(journal="videos.db", keep_jobs=True, max_queued=1000)


app = web.Application()
add_videos(app, "/videos", new_session)

if __name__ == "__main__":
    web.run_app(app, port=8080, handler_cancellation=True, shutdown_timeout=2)
