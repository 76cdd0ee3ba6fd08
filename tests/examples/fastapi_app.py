from fastapi import FastAPI

from hailuo_async import AsyncSession, web


def new_session() -> AsyncSession:
    return AsyncSession(journal="videos.db", keep_jobs=True, max_queued=1000)


videos = web.app(new_session)
app = FastAPI(lifespan=videos.lifespan)
app.mount("/videos", videos)
