"""Which error a refusal becomes. One table, for submits, queries and everything else."""

from __future__ import annotations

from collections.abc import Mapping

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

#: Statuses below 500 by which a server says: not now (API.md, "Refusals").
_BUSY = (408, 409, 425)

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
    if answer.refusal is None:
        kind: type[ServiceError] = ServiceUnavailableError if _no_service(answer) else ProtocolError
        return kind(message=answer.message, status=answer.status, task_id=task_id)
    if not answer.is_envelope:
        return ProtocolError(message=answer.message, status=answer.status, task_id=task_id)
    if answer.refusal in (Refusal.REQUEST_RATE, Refusal.RUNNING_LIMIT):
        retry_after_s = answer.hints.retry_after_s
        return RateLimitedError(
            message=answer.message, status=answer.status, retry_after_s=retry_after_s, task_id=task_id
        )
    return _ERRORS[answer.refusal](message=answer.message, status=answer.status, task_id=task_id)


def _no_service(answer: Answer) -> bool:
    return answer.verdict is Verdict.UNSENT or answer.status is None or answer.status in _BUSY or answer.status >= 500
