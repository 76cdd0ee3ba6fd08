"""Which error a refusal becomes. One table, for submits, queries and everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hailuo_async import contract
from hailuo_async._rules.wire import Answer, Refusal, Verdict
from hailuo_async.errors import (
    AuthenticationError,
    HailuoError,
    InsufficientBalanceError,
    JournalError,
    ProtocolError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
    ServiceUnavailableError,
    SessionClosedError,
    SpendingLimitError,
)

_ERRORS: Mapping[Refusal, type[ServiceError]] = {
    Refusal.REJECTED: RequestRejectedError,
    Refusal.NOT_FOUND: RequestRejectedError,
    Refusal.AUTHENTICATION: AuthenticationError,
    Refusal.BALANCE: InsufficientBalanceError,
    Refusal.REQUEST_RATE: RateLimitedError,
    Refusal.RUNNING_LIMIT: RateLimitedError,
}

#: What one job met, every other would meet too: a stream ends with it instead of failing job after job.
_EVERY_JOB_WOULD_MEET = (
    AuthenticationError,
    InsufficientBalanceError,
    JournalError,
    SessionClosedError,
    SpendingLimitError,
)


def stops_everything(error: HailuoError) -> bool:
    """Whether every other job would meet the same, so that sending more is pointless."""
    return isinstance(error, _EVERY_JOB_WOULD_MEET)


def build_error(answer: Answer, task_id: str | None = None) -> HailuoError:
    """The error for an answer that is not an acceptance, on a request that is not a submit's doubt.

    A refusal that is not in the documented form is a ``ProtocolError``: a proxy's page is not the service's word.
    """
    told: dict[str, Any] = {"message": answer.message, "status": answer.status}
    told |= {"task_id": task_id, "request_id": answer.request_id}
    if answer.refusal is None and _no_service(answer):
        return ServiceUnavailableError(**told)
    if answer.refusal is None or not answer.is_envelope:
        return ProtocolError(**told)
    if answer.refusal in (Refusal.REQUEST_RATE, Refusal.RUNNING_LIMIT):
        return RateLimitedError(**told, retry_after_s=answer.hints.retry_after_s)
    return _ERRORS[answer.refusal](**told)


def _no_service(answer: Answer) -> bool:
    if answer.verdict is Verdict.UNSENT or answer.status is None:
        return True
    return answer.status in contract.BUSY or answer.status >= 500
