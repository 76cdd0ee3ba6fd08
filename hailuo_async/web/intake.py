"""Takes jobs from requests: a form or JSON becomes a job of the session, under an id that is its key in the journal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from typing import Any
from uuid import uuid4

import attrs

from hailuo_async.errors import HailuoError, JournalError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.session import AsyncSession
from hailuo_async.web.answers import (
    NOT_NOW,
    Answer,
    RefusedRequest,
    come_again,
    error_answer,
    is_out_of_files,
    json_answer,
)
from hailuo_async.web.forms import Form, read_form
from hailuo_async.web.line import Line

_logger = logging.getLogger("hailuo_async")

#: What a visitor may set only where it is allowed: it costs more, or is the application's choice.
OPTIONS = frozenset({"model", "duration", "resolution", "prompt_optimizer", "fast_pretreatment"})
#: Seconds that a visitor waits for the journal, which an outage stops for longer. Proxies give up after 30 to 60.
PATIENCE_S = 20.0
#: An id that a visitor chooses must be hard to guess: anyone who knows the id can see the video.
_CHOOSES_ID = "Idempotency-Key"
_CHOSEN_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


@attrs.define(eq=False)
class Intake:
    """Takes jobs from requests.

    ``options`` names what a visitor may set beside pictures and prompt; ``defaults`` count for what is not set. A
    request that waits for the journal for ``patience_s`` seconds is answered 503, and its job is not taken.
    """

    session: AsyncSession
    options: Collection[str] = ()
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    patience_s: float = attrs.field(default=PATIENCE_S, kw_only=True)
    line: Line = attrs.field(factory=Line, init=False)

    def __attrs_post_init__(self) -> None:
        self.session.hooks.append(self.line.hear)

    async def create(self, headers: Mapping[str, str], body: AsyncIterator[bytes], *, path: str = "") -> Answer:
        """Takes a job: 202 with its id, and ``Location`` below ``path``. It will be made, and paid for once.

        ``body`` is a form or JSON: ``image`` or ``last_frame_image`` or both, ``prompt``, and the ``options``. A
        visitor who sends the same ``Idempotency-Key`` (or field ``id``) again gets the same job. 413 and 422 name the
        field and the rule; 503 when the queue is full, the journal is away or no more files can be opened, 507 when the
        disk is full. What is not answered 202 costs nothing, but for one case: if the connection to the journal is lost
        in a commit and stays away, another session may find the job there, and send it. So that 503 has the id: with it
        the visitor comes again for the same job. Raises what ``body`` raises when its visitor leaves.
        """
        try:
            form = await read_form(headers, body)
            try:
                return await self._taken(headers, form, path)
            finally:
                await form.aclose()
        except RefusedRequest as refused:
            return refused.answer()
        except ConnectionError:
            raise  # of the visitor, not of the disk
        except OSError as error:
            _logger.warning("a picture cannot be stored: %s", error)
            if is_out_of_files(error):
                return come_again({"error": "OutOfFiles", "message": NOT_NOW})
            return json_answer({"error": "StorageFull", "message": error.strerror or "nothing can be stored"}, 507)

    async def _taken(self, headers: Mapping[str, str], form: Form, path: str) -> Answer:
        id = id_of(headers, form)
        try:
            await self.take(id, form)
        except HailuoError as error:
            return error_answer(error, id=id)
        return json_answer({"id": id}, 202, {"Location": f"{path.rstrip('/')}/{id}"})

    async def take(self, id: str, form: Form) -> None:
        """Submits the job of ``form`` under that id. Raises what ``submit`` raises, and ``RefusedRequest``."""
        await self.submit(self.job(id, form))

    async def submit(self, job: Job) -> None:
        """Submits a job. Raises as ``AsyncSession.submit``, and ``JournalError`` when the patience is over."""
        async with self.in_time("the job was not on record"):
            await self.session.submit(job)

    @contextlib.asynccontextmanager
    async def in_time(self, failure: str) -> AsyncGenerator[None]:
        """Cancels what waits for longer than ``patience_s``, and raises ``JournalError`` then with that ``failure``."""
        try:
            async with asyncio.timeout(self.patience_s) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise  # of a disk, say
            reason = f"{failure} within {self.patience_s:g} s"
            raise JournalError(path="of this session", reason=reason, is_outage=True) from None

    def job(self, id: str, form: Form) -> Job:
        """The job that ``form`` asks for. Raises ``RefusedRequest`` and ``JobError``."""
        given = {name: value for name, value in form.texts.items() if name in OPTIONS}
        for name in given:
            if name not in self.options:
                raise RefusedRequest(422, "cannot be chosen here", name)
        options = {**self.defaults, **{name: _typed(name, value) for name, value in given.items() if value}}
        if {"image", "first_frame_image"} <= form.pictures.keys():
            raise RefusedRequest(422, "is another name of image: give one of them", "first_frame_image")
        first = form.pictures.get("image", form.pictures.get("first_frame_image"))
        last = form.pictures.get("last_frame_image")
        prompt = form.texts.get("prompt") or None
        if last is not None:
            if given.get("fast_pretreatment"):
                raise RefusedRequest(422, "does not go with last_frame_image", "fast_pretreatment")
            options.pop("fast_pretreatment", None)  # a default for the other jobs
            return FirstLastFrameToVideo(last, first_frame_image=first, prompt=prompt, key=id, **options)
        if first is None:
            raise RefusedRequest(422, "is missing: give a picture", "image")
        return ImageToVideo(first, prompt, key=id, **options)


def id_of(headers: Mapping[str, str], form: Form) -> str:
    """The id of a new job: the visitor's own, or one made here."""
    if chosen := headers.get(_CHOOSES_ID, "").strip('" '):
        return check_id(chosen, _CHOOSES_ID)
    return check_id(chosen) if (chosen := form.texts.get("id", "")) else uuid4().hex


def check_id(id: str, field: str = "id") -> str:
    """``id``, if it is one that a visitor may choose. Raises ``RefusedRequest``, naming the field or header."""
    if not _CHOSEN_ID.fullmatch(id):
        raise RefusedRequest(422, "must have 16 to 64 letters, digits, '-' and '_': it must be hard to guess", field)
    return id


def _typed(name: str, value: str) -> object:
    """The value of an option as a job takes it; a job says what is wrong with any other."""
    if name == "duration" and value.isdecimal() and len(value) < 6:
        return int(value)
    return (
        {"true": True, "false": False}.get(value, value) if name in ("prompt_optimizer", "fast_pretreatment") else value
    )
