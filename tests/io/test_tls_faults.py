"""A POST over TLS, cut and answered at every stage of its connection: what it counts as, and what its user reads."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random

import aiohttp
import anyio
import anyio.to_thread
import attrs
import pytest

from hailuo_async import ImageToVideo
from hailuo_async._io import http
from hailuo_async._io.http import Http
from hailuo_async._io.transport import was_begun
from hailuo_async._rules.wire import Answer, Verdict

from ..support.https import (
    CERTIFICATE,
    EXPIRED,
    KEY,
    TLS_1_2,
    TLS_1_3,
    ServerSide,
    client_session,
    connections,
    refused_certificates,
    serving,
    trusting,
)
from ..support.leftovers import sockets
from ..support.rawserver import response
from ..support.service import job, line_to, picture, request_for, settle, taken

POST = request_for(job())
#: The last bytes of its body.
END = b'"a cat"}'
ANSWER = response(200, taken())
BODY_AT = ANSWER.index(b"{")
UNSENT, UNKNOWN, ACCEPTED = Verdict.UNSENT, Verdict.UNKNOWN, Verdict.ACCEPTED

Conduct = Callable[[ServerSide], Awaitable[None]]


@attrs.define
class Service:
    """Where a service of some conduct is, and the connections to it: all, and those on which a whole POST came."""

    url: str = ""
    connections: int = 0
    posts: int = 0


@asynccontextmanager
async def service(conduct: Conduct, context: ssl.SSLContext) -> AsyncIterator[Service]:
    """A service of that conduct, whose connections end with it."""
    made = Service()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        side = ServerSide(reader, writer, context)
        try:
            await conduct(side)
        finally:
            made.posts += side.heard.endswith(END)

    async with connections(hear) as port:
        made.url = f"https://127.0.0.1:{port}"
        yield made


async def answer_of(conduct: Conduct, version: ssl.TLSVersion = TLS_1_3, timeout_s: float = 5.0) -> Answer:
    """What a POST to it comes to. It must have been sent over one connection alone."""
    async with service(conduct, serving(version)) as at, line_to(at.url) as line:
        answer = await line.send(POST, timeout_s)
    assert at.connections == 1
    return answer


# --- Cut, at each stage -----------------------------------------------------------------------------------------------


async def at_accept(side: ServerSide) -> None:
    side.cut()


async def at_hello(side: ServerSide) -> None:
    await side.flight()


async def in_flight(side: ServerSide) -> None:
    side.writer.write((await side.flight())[:100])


async def after_flight(side: ServerSide) -> None:
    side.writer.write(await side.flight())


async def with_alert(side: ServerSide) -> None:
    await side.flight()
    side.writer.write(bytes.fromhex("15 03 03 00 02 02 50"))  # fatal: internal_error


async def in_http(side: ServerSide) -> None:
    await side.reader.read(1)
    side.writer.write(b"HTTP/1.1 400 Told\r\n\r\n")


async def in_body(side: ServerSide) -> None:
    await side.shake()
    await side.read(b"\r\n\r\n")


def after_body(*said: Callable[[ServerSide], bytes]) -> Conduct:
    async def conduct(side: ServerSide) -> None:
        await side.shake()
        await side.read(END)
        for words in said:
            side.writer.write(words(side))
        await side.writer.drain()

    return conduct


async def half_closed(side: ServerSide) -> None:
    """``close_notify`` after the body, and no FIN."""
    await after_body(ServerSide.notify)(side)
    await anyio.sleep_forever()


def sealed(*pieces: bytes) -> Callable[[ServerSide], bytes]:
    return lambda side: b"".join(side.seal(piece) for piece in pieces)


def plain(piece: bytes) -> Callable[[ServerSide], bytes]:
    return lambda side: piece


CUTS: Mapping[str, tuple[Conduct, Verdict, str]] = {
    "at accept": (at_accept, UNSENT, "cannot connect to 127.0.0.1: "),
    "at the hello": (at_hello, UNSENT, "cannot connect to 127.0.0.1: "),
    "in the handshake": (in_flight, UNSENT, "cannot connect to 127.0.0.1: "),
    "by an alert": (with_alert, UNSENT, "cannot connect to 127.0.0.1: [SSL"),
    "by http": (in_http, UNSENT, "cannot connect to 127.0.0.1: there is no TLS: check the port"),
    "in the body": (in_body, UNKNOWN, "the connection was cut"),
    "after the body": (after_body(), UNKNOWN, "the connection was cut"),
    "by close_notify": (after_body(ServerSide.notify), UNKNOWN, "the connection was cut"),
    "by close_notify alone": (half_closed, UNKNOWN, "the connection was cut"),
    "in a record": (after_body(lambda side: side.seal(ANSWER)[:-5]), UNKNOWN, "the connection was cut"),
    "in the answer's head": (after_body(sealed(ANSWER[:9]), ServerSide.notify), UNKNOWN, "the connection was cut"),
    "after its head": (after_body(sealed(ANSWER[:BODY_AT]), ServerSide.notify), UNKNOWN, "the connection was cut"),
    "in its body": (after_body(sealed(ANSWER[:-5])), UNKNOWN, "the connection was cut"),
    "by an alert in the clear": (
        after_body(plain(bytes.fromhex("15 03 03 00 02 02 28"))),
        UNKNOWN,
        "the connection failed: [SSL",
    ),
    "by an answer in the clear": (after_body(plain(ANSWER)), UNKNOWN, "the connection failed: [SSL"),
    "by another protocol": (after_body(sealed(bytes(9))), UNKNOWN, "the answer is no HTTP that can be read"),
}


@pytest.mark.parametrize(("conduct", "verdict", "words"), CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("version", [pytest.param(TLS_1_2, marks=pytest.mark.slow), TLS_1_3])
async def test_a_post_is_in_doubt_only_if_it_was_begun(
    conduct: Conduct, verdict: Verdict, words: str, version: ssl.TLSVersion
) -> None:
    answer = await answer_of(conduct, version)
    assert (answer.verdict, answer.message[: len(words)]) == (verdict, words)


@pytest.mark.parametrize(("version", "verdict"), [(TLS_1_2, UNSENT), (TLS_1_3, UNKNOWN)])
async def test_a_cut_behind_the_servers_part_of_the_handshake_is_a_doubt_where_the_client_has_the_last_word(
    version: ssl.TLSVersion, verdict: Verdict
) -> None:
    assert (await answer_of(after_flight, version)).verdict is verdict


ANSWERS: Mapping[str, Conduct] = {
    "then close_notify": after_body(sealed(ANSWER), ServerSide.notify),
    "then a cut": after_body(sealed(ANSWER)),
    "in two records, then close_notify": after_body(sealed(ANSWER[:BODY_AT], ANSWER[BODY_AT:]), ServerSide.notify),
    "byte by byte": after_body(sealed(*(bytes([byte]) for byte in ANSWER))),
}


@pytest.mark.parametrize("conduct", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_is_whole_counts_however_its_connection_ends(conduct: Conduct) -> None:
    assert (await answer_of(conduct)).verdict is ACCEPTED


async def test_a_server_that_wants_a_certificate_of_the_client_says_so_too_late_for_certainty() -> None:
    context = serving()
    context.verify_mode = ssl.CERT_REQUIRED

    async with service(ServerSide.shake, context) as at, line_to(at.url) as line:
        answer = await line.send(POST, 60)
    assert (answer.verdict, "CERTIFICATE_REQUIRED" in answer.message) == (UNKNOWN, True)


async def test_on_a_connection_that_the_server_ends_before_it_is_used_nothing_was_sent() -> None:
    """With TLS 1.2 the server has the last word of the handshake. Here its end comes in the same packet."""

    async def conduct(side: ServerSide) -> None:
        await side.shake()
        side.writer.write(side.notify())

    answer = await answer_of(conduct, TLS_1_2)
    assert (answer.verdict, answer.message) == (UNSENT, "the connection was cut")


async def test_a_server_that_never_speaks_is_certainly_unsent_after_the_time_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(side: ServerSide) -> None:
        await anyio.sleep_forever()

    monkeypatch.setitem(http._MANNERS, "timeout", aiohttp.ClientTimeout(total=None, sock_connect=0.05))
    answer = await answer_of(say_nothing)
    assert (answer.verdict, answer.message) == (UNSENT, "no connection in time")


# --- Certificates, protocols, tickets ---------------------------------------------------------------------------------


accept = after_body(sealed(ANSWER), ServerSide.notify)


@refused_certificates
async def test_a_certificate_that_is_refused_is_named_with_what_to_check(served: str, trusted: str, words: str) -> None:
    async with service(accept, serving(certificate=served)) as at, line_to(at.url, tls=trusting(trusted)) as line:
        answer = await line.send(POST, 60)
    assert (answer.verdict, at.posts) == (UNSENT, 0)
    assert answer.message.startswith(f"cannot connect to 127.0.0.1: its certificate is refused: {words}")


async def test_a_certificate_that_expires_between_two_posts_stops_them_until_it_is_renewed() -> None:
    verdicts, context = [], serving()
    context.num_tickets = 0  # a connection that goes on with an earlier session has no certificate
    async with service(accept, context) as at, line_to(at.url, tls=trusting(CERTIFICATE, EXPIRED)) as line:
        for certificate in (CERTIFICATE, EXPIRED, CERTIFICATE):
            context.load_cert_chain(certificate, KEY)
            verdicts.append((await line.send(POST, 60)).verdict)
    assert verdicts == [ACCEPTED, UNSENT, ACCEPTED]


@pytest.mark.parametrize("tickets", [0, 1, 10])
@pytest.mark.parametrize("protocols", [["http/1.1"], ["h2"]], ids=str)
async def test_each_post_is_accepted_once_with_any_tickets_and_protocols(tickets: int, protocols: list[str]) -> None:
    context = serving()
    context.num_tickets = tickets
    context.set_alpn_protocols(protocols)
    async with service(accept, context) as at, line_to(at.url) as line:
        verdicts = [(await line.send(POST, 60)).verdict for _ in range(3)]
    assert (verdicts, at.connections, at.posts) == ([ACCEPTED] * 3, 3, 3)


# --- Given up, closed, and many of them -------------------------------------------------------------------------------


@attrs.define
class Stuck:
    """Comes as far as ``stage``, says so, and does nothing more."""

    stage: Callable[[ServerSide], Awaitable[object]]
    reached: anyio.Event = attrs.field(factory=anyio.Event)

    async def __call__(self, side: ServerSide) -> None:
        await self.stage(side)
        self.reached.set()
        await anyio.sleep_forever()

    async def given_up(self, line: Http) -> asyncio.CancelledError | None:
        """A POST that is cancelled there: its cancellation, or ``None`` if its answer was quicker."""
        sending = asyncio.ensure_future(line.send(POST, 60))
        await self.reached.wait()
        sending.cancel()
        try:
            await sending
        except asyncio.CancelledError as cancellation:
            return cancellation
        return None


@pytest.mark.parametrize(("stage", "begun"), [(ServerSide.flight, False), (in_body, True)])
async def test_a_cancelled_post_says_whether_it_was_begun(
    stage: Callable[[ServerSide], Awaitable[object]], begun: bool
) -> None:
    stuck = Stuck(stage)
    async with service(stuck, serving()) as at, line_to(at.url) as line:
        cancellation = await stuck.given_up(line)
    assert cancellation is not None
    assert was_begun(cancellation) is begun


@pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc")
@pytest.mark.parametrize("stage", [ServerSide.flight, in_body, after_body(sealed(ANSWER))])
@pytest.mark.parametrize("handed_in", [False, True])
async def test_a_closed_line_leaves_no_connection_though_the_server_never_ends_its_own(
    stage: Callable[[ServerSide], Awaitable[object]], handed_in: bool
) -> None:
    """TLS waits for the other side's ``close_notify``, by itself for 30 s."""
    stuck = Stuck(stage)
    async with service(stuck, serving()) as at:
        before = sockets()
        async with client_session() as theirs, line_to(at.url, theirs if handed_in else None) as line:
            await stuck.given_up(line)
        await settle()
        assert len(sockets() - before) <= 1  # the server's


@pytest.mark.slow
async def test_posts_that_are_cancelled_anywhere_leave_nothing_and_the_next_is_accepted() -> None:
    dice, cancelled = Random(7), 0
    heavy = await anyio.to_thread.run_sync(request_for, ImageToVideo(picture(400, 400), prompt="a cat"))
    async with service(accept, serving()) as at, line_to(at.url) as line:
        for _ in range(80):
            sending = asyncio.ensure_future(line.send(dice.choice((POST, heavy)), 5))
            for _ in range(dice.randrange(60)):
                await asyncio.sleep(0)
            sending.cancel()
            try:
                assert (await sending).verdict is ACCEPTED
            except asyncio.CancelledError:
                cancelled += 1
        assert (await line.send(POST, 60)).verdict is ACCEPTED
    assert 0 < cancelled < 80
    assert at.posts <= 81


@pytest.mark.slow
async def test_many_posts_hold_no_more_than_some_did() -> None:
    held = []
    async with service(accept, serving()) as at, line_to(at.url) as line:
        for _ in range(3):
            for _ in range(60):
                assert (await line.send(POST, 60)).verdict is ACCEPTED
            gc.collect()
            held.append(len(gc.get_objects()))
    assert held[-1] - held[0] < 60
