"""Turns refusals into errors: one table for submits, queries and all other requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hailuo_async import contract, errors
from hailuo_async._rules.wire import Answer, Refusal, Verdict

_ERRORS: Mapping[Refusal, type[errors.ServiceError]] = {
    Refusal.REJECTED: errors.RequestRejectedError,
    Refusal.NOT_FOUND: errors.RequestRejectedError,
    Refusal.AUTHENTICATION: errors.AuthenticationError,
    Refusal.BALANCE: errors.InsufficientBalanceError,
    Refusal.REQUEST_RATE: errors.RateLimitedError,
    Refusal.RUNNING_LIMIT: errors.RateLimitedError,
}

_NOT_THE_SERVICE = "not in the service's form: a proxy may have answered in its place; check it, and the base URL"

#: Every other job would fail in the same way: a stream ends with such an error instead of failing job after job.
_EVERY_JOB_WOULD_MEET = (
    errors.AuthenticationError,
    errors.InsufficientBalanceError,
    errors.JournalError,
    errors.SessionClosedError,
    errors.SpendingLimitError,
)


def stops_everything(error: errors.HailuoError) -> bool:
    """Whether every other job would fail in the same way, so that sending more is pointless."""
    return isinstance(error, _EVERY_JOB_WOULD_MEET)


def build_error(answer: Answer, task_id: str | None = None) -> errors.HailuoError:
    """The error for any answer that is not an acceptance; a submit in doubt has its own error.

    A refusal that is not in the documented form is a ``ProtocolError``: a proxy may have answered, not the service. The
    advice of a 429 to wait counts from either.
    """
    facts: dict[str, Any] = {"message": answer.message, "status": answer.status}
    facts |= {"task_id": task_id, "request_id": answer.request_id}
    if answer.refusal is None and _no_service(answer):
        return errors.ServiceUnavailableError(**facts)
    if answer.refusal is None:
        return errors.ProtocolError(**facts)
    if not answer.is_envelope and answer.status not in contract.TOO_MANY:
        return errors.ProtocolError(**facts | {"message": f"{answer.message} {_NOT_THE_SERVICE}"})
    kind = _ERRORS[answer.refusal]
    if kind is errors.RateLimitedError:
        facts["retry_after_s"] = answer.rate_headers.retry_after_s
    return kind(**facts)


def _no_service(answer: Answer) -> bool:
    if answer.verdict is Verdict.UNSENT or answer.status is None:
        return True
    return answer.status in contract.BUSY or answer.status >= 500
