"""The command ``doctor``: checks everything that a job needs, and says what to do if something is missing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Iterator

import anyio
import attrs

from hailuo_async._cli.keys import Key, session_with
from hailuo_async._cli.output import show
from hailuo_async.errors import HailuoError, RateLimitedError
from hailuo_async.outcomes import Account, Stats
from hailuo_async.settings import API_KEY_VARIABLE, BASE_URL_VARIABLE, DEFAULT_BASE_URL

#: A service that has not answered by then counts as unreachable.
_PATIENCE_S = 20.0
#: Without a key, this one asks whether the service can be reached at all.
_NO_KEY = "none"


@attrs.frozen
class Finding:
    """The result of one check. ``advice`` says what to do; it is empty if all is well."""

    name: str
    words: str
    advice: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether all is well."""
        return not self.advice

    @property
    def line(self) -> str:
        """The finding for people."""
        advice = f". {self.advice}" if self.advice else ""
        return f"{'ok' if self.is_ok else 'problem':<8} {self.name:<9} {self.words}{advice}"

    @property
    def facts(self) -> dict[str, object]:
        """The finding for machines."""
        return {"check": self.name, "ok": self.is_ok, "message": self.words, "advice": self.advice or None}


async def report(key: Key | None, *, is_json: bool) -> bool:
    """Prints each finding as it comes, and returns whether all are well. Raises ``ConfigError``."""
    is_well = True
    async with contextlib.aclosing(examine(key)) as findings:
        async for finding in findings:
            is_well &= finding.is_ok
            show(finding.facts, finding.line, is_json=is_json)
    return is_well


async def examine(key: Key | None) -> AsyncGenerator[Finding]:
    """The findings one after the other, up to a check whose failure makes the next ones impossible.

    A few requests, not charged for. The key itself is not shown. Raises ``ConfigError``, and
    ``click.UsageError`` for what cannot be a key.
    """
    origin = os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
    session = session_with(Key(_NO_KEY, "") if key is None else key)
    if key is None:
        yield Finding("key", "there is none", f"Set {API_KEY_VARIABLE}, or give --key-file")
    else:
        yield Finding("key", f"from {key.origin}")
    async with session:
        try:
            with anyio.fail_after(_PATIENCE_S):
                account = await session.account()
        except (HailuoError, TimeoutError) as error:
            yield _no_answer(origin, error)
            return
        yield Finding("service", f"{origin} answers")
        if key is not None:
            for finding in _about_account(account, session.stats()):
                yield finding


def _about_account(account: Account, stats: Stats) -> Iterator[Finding]:
    if not account.is_valid:
        yield Finding("validity", "the service does not know the key", "Look at the dashboard for the right one")
        return
    yield Finding("validity", "the service knows the key")
    if account.balance is None:
        yield Finding("balance", "the service did not say")
    else:
        advice = "" if account.balance > 0 else "Top up: no job will be accepted"
        yield Finding("balance", f"{account.balance:.2f} USD", advice)
    left = "the service named no limit" if stats.requests_left is None else f"{stats.requests_left} left this minute"
    yield Finding("requests", left)
    yield Finding("tasks", f"{stats.limit} at once to begin with; the team's limit is found as jobs run")


def _no_answer(origin: str, error: Exception) -> Finding:
    if isinstance(error, RateLimitedError):
        return Finding("service", f"{origin} refuses more requests for now: {error}", "Try again in a minute")
    words = str(error) or f"no answer within {_PATIENCE_S:g} s"
    advice = f"Look at the network, HTTPS_PROXY and {BASE_URL_VARIABLE}, and at the service's status page"
    return Finding("service", f"{origin} does not answer as it should: {words}", advice)
