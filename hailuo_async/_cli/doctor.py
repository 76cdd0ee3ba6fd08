"""The command ``doctor``: checks everything that a job needs, and says what to do if something is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Iterator
from typing import TypeAlias

import anyio

from hailuo_async._cli.keys import Key, session_with
from hailuo_async._cli.output import show
from hailuo_async.contract import API_KEY_VARIABLE, BASE_URL_VARIABLE, DEFAULT_BASE_URL
from hailuo_async.errors import HailuoError, RateLimitedError
from hailuo_async.outcomes import Account, Stats
from hailuo_async.session import AsyncSession

#: A service that has not answered by then counts as unreachable.
_PATIENCE_S = 20.0
#: Without a key, this one asks whether the service can be reached at all.
_NO_KEY = "none"

_Finding: TypeAlias = tuple[str, str, str]
"""The name of a check, its result, and what to do: nothing if all is well."""


async def report(key: Key | None, *, is_json: bool) -> bool:
    """Prints the findings one after the other, up to a check whose failure makes the next ones impossible.

    Returns whether all is well. A few requests, not charged for. The key itself is not shown. Raises ``ConfigError``,
    and ``click.UsageError`` for what cannot be a key.
    """
    session, findings = session_with(Key(_NO_KEY, "") if key is None else key), []
    async with session, contextlib.aclosing(_examine(key, session)) as found:
        async for name, words, advice in found:
            facts = {"check": name, "ok": not advice, "message": words, "advice": advice or None}
            line = f"{'problem' if advice else 'ok':<8} {name:<9} {words}{f'. {advice}' if advice else ''}"
            show(facts, line, is_json=is_json)
            findings.append(advice)
    return not any(findings)


async def _examine(key: Key | None, session: AsyncSession) -> AsyncGenerator[_Finding]:
    if key is None:
        yield "key", "there is none", f"Set {API_KEY_VARIABLE}, or give --key-file"
    else:
        yield "key", f"from {key.origin}", ""
    origin = os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
    try:
        with anyio.fail_after(_PATIENCE_S):
            account = await session.account()
    except (HailuoError, TimeoutError) as error:
        yield _no_answer(origin, error)
        return
    yield "service", f"{origin} answers", ""
    if key is not None:
        for finding in _about_account(account, session.stats()):
            yield finding


def _about_account(account: Account, stats: Stats) -> Iterator[_Finding]:
    if not account.is_valid:
        yield "validity", "the service does not know the key", "Look at the dashboard for the right one"
        return
    yield "validity", "the service knows the key", ""
    if account.balance is None:
        yield "balance", "the service did not say", ""
    else:
        advice = "" if account.balance > 0 else "Top up: no job will be accepted"
        yield "balance", f"{account.balance:.2f} USD", advice
    left = "the service named no limit" if stats.requests_left is None else f"{stats.requests_left} left this minute"
    yield "requests", left, ""
    yield "tasks", f"{stats.limit} at once to begin with; the team's limit is found as jobs run", ""


def _no_answer(origin: str, error: Exception) -> _Finding:
    if isinstance(error, RateLimitedError):
        return "service", f"{origin} refuses more requests for now: {error}", "Try again in a minute"
    words = str(error) or f"no answer within {_PATIENCE_S:g} s"
    advice = f"Look at the network, HTTPS_PROXY and {BASE_URL_VARIABLE}, and at the service's status page"
    return "service", f"{origin} does not answer as it should: {words}", advice
