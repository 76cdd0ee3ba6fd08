from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import studio
from fastapi import Depends, FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse

from hailuo_async import HailuoError

app = FastAPI(lifespan=lambda app: studio.opened())


@app.exception_handler(HailuoError)
async def tell(request: Request, error: HailuoError) -> JSONResponse:
    return JSONResponse(*studio.told(error))


@app.post("/videos", status_code=202)
async def create(image: UploadFile, prompt: Annotated[str, Form()]) -> dict[str, str]:
    if (image.size or 0) > 20_000_000:
        raise HTTPException(413)
    return {"id": await studio.accept(image.file, prompt)}


@app.get("/videos/{name}")
async def look(name: str) -> dict[str, str]:
    return {"status": (await studio.find(name)).status}


@app.get("/videos/{name}/events")
async def events(name: str) -> StreamingResponse:
    generation = await studio.find(name)
    lines = (f"data: {status}\n\n" async for status in generation.updates())
    return StreamingResponse(lines, media_type="text/event-stream")


async def opened(name: str) -> AsyncGenerator[AsyncIterator[bytes]]:
    async with studio.session.open_video(await studio.finished(name)) as pieces:
        yield pieces


@app.get("/videos/{name}/file")
async def file(pieces: Annotated[AsyncIterator[bytes], Depends(opened)]) -> StreamingResponse:
    return StreamingResponse(pieces, media_type="video/mp4")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
