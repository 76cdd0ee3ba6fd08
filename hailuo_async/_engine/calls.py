"""Sends requests that belong to no job: the account, uploads. The rate limiter counts them.

None is repeated here; but aiohttp sends a GET or DELETE again whose connection was dropped, so a lost answer to a
DELETE may come out as a 404.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
import attrs

from hailuo_async import contract
from hailuo_async._engine.clock import wall_clock
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.submitter import SLOWEST_UPLOAD_BYTES_PER_S
from hailuo_async._images.frame import Frame, inspect_image
from hailuo_async._images.source import ImageSource, check_source
from hailuo_async._io.transport import Transport
from hailuo_async._rules.catalogue import read_models, read_upload, read_uploads
from hailuo_async._rules.moments import from_unix
from hailuo_async._rules.refusals import build_error
from hailuo_async._rules.wire import Answer, Refusal, Request, Verdict, build_upload, unknown
from hailuo_async.errors import HailuoError, ImageError, ProtocolError
from hailuo_async.money import read_amount
from hailuo_async.outcomes import Account, Upload
from hailuo_async.prices import ModelInfo, PriceBook

T = TypeVar("T")

#: Seconds to wait for an answer, beside the time that the body needs.
REQUEST_TIMEOUT_S = 60.0


@attrs.define(eq=False)
class Calls:
    """Sends requests that are not charged for, when the request rate allows them."""

    _gate: Gate
    _transport: Transport
    _prices: PriceBook
    _uploading: anyio.Semaphore = attrs.field(factory=lambda: anyio.Semaphore(contract.UPLOADS_AT_ONCE), init=False)

    async def send(self, request: Request) -> Answer:
        """Sends one request, and returns its answer. Cancelling the call aborts the request, and costs nothing."""
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

    async def account(self) -> Account:
        """Whether the key is valid, which a 200 may deny as well as a 401, and the balance."""
        answer = await self.send(Request("GET", contract.VALIDATE_PATH))
        if answer.refusal is Refusal.AUTHENTICATION and answer.is_envelope:
            return Account(is_valid=False, balance=None)
        is_valid = accepted(answer).data.get("is_valid")
        if not isinstance(is_valid, bool):
            raise ProtocolError(message="no bool @ $.data.is_valid", status=answer.status, request_id=answer.request_id)
        if not is_valid:
            return Account(is_valid=False, balance=None)
        balance = (await self.ask(Request("GET", contract.BALANCE_PATH))).data.get("balance")
        return Account(is_valid=True, balance=read_amount(balance, may_be_owed=True))

    async def models(self) -> tuple[ModelInfo, ...]:
        """The models that the service offers now. Estimates use its prices from here on."""
        answer = await self.send(Request("GET", contract.MODELS_PATH))
        models = listed(answer, read_models(answer), "$.models")
        answered_at = from_unix(answer.rate_headers.date) or datetime.fromtimestamp(wall_clock(), UTC)
        self._prices.learn(models, answered_at.date())
        return models

    async def check_and_upload(self, image: ImageSource) -> str:
        """Inspects an image, and uploads it. As ``AsyncSession.upload``."""
        check_source("image", image)
        frame = await anyio.to_thread.run_sync(inspect_image, "image", image)
        if frame.is_url:
            rule = "must not be on the web already: give its URL to the job"
            raise ImageError(field="image", image=frame.name, value="a URL", rule=rule)
        if frame.size > contract.MAX_UPLOAD_BYTES:
            rule = f"must be at most {contract.MAX_UPLOAD_BYTES} bytes for an upload"
            raise ImageError(field="image", image=frame.name, value=f"{frame.size} bytes", rule=rule)
        url, _ = await self.upload(frame)
        return url

    async def upload(self, frame: Frame) -> tuple[str, str | None]:
        """Puts an image on the service: its URL and its id. Raises ``ServiceError`` unless it is known to be there."""
        async with self._uploading:
            answer = await self.ask(build_upload(frame, secrets.token_hex(16)))
        url, stored = answer.data.get("url"), read_upload(answer.data)
        if not isinstance(url, str) or not _is_on_the_web(url):
            raise ProtocolError(message="no http(s) URL @ $.data.url", status=answer.status)
        return url, None if stored is None else stored.file_id

    async def uploads(self) -> tuple[Upload, ...]:
        """The team's uploads, as the service lists them."""
        answer = await self.send(Request("GET", contract.UPLOADS_PATH))
        return listed(answer, read_uploads(answer), "$.data")

    async def delete_upload(self, file_id: str) -> None:
        """Takes one upload off the service. 204 says that it is done, or an envelope does."""
        answer = await self.send(Request("DELETE", f"{contract.UPLOADS_PATH}/{quote(file_id, safe='')}"))
        if not answer.is_2xx or answer.code is not None:
            accepted(answer)


def accepted(answer: Answer) -> Answer:
    """``answer``, if it is an acceptance. Raises a ``ServiceError`` otherwise."""
    if answer.verdict is not Verdict.ACCEPTED:
        raise answer.problem if isinstance(answer.problem, HailuoError) else build_error(answer)
    return answer


def listed(answer: Answer, found: T | None, path: str) -> T:
    """``found``, the list in ``answer``. Raises a ``ServiceError`` if there is none; a list may have no envelope."""
    if found is not None:
        return found
    if not answer.is_2xx or answer.is_envelope:
        accepted(answer)
    raise ProtocolError(message=f"no list @ {path}", status=answer.status, request_id=answer.request_id)


def _is_on_the_web(url: str) -> bool:
    """Whether a job may name its image by ``url``."""
    try:
        check_source("url", url)
    except ImageError:
        return False
    return url[:4].lower() == "http"
