"""The page: all jobs of a journal, and a form for new ones, for the owner of the key. ``hailuo-async serve`` serves it.

Its parts are HTML, CSS and modules beside this file, served from memory by their names: no path of a request reaches
the file system. ``guard`` says who may come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import anyio.to_thread
import attrs
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hailuo_async._images.frame import inspect_image
from hailuo_async._io.journal.records import JournalState, Record
from hailuo_async.contract import CAMERA_COMMANDS, MAX_PROMPT_CHARACTERS
from hailuo_async.errors import HailuoError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.models import MODELS
from hailuo_async.prices import estimate
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalLocation
from hailuo_async.web.answers import EVENT_HEADERS, Answer, RefusedRequest, is_outage, json_answer
from hailuo_async.web.board import Board
from hailuo_async.web.files import file_answer
from hailuo_async.web.films import Films
from hailuo_async.web.forms import Form, read_texts
from hailuo_async.web.guard import COOKIE, Guard
from hailuo_async.web.intake import OPTIONS, Intake, check_id
from hailuo_async.web.pictures import Pictures
from hailuo_async.web.reply import Body, Reply, create

_logger = logging.getLogger("hailuo_async")

_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: The parts of the page by their names, read with this module: a loop would stand still for it.
_FILES = {path.name: path.read_bytes() for path in files("hailuo_async.web").joinpath("static").iterdir()}
#: Any URL: it stands in for a picture where only the other facts of a job count.
_SOME_PICTURE = "https://example.com/picture.jpg"


#: Answers a request, given the fields of its body where it has one.
_Handler: TypeAlias = "Callable[[Page, Request, Mapping[str, str]], Awaitable[Response]]"


def _refusing(answer: _Handler) -> Callable[[Page, Request], Awaitable[Response]]:
    """Reads the fields for ``answer``, and answers its errors in full: only the owner sees them."""

    @functools.wraps(answer)
    async def answer_or_refuse(page: Page, request: Request) -> Response:
        body = Body(request)
        try:
            fields = await read_texts(request.headers, body.pieces()) if request.method == "POST" else {}
            return await answer(page, request, fields)
        except ClientDisconnect:
            return Response(status_code=400)
        except RefusedRequest as refused:
            refusal = refused.answer()
        except (HailuoError, OSError) as error:
            status = error.http_status if isinstance(error, HailuoError) else 500
            status = 503 if is_outage(error) else status
            refusal = json_answer({"error": type(error).__name__, "message": str(error)}, status)
        return Reply(refusal, body if request.method == "POST" else None)

    return answer_or_refuse


@attrs.define(eq=False)
class _OwnersIntake(Intake):
    """Keeps the pictures, so that a card shows them and its job can be tried again."""

    pictures: Pictures = attrs.field(kw_only=True)

    async def take(self, id: str, form: Form) -> None:
        """Submits the job of ``form``, its pictures kept."""
        async with self.keeping(id):
            await anyio.to_thread.run_sync(self.pictures.keep, id, form)
            await super().take(id, form)

    @contextlib.asynccontextmanager
    async def keeping(self, id: str) -> AsyncGenerator[None]:
        """Keeps pictures for a job of that id. If it is not taken, they go.

        In an outage of the journal they stay: the visitor comes again under that id, or has done so already.
        """
        is_new = not self.pictures.has(id)
        try:
            yield
        except (HailuoError, RefusedRequest, OSError) as error:
            if is_new and not is_outage(error):
                await anyio.to_thread.run_sync(self.pictures.remove, id)
            raise


@attrs.define(eq=False, kw_only=True)
class Page:
    """The page over one journal and one folder of videos. ``app`` makes the ASGI application that serves it."""

    make_session: Callable[[], AbstractAsyncContextManager[AsyncSession]]
    journal: JournalLocation
    folder: Path
    notice: str = ""
    """What stands beside the title."""
    _intake: _OwnersIntake = attrs.field(init=False)
    _board: Board = attrs.field(init=False)
    _films: Films = attrs.field(init=False)
    _guard: Guard = attrs.field(init=False)

    def app(self, *, hosts: Collection[str], token: str | None = None) -> Guard:
        """The application. ``hosts`` are the values of ``Host`` that it answers; none for any, with a ``token``."""
        routes = [
            *(Route(f"/static/{name}", _static(name, content)) for name, content in _FILES.items()),
            Route("/", _static("index.html", _FILES["index.html"])),
            Route("/login", self._login, methods=["POST"]),
            Route("/api/options", self._options),
            Route("/api/events", self._events, methods=["GET"]),
            Route("/api/jobs", self._create, methods=["POST"]),
            Route("/api/jobs/{id:path}/file", self._file),
            Route("/api/jobs/{id:path}/picture", self._picture),
            Route("/api/jobs/{id:path}/retry", self._retry, methods=["POST"]),
            Route("/api/jobs/{id:path}/resolve", self._resolve, methods=["POST"]),
        ]
        app = Starlette(routes=routes, lifespan=lambda app: self.opened())
        self._guard = Guard(app, hosts, token, _FILES["login.html"])
        return self._guard

    async def add(self, key: str, job: Job) -> None:
        """Submits a job of the program's own, as if it had come by the page."""
        await anyio.to_thread.run_sync(self._intake.pictures.copy_of, key, job)
        await self._intake.session.submit(attrs.evolve(job, key=key))

    def stop(self) -> None:
        """Ends the streams of news, so that a server that stops need not wait for them."""
        if hasattr(self, "_board"):
            self._board.stop()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """The session, open, and what is shown of its journal. Raises ``JournalError`` and ``ConfigError``."""
        pictures = Pictures(self.folder / "pictures")
        await anyio.to_thread.run_sync(pictures.open)
        async with self.make_session() as session:
            self._intake = _OwnersIntake(session, options=OPTIONS, pictures=pictures)
            self._films = Films(session, self.folder)
            self._board = Board(session, self.journal, self._intake.line, pictures)
            session.hooks.append(self._films.hear)
            session.hooks.append(self._board.hear)
            running = [asyncio.create_task(self._board.run()), asyncio.create_task(_go_on(session))]
            try:
                yield
            finally:
                self._board.stop()
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
                await self._films.aclose()

    # --- Answers ---

    @_refusing
    async def _login(self, request: Request, fields: Mapping[str, str]) -> Response:
        if not self._guard.is_token(fields.get("token", "")):
            await asyncio.sleep(1)  # guessing takes its time
            return Reply(self._guard.login(401))
        answer = RedirectResponse("./", 303)
        answer.set_cookie(COOKIE, self._guard.cookie, max_age=30 * 86400, httponly=True, samesite="strict")
        return answer

    async def _options(self, request: Request) -> Response:
        return Reply(json_answer({**what_can_be_made(), "notice": self.notice}))

    async def _create(self, request: Request) -> Response:
        return await create(self._intake, request)

    async def _events(self, request: Request) -> Response:
        return Reply(Answer(200, EVENT_HEADERS, self._news()))

    async def _news(self) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(self._board.news()) as all_news:
            async for news in all_news:
                yield b": still here\n\n" if news is None else f"data: {json.dumps(news)}\n\n".encode()

    @_refusing
    async def _file(self, request: Request, fields: Mapping[str, str]) -> Response:
        record = await self._record(request)
        if record.video is None:
            raise RefusedRequest(409, "the video is not there")
        name, is_head = record.key or record.video.task_id, request.method == "HEAD"
        return Reply(await self._films.answer(name, record.video, request.headers, is_head=is_head))

    @_refusing
    async def _picture(self, request: Request, fields: Mapping[str, str]) -> Response:
        found = await anyio.to_thread.run_sync(self._intake.pictures.find, request.path_params["id"])
        if not found:
            raise RefusedRequest(404, "there is no picture")
        path = next(iter(found.values()))
        frame = await anyio.to_thread.run_sync(inspect_image, "image", path)
        answer = await file_answer(path, f'"{path.name}"', request.headers, is_head=request.method == "HEAD")
        return Reply(attrs.evolve(answer, headers={**answer.headers, "Content-Type": str(frame.mime)}))

    @_refusing
    async def _retry(self, request: Request, fields: Mapping[str, str]) -> Response:
        record = await self._record(request)
        new_id = check_id(fields.get("id", ""))
        async with self._intake.keeping(new_id):
            id, copy = record.key or record.identity, self._intake.pictures.copy
            pictures = await anyio.to_thread.run_sync(copy, id, new_id)
            await self._intake.submit(_job_again(record, pictures, new_id))
        return Reply(json_answer({"id": new_id}, 202))

    @_refusing
    async def _resolve(self, request: Request, fields: Mapping[str, str]) -> Response:
        record = await self._record(request)
        async with self._intake.in_time("the decision was not on record"):
            await self._decide(record, fields)
        self._board.touch(record.key or record.identity)
        return Reply(json_answer({}))

    async def _decide(self, record: Record, decision: Mapping[str, str]) -> None:
        id, session = record.key or record.identity, self._intake.session
        action, in_doubt = decision.get("action"), record.state is JournalState.UNKNOWN
        if not in_doubt and not (action == "resubmit" and _is_released(record)):
            raise RefusedRequest(409, "this job is not in doubt, or no longer")
        match action:
            case "task":
                await session.resolve(id, task_id=decision.get("task_id", ""))
                await session.attach(decision.get("task_id", ""))
            case "resubmit":
                pictures = await anyio.to_thread.run_sync(self._intake.pictures.find, id)
                job = _job_again(record, pictures, id)  # before anything is decided: it may not be possible
                if in_doubt:
                    await session.resolve(id, resubmit=True)
                await session.submit(job)
            case "forget":
                await session.resolve(id, forget=True)
                await anyio.to_thread.run_sync(self._intake.pictures.remove, id)
            case _:
                raise RefusedRequest(422, "must be task, resubmit or forget", "action")

    async def _record(self, request: Request) -> Record:
        record = await anyio.to_thread.run_sync(self._board.record, request.path_params["id"])
        if record is None:
            raise RefusedRequest(404, "there is no such job")
        return record


