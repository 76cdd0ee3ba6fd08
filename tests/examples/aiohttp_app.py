from collections.abc import AsyncGenerator

import studio
from aiohttp import web
from aiohttp.typedefs import Handler

from hailuo_async import HailuoError


async def lifespan(app: web.Application) -> AsyncGenerator[None]:
    async with studio.opened():
        yield


@web.middleware
async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except HailuoError as error:
        if request.writer.output_size:
            raise  # too late for a status: the connection is cut
        content, status, headers = studio.told(error)
        return web.json_response(content, status=status, headers=headers)


async def create(request: web.Request) -> web.Response:
    try:
        form = await request.post()
    except ValueError:  # not the form that it says it is
        raise web.HTTPBadRequest from None
    image, prompt = form.get("image"), form.get("prompt")
    if not isinstance(image, web.FileField) or not isinstance(prompt, str):
        raise web.HTTPUnprocessableEntity
    name = await studio.accept(image.file, prompt)
    return web.json_response({"id": name}, status=202)


async def look(request: web.Request) -> web.Response:
    generation = await studio.find(request.match_info["name"])
    return web.json_response({"status": generation.status})


async def events(request: web.Request) -> web.StreamResponse:
    generation = await studio.find(request.match_info["name"])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for status in generation.updates():
        await response.write(f"data: {status}\n\n".encode())
    return response


async def file(request: web.Request) -> web.StreamResponse:
    video = await studio.finished(request.match_info["name"])
    async with studio.session.open_video(video) as pieces:
        response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
        await response.prepare(request)
        async for piece in pieces:
            await response.write(piece)
    return response


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


app = web.Application(middlewares=[tell], client_max_size=21_000_000)
app.cleanup_ctx.append(lifespan)
app.router.add_post("/videos", create)
app.router.add_get("/videos/{name}", look)
app.router.add_get("/videos/{name}/events", events)
app.router.add_get("/videos/{name}/file", file)
app.router.add_get("/health", health)

if __name__ == "__main__":
    web.run_app(app, port=8080, handler_cancellation=True, shutdown_timeout=2)
