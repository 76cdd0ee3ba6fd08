"""Queries and submits over an aiohttp session of the caller's own, whatever that was set up to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from hailuo_async import AsyncSession, ConfigError, SessionClosedError
from hailuo_async._io.http import Http
from hailuo_async._rules.wire import Answer, Verdict

from ..support.edge import POST, accept, saying
from ..support.rawserver import RawServer, raw_server
from ..support.service import KEY, SUBMIT_PATH, line_to


async def over(make: Callable[[], aiohttp.ClientSession], use: Callable[[Http], Awaitable[Answer]]) -> RawServer:
    """What a well-behaved server saw of a request over a caller's session."""
    async with raw_server(accept) as server, make() as theirs, line_to(server.url, theirs) as line:
        assert (await use(line)).verdict is Verdict.ACCEPTED
    return server


async def test_a_callers_own_headers_never_replace_ours() -> None:
    theirs = {
        "Authorization": "Bearer theirs",
        "Content-Type": "text/plain",
        "Connection": "keep-alive",
        "X-Trace": "7",
    }
    server = await over(lambda: aiohttp.ClientSession(headers=theirs), lambda line: line.send(POST, 60))
    sent = server.seen[0].headers
    assert sent["authorization"] == f"Bearer {KEY}"
    assert (sent["content-type"], sent["connection"], sent["x-trace"]) == ("application/json", "close", "7")


async def test_a_callers_retries_are_not_used() -> None:
    async def send_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        (await handler(request)).close()
        return await handler(request)

    server = await over(lambda: aiohttp.ClientSession(middlewares=(send_twice,)), lambda line: line.send(POST, 60))
    assert len(server.posts) == 1


async def test_a_callers_base_url_is_not_used() -> None:
    server = await over(lambda: aiohttp.ClientSession("http://127.0.0.1:1/x/"), lambda line: line.send(POST, 60))
    assert server.seen[0].target == SUBMIT_PATH


async def test_a_session_that_raises_for_statuses_raises_nothing_here() -> None:
    async with (
        raw_server(saying(500, {})) as server,
        aiohttp.ClientSession(raise_for_status=True) as theirs,
        line_to(server.url, theirs) as line,
    ):
        assert (await line.send(POST, 60)).status == 500


async def test_a_callers_session_stays_open_and_a_closed_one_sends_nothing() -> None:
    async with raw_server(accept) as server, aiohttp.ClientSession() as theirs:
        async with line_to(server.url, theirs) as line:
            await line.send(POST, 60)
        assert not theirs.closed
        await theirs.close()
        async with line_to(server.url, theirs) as line:
            assert (await line.send(POST, 60)).verdict is Verdict.UNSENT
    assert len(server.seen) == 1


def test_a_session_of_another_loop_is_refused_before_anything_is_sent() -> None:
    async def made() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def use(theirs: aiohttp.ClientSession) -> None:
        with pytest.raises(ConfigError, match="must be made on the loop that it is used on"):
            async with AsyncSession(api_key=KEY, client_session=theirs):
                pass

    with asyncio.Runner() as runner:
        theirs = runner.run(made())
        asyncio.run(use(theirs))
        runner.run(theirs.close())


@pytest.mark.parametrize("error", [LookupError("a bug"), SessionClosedError(reason="another one is closed")])
async def test_tracing_that_fails_decides_nothing_about_money(error: Exception) -> None:
    """A caller's own hooks may raise anything: before the body has begun nothing was sent, after it there is a doubt.

    They may use this library, too: its errors are taken for a reason to send the job again only from the body itself.
    """

    async def fail(*_: object) -> None:
        raise error

    early, late = aiohttp.TraceConfig(), aiohttp.TraceConfig()
    early.on_request_start.append(fail)
    late.on_request_end.append(fail)
    verdicts = []
    async with raw_server(accept) as server:
        for traces in (early, late):
            async with aiohttp.ClientSession(trace_configs=[traces]) as theirs, line_to(server.url, theirs) as line:
                verdicts.append((await line.send(POST, 60)).verdict)
    assert verdicts == [Verdict.UNSENT, Verdict.UNKNOWN]
    assert len(server.posts) == 1