async def _go_on(session: AsyncSession) -> None:
    """Waits for what was accepted before this session opened. Each end goes to the journal, which the page shows."""
    try:
        async with contextlib.aclosing(session.resume()) as outcomes:
            async for _ in outcomes:
                pass
    except HailuoError as error:
        _logger.warning("cannot wait for every task that runs: %s; start the page again to go on", error)


def what_can_be_made() -> dict[str, Any]:
    """The models, what each takes, and what that costs, for the form."""
    models = []
    for model in MODELS.values():
        sizes = {str(duration): list(names) for duration, names in model.sizes.items()}
        cells = [(duration, name) for duration, names in model.sizes.items() for name in names]
        prices = {
            f"{duration}/{name}": _price(model.slug, model.takes_last_frame, duration, name) for duration, name in cells
        }
        facts = {"slug": model.slug, "takes_last_frame": model.takes_last_frame, "sizes": sizes, "prices": prices}
        models.append({**facts, "camera_commands": model.camera_commands})
    as_of = estimate(ImageToVideo(_SOME_PICTURE)).as_of
    return {
        "models": models,
        "commands": sorted(CAMERA_COMMANDS),
        "max_prompt": MAX_PROMPT_CHARACTERS,
        "as_of": None if as_of is None else as_of.isoformat(),
    }


