"""Requests that are no job's: the account, uploads. They share the request budget and are not repeated."""

from __future__ import annotations

import secrets

import attrs

from hailuo_async._engine.gate import Gate
from hailuo_async._engine.submitter import SLOWEST_UPLOAD_BYTES_PER_S
from hailuo_async._images.frame import Frame
from hailuo_async._images.source import check_source
from hailuo_async._io.http import Transport
from hailuo_async._rules.refusals import build_error
from hailuo_async._rules.wire import Answer, Request, Verdict, build_upload, unknown
from hailuo_async.errors import HailuoError, ImageError, ProtocolError

#: For a request that is no job's: answered in this time beside that for its body, or not at all.
REQUEST_TIMEOUT_S = 60.0


@attrs.define(eq=False)
class Calls:
    """Sends what is not charged for, when the budget allows it."""

    _gate: Gate
    _transport: Transport

    async def send(self, request: Request) -> Answer:
        """The answer to one request. Cancelling it tears the request, and costs nothing."""
        await self._gate.wait_for_query()
        sent_at = self._gate.acquire_query()
        answer = unknown("cancelled")
        try:
            timeout_s = REQUEST_TIMEOUT_S + request.length / SLOWEST_UPLOAD_BYTES_PER_S
            answer = await self._transport.send(request, timeout_s)
        finally:
            self._gate.request_answered(answer, sent_at)
        return answer

    async def ask(self, request: Request) -> Answer:
        """``send``, for an answer that has to be an acceptance. Raises a ``ServiceError`` otherwise."""
        return accepted(await self.send(request))

    async def upload(self, frame: Frame) -> str:
        """Puts an image on the service and returns its URL. Raises ``ServiceError`` unless it is known to be there."""
        answer = await self.ask(build_upload(frame, secrets.token_hex(16)))
        url = answer.data.get("url")
        if not isinstance(url, str) or not _is_on_the_web(url):
            raise ProtocolError(message="no http(s) URL @ $.data.url", status=answer.status)
        return url


def accepted(answer: Answer) -> Answer:
    """``answer``, if it is an acceptance. Raises a ``ServiceError`` otherwise."""
    if answer.verdict is not Verdict.ACCEPTED:
        raise answer.problem if isinstance(answer.problem, HailuoError) else build_error(answer)
    return answer


def _is_on_the_web(url: str) -> bool:
    """Whether a job may name its image by ``url``."""
    try:
        check_source("url", url)
    except ImageError:
        return False
    return url[:4].lower() == "http"
