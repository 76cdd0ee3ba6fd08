"""Videos for the visitors of a web application, in any framework.

A ``Studio`` keeps no jobs: the journal of its session does. The id that a visitor gets is the key of the job there, so
any process and any host that shares the journal answers for it, and a job that was answered 202 is made and paid for
once. Each method that answers a request returns an ``Answer`` and raises no ``HailuoError``; ``asgi`` and
``aiohttp_face`` send answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import attrs

from hailuo_async._engine.generation import Generation
from hailuo_async.contract import WEBHOOK_TASK_HEADER
from hailuo_async.errors import ConfigError, HailuoError
from hailuo_async.web.answers import Answer, error_answer, error_content, etag_of, is_unmodified, json_answer
from hailuo_async.web.events import EventStreams
from hailuo_async.web.films import Films
from hailuo_async.web.intake import Intake

#: Seconds that POSTs under way have when the application ends: a server is killed if it takes much longer.
GRACE_S = 5.0


@attrs.define(eq=False)
class Studio(Intake):
    """Takes pictures from visitors, and tells them of their videos. One for each open session; it needs a journal.

    ``options`` names what a visitor may set beside pictures and prompt (``model``, ``duration``, ``resolution``,
    ``prompt_optimizer``, ``fast_pretreatment``); ``defaults`` count where a visitor sets nothing. A
    request that waits for the journal for ``patience_s`` seconds is answered 503, and its job is not taken. With
    ``save_to``, a folder of its own, each video is copied there when it is done, and served from there; copies are
    removed ``keep_for_s`` seconds later, if that is set. Raises ``ConfigError`` for a session without a journal.
    """

    _save_to: Path | None = attrs.field(default=None, alias="save_to", converter=attrs.converters.optional(Path))
    _keep_for_s: float | None = attrs.field(default=None, alias="keep_for_s")
    _streams: EventStreams = attrs.field(factory=EventStreams, init=False)
    _films: Films = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if not self.session.has_journal:  # its videos would be paid for, and no visitor would find them
            raise ConfigError(field="journal", value=None, rule="give the session journal=, best with keep_jobs=True")
        super().__attrs_post_init__()
        self._films = Films(self.session, self._save_to, self._keep_for_s)
        self.session.hooks.append(self._films.hear)

    async def aclose(self) -> None:
        """Ends the streams of events and what is being copied. Browsers come back for the events by themselves."""
        self._streams.stop()
        await self._films.aclose()

    async def look(self, id: str, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
        """Where a job stands: ``status``, ``place``, ``seconds_left``, and at its end ``cost`` or ``error``."""
        try:
            content = await self.state(id)
        except HailuoError as error:
            return error_answer(error)
        etag = etag_of({name: value for name, value in content.items() if name != "seconds_left"})
        if is_unmodified(etag, headers):
            return Answer(304, {"ETag": etag, "Cache-Control": "no-cache"})
        return json_answer(content, headers={"ETag": etag})

    async def events(self, id: str, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
        """Each change of a job as server-sent events, up to its end. 503 where too many streams are open."""
        try:
            generation = await self._find(id)
        except HailuoError as error:
            return error_answer(error)
        return self._streams.answer(generation, lambda: self._state_of(id, generation), headers)

    async def file(
        self, id: str, headers: Mapping[str, str] = MappingProxyType({}), *, is_head: bool = False
    ) -> Answer:
        """The video, whole or the ``Range`` of it. 409 while it is not there, 410 when it is gone."""
        try:
            generation = await self._find(id)
            if not generation.status.is_final:
                content = {"error": "NotReadyError", "message": "the video is not there yet"}
                return json_answer(content, 409, {"Retry-After": "5"})
            return await self._films.answer(id, await generation, headers, is_head=is_head)
        except HailuoError as error:
            return error_answer(error)

    async def webhook(self, headers: Mapping[str, str]) -> Answer:
        """Takes a delivery of the service's, as a notice: the task it names is asked about at once."""
        self.session.notice(headers.get(WEBHOOK_TASK_HEADER, ""))
        return Answer(204, {})

    async def health(self) -> Answer:
        """200 while the session is open, also in an outage of the journal, which passes. 503: replace this process."""
        return json_answer({"status": "ok"}) if self.session.is_open else json_answer({"status": "closed"}, 503)

    async def state(self, id: str) -> dict[str, object]:
        """Where a job stands, as JSON can say it.

        Raises ``JobNotFoundError``, ``JournalError`` and ``SessionClosedError``.
        """
        return await self._state_of(id, await self._find(id))

    async def _find(self, id: str) -> Generation:
        async with self.in_time("the job was not found"):
            return await self.session.find(id)

    async def _state_of(self, id: str, generation: Generation) -> dict[str, object]:
        job = generation.job
        content: dict[str, object] = {"id": id, "status": str(generation.status)}
        if generation.status.is_final:
            try:
                content["cost"] = (await generation).cost
            except HailuoError as error:
                content["error"] = error_content(error)
            return content
        model, duration = (None, 6) if job is None else (job.model, job.duration)
        left = self.line.seconds_left(id, model, duration, self.session.stats())
        content["place"] = self.line.place(id)
        content["seconds_left"] = None if left is None else round(left)
        return content


async def _events(studio: Studio, id: str, headers: Mapping[str, str], is_head: bool) -> Answer:
    answer = await studio.events(id, headers)
    return attrs.evolve(answer, body=b"") if is_head else answer


#: Answers a request about the job of an id, with its headers, and whether only the head of the answer is asked for.
Ask: TypeAlias = Callable[[Studio, str, Mapping[str, str], bool], Awaitable[Answer]]
#: The routes of both faces, beside the one that takes jobs: method, path, answer. A ``GET`` answers ``HEAD``, too.
ROUTES: tuple[tuple[str, str, Ask], ...] = (
    ("GET", "/health", lambda studio, id, headers, is_head: studio.health()),
    ("POST", "/webhook", lambda studio, id, headers, is_head: studio.webhook(headers)),
    ("GET", "/{id}", lambda studio, id, headers, is_head: studio.look(id, headers)),
    ("GET", "/{id}/events", _events),
    ("GET", "/{id}/file", lambda studio, id, headers, is_head: studio.file(id, headers, is_head=is_head)),
)