def _price(slug: str, takes_last_frame: bool, duration: Any, resolution: Any) -> list[str] | None:
    kind = FirstLastFrameToVideo if takes_last_frame else ImageToVideo
    found = estimate(kind(_SOME_PICTURE, model=slug, duration=duration, resolution=resolution))
    return None if found.low is None else [str(found.low), str(found.high)]


def _job_again(record: Record, pictures: dict[str, Path], key: str) -> Job:
    """The job of ``record`` under ``key``. Raises ``RefusedRequest`` where its pictures are not here."""
    given = {name: value for name, value in record.facts.items() if value is not None}
    if not given.get("fast_pretreatment"):
        given.pop("fast_pretreatment", None)  # which no job with a last frame takes
    given |= {**pictures, "prompt": record.prompt, "key": key}
    if record.kind == "FirstLastFrameToVideo" and "last_frame_image" in pictures:
        return FirstLastFrameToVideo(**given)
    if record.kind == "ImageToVideo" and "first_frame_image" in pictures:
        return ImageToVideo(**given)
    raise RefusedRequest(409, "its picture is not here: run the command again that sent it")


def _is_released(record: Record) -> bool:
    """Whether its owner had it sent again, and no session has taken it since: an outage came between."""
    return record.state is JournalState.INTENDED and record.holder is None and record.cost_before is not None


def _static(name: str, content: bytes) -> Any:
    headers = {"Content-Type": _TYPES[Path(name).suffix], "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        return Response(content, headers=headers)

    return serve
