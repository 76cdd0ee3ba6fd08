"""Every POST connects anew, and is spared a whole handshake where the server remembers the last one."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref

import pytest

from hailuo_async import AsyncSession
from hailuo_async._io.tls import MOST_HOSTS, ResumingContext
from hailuo_async._rules.wire import Verdict

from ..support.https import TLS_1_2, TLS_1_3, connections, serving
from ..support.rawserver import Exchange, raw_server
from ..support.service import finished, job, line_to, request_for, taken

POST = request_for(job())
VERSIONS = [TLS_1_2, TLS_1_3]


class Accepting:
    """Takes every job, and notes which connections went on with an earlier session."""

    def __init__(self) -> None:
        self.resumed: list[bool] = []

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.read_body()
        if exchange.method == "POST":
            self.resumed.append(exchange.writer.get_extra_info("ssl_object").session_reused)
        await exchange.reply(200, taken() if exchange.method == "POST" else finished())


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_post_has_its_own_connection_and_goes_on_with_the_session_of_the_last(
    version: ssl.TLSVersion,
) -> None:
    accepting = Accepting()
    async with raw_server(accepting, serving(version)) as server, line_to(server.url) as line:
        for _ in range(3):
            assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED
    assert [exchange.connection for exchange in server.posts] == [1, 2, 3]
    assert accepting.resumed == [False, True, True]


async def test_a_server_that_knows_the_session_no_more_shakes_hands_as_usual() -> None:
    before, after = Accepting(), Accepting()
    async with (
        raw_server(before, serving()) as old,
        raw_server(after, serving()) as new,
        line_to(old.url) as line,
        line_to(new.url, tls=line.tls) as other,
    ):
        assert [(await each.send(POST, 5)).verdict for each in (line, other)] == [Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert (before.resumed, after.resumed) == ([False], [False])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_that_is_not_over_does_not_keep_others_from_connecting(version: ssl.TLSVersion) -> None:
    context = ResumingContext.open()
    context.maximum_version = version
    for _ in range(3):
        begun = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            begun.do_handshake()


async def test_after_a_handshake_that_was_cut_the_next_connection_stands() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with (
        connections(cut) as port,
        raw_server(Accepting(), serving()) as server,
        line_to(f"https://127.0.0.1:{port}") as cut_line,
        line_to(server.url, tls=cut_line.tls) as line,
    ):
        answer = await cut_line.send(POST, 5)
        assert answer.verdict is Verdict.UNSENT
        assert answer.message.startswith("cannot connect to 127.0.0.1: ")
        assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_that_a_server_refuses_is_not_offered_again(version: ssl.TLSVersion) -> None:
    accepting, refused = Accepting(), 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        await reader.read(1)
        refused += 1
        writer.write(bytes.fromhex("15 03 03 00 02 02 28"))  # a fatal alert: handshake_failure
        await writer.drain()

    async with raw_server(accepting, serving(version)) as server, line_to(server.url) as line:
        assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED
        async with connections(refuse) as port, line_to(f"https://127.0.0.1:{port}", tls=line.tls) as refused_line:
            assert (await refused_line.send(POST, 5)).verdict is Verdict.UNSENT
        assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED
        assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED
    assert (refused, accepting.resumed) == (1, [False, False, True])


def test_a_context_that_has_let_go_of_its_connections_is_freed() -> None:
    context = ResumingContext.open()
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    left = weakref.ref(context)
    context.forget()
    del context
    gc.collect()
    assert left() is None


async def test_a_closed_line_lets_go_of_its_connections() -> None:
    async with raw_server(Accepting(), serving()) as server:
        async with line_to(server.url) as line:
            assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED
            assert line.tls is not None
            assert len(line.tls._newest) == 1
        assert line.tls._newest == {}


def test_of_many_hosts_it_holds_the_connections_to_the_newest() -> None:
    context = ResumingContext.open()
    for number in range(3 * MOST_HOSTS):
        for host in ("api.example", f"{number}.results.example"):
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=host)
    assert list(context._newest)[-2:] == ["api.example", f"{3 * MOST_HOSTS - 1}.results.example"]
    assert len(context._newest) == MOST_HOSTS


@pytest.mark.usefixtures("trusted")
def test_it_is_as_strict_as_the_default() -> None:
    names = (
        "protocol",
        "verify_mode",
        "check_hostname",
        "verify_flags",
        "options",
        "minimum_version",
        "maximum_version",
    )
    ours, default = ResumingContext.open(), ssl.create_default_context()
    assert {name: getattr(ours, name) for name in names} == {name: getattr(default, name) for name in names}
    assert ours.verify_mode is ssl.CERT_REQUIRED
    assert ours.check_hostname
    assert ours.get_ca_certs() == default.get_ca_certs() != []


@pytest.mark.usefixtures("trusted")
async def test_a_session_resumes_by_itself() -> None:
    accepting = Accepting()
    async with raw_server(accepting, serving()) as server, AsyncSession(api_key="key", base_url=server.url) as session:
        for _ in range(2):
            await (await session.submit(job())).accepted()
    assert accepting.resumed == [False, True]
