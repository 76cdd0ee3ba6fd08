from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from hailuo_async import AsyncSession, web
from hailuo_async.web.reply import Reply, create


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, web.Studio]]:
    async with AsyncSession(journal="videos.db", keep_jobs=True, max_queued=1000) as session:
        yield {"studio": web.Studio(session)}
        await session.aclose(grace=5)


app = FastAPI(lifespan=lifespan)


@app.post("/videos")
async def make(request: Request) -> Response:
    return await create(request.state.studio, request)


@app.get("/videos/{id}")
async def look(request: Request, id: str) -> Response:
    return Reply(await request.state.studio.look(id, request.headers))


@app.get("/videos/{id}/events")
async def events(request: Request, id: str) -> Response:
    return Reply(await request.state.studio.events(id, request.headers))


@app.api_route("/videos/{id}/file", methods=["GET", "HEAD"])
async def file(request: Request, id: str) -> Response:
    return Reply(await request.state.studio.file(id, request.headers, is_head=request.method == "HEAD"))


@app.get("/health")
async def health(request: Request) -> Response:
    return Reply(await request.state.studio.health())
