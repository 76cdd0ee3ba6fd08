"""One request in, one answer out: what the HTTP edge makes of servers that cut, stall, redirect and lie."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import ssl

import aiohttp
import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from hailuo_async._io.http import END_TIMEOUT_S, LAST_LOOK_S, MAX_ANSWER_BYTES, proxy_for
from hailuo_async._rules.wire import Refusal, Request, Verdict, build_query
from hailuo_async.errors import ConfigError, SessionClosedError

from ..support.edge import POST, accept, answer_of, closed_port, saying
from ..support.https import client_session, over_both
from ..support.leaping import Leap
from ..support.rawserver import Behaviour, Exchange, raw_server, response
from ..support.service import CONCURRENT, KEY, SUBMIT_PATH, TOO_MANY, line_to, settle, taken

GET = build_query("task-1")


# --- What is sent ---------------------------------------------------------------------------------------------------


async def test_a_post_says_what_the_seed_says_and_carries_the_key() -> None:
    answer, server = await answer_of(accept)
    (post,) = server.seen
    assert (post.method, post.target) == ("POST", SUBMIT_PATH)
    assert post.headers["authorization"] == f"Bearer {KEY}"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["content-length"] == str(len(post.body))
    assert json.loads(post.body) == {"first_frame_image": "https://pictures.example/cat.jpg", "prompt": "a cat"}
    assert (answer.verdict, answer.data["task_id"]) == (Verdict.ACCEPTED, "task-1")


async def test_a_get_has_no_body_and_no_type() -> None:
    _, server = await answer_of(accept, GET)
    (get,) = server.seen
    assert (get.method, get.target, get.body) == ("GET", "/api/v1/tasks/task-1", b"")
    assert "content-type" not in get.headers
    assert get.headers["authorization"] == f"Bearer {KEY}"


# --- A POST has a connection of its own -----------------------------------------------------------------------------


@over_both
@pytest.mark.parametrize("handed_in", [False, True])
async def test_queries_share_a_connection_and_each_post_has_its_own(
    handed_in: bool, tls: ssl.SSLContext | None
) -> None:
    async with (
        raw_server(accept, tls) as server,
        client_session() as theirs,
        line_to(server.url, theirs if handed_in else None) as line,
    ):
        for request in (GET, POST, GET, POST, POST, GET):
            assert (await line.send(request, 60)).verdict is Verdict.ACCEPTED
    connections = [(exchange.method, exchange.connection) for exchange in server.seen]
    assert connections == [("GET", 1), ("POST", 2), ("GET", 1), ("POST", 3), ("POST", 4), ("GET", 1)]
    assert {exchange.headers.get("connection") for exchange in server.posts} == {"close"}


@over_both
@pytest.mark.parametrize("handed_in", [False, True])
async def test_a_server_that_drops_idle_connections_at_the_worst_moment_makes_no_doubt(
    handed_in: bool, tls: ssl.SSLContext | None
) -> None:
    """It answers one request on each connection, keeps it alive, and drops it when the next request is written."""
    used = set[int]()

    async def drop_the_second(exchange: Exchange) -> None:
        if exchange.connection in used:
            exchange.cut()
        else:
            used.add(exchange.connection)
            await accept(exchange)

    async with (
        raw_server(drop_the_second, tls) as server,
        client_session() as theirs,
        line_to(server.url, theirs if handed_in else None) as line,
    ):
        verdicts = []
        for _ in range(20):
            await line.send(GET, 60)
            verdicts.append((await line.send(POST, 60)).verdict)
    assert verdicts == [Verdict.ACCEPTED] * 20
    assert len(server.posts) == 20


# --- Cut --------------------------------------------------------------------------------------------------------------


async def cut_at_once(exchange: Exchange) -> None:
    exchange.cut()


async def cut_in_the_body(exchange: Exchange) -> None:
    await exchange.reader.readexactly(10)
    exchange.cut()


async def cut_after_the_body(exchange: Exchange) -> None:
    await exchange.read_body()
    exchange.cut()


async def end_after_the_body(exchange: Exchange) -> None:
    await exchange.read_body()
    exchange.writer.close()


def half_an_answer(part: slice) -> Behaviour:
    async def send_half(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(response(200, taken())[part])
        exchange.writer.close()

    return send_half


CUTS: dict[str, Behaviour] = {
    "after the head": cut_at_once,
    "in the body": cut_in_the_body,
    "after the body": cut_after_the_body,
    "politely, after the body": end_after_the_body,
    "in the answer's head": half_an_answer(slice(9)),
    "after the answer's head": half_an_answer(slice(response(200, taken()).index(b"{"))),
    "in the answer's body": half_an_answer(slice(-5)),
}


@over_both
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("handed_in", [False, True])
async def test_a_post_that_is_cut_is_in_doubt_and_is_sent_once(
    cut: Behaviour, handed_in: bool, tls: ssl.SSLContext | None
) -> None:
    async with raw_server(cut, tls) as server, client_session() as theirs:
        async with line_to(server.url, theirs if handed_in else None) as line:
            answer = await line.send(POST, 60)
        await asyncio.sleep(0)
    assert answer.verdict is Verdict.UNKNOWN
    assert len(server.seen) == 1


def without_an_end(head: str, *, cut: bool) -> Behaviour:
    body = json.dumps(taken())

    async def send_too_little(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(f"HTTP/1.1 200 Told\r\n{head.format(len(body))}\r\n\r\n".encode())
        await exchange.send((f"{len(body):x}\r\n{body}\r\n" if "chunked" in head else body).encode())
        if cut:
            exchange.writer.close()
        else:
            await exchange.reader.read()

    return send_too_little


@over_both
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked", "Content-Length: 1{}"])
async def test_an_acceptance_that_came_whole_counts_though_its_connection_is_cut_or_stays_open(
    head: str, cut: bool, tls: ssl.SSLContext | None
) -> None:
    answer, _ = await answer_of(without_an_end(head, cut=cut), tls=tls)
    assert (answer.verdict, answer.task_id) == (Verdict.ACCEPTED, taken()["data"]["task_id"])


async def test_an_answer_that_comes_slowly_is_read_to_its_end() -> None:
    """Its first half ends as a whole answer does."""
    whole = response(200, {"data": taken()["data"], **taken()})
    half = whole.index(b"}") + 1

    async def pause(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(whole[:half])
        await asyncio.sleep(2 * END_TIMEOUT_S)
        await exchange.send(whole[half:])

    answer, _ = await answer_of(pause)
    assert (answer.verdict, answer.task_id) == (Verdict.ACCEPTED, taken()["data"]["task_id"])


async def test_a_cut_is_told_in_plain_words() -> None:
    answer, _ = await answer_of(end_after_the_body)
    assert answer.message == "the connection was cut"


async def test_a_connection_closed_before_anything_is_read_is_a_doubt_too() -> None:
    """The head may have left by then: nobody here can tell."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server, line_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as line:
        assert (await line.send(POST, 60)).verdict is Verdict.UNKNOWN


async def test_a_connection_that_is_lost_before_the_body_leaves_makes_no_doubt() -> None:
    """As over uvloop, where a TLS handshake that was cut in a tunnel passes for one that is done."""

    async def lose_it(*_: object) -> None:
        for protocol in theirs.connector._acquired if theirs.connector else ():
            if protocol.transport is not None:
                protocol.transport.close()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(lose_it)
    async with (
        raw_server(accept) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as theirs,
        line_to(server.url, theirs) as line,
    ):
        answer = await line.send(POST, 60)
    assert (answer.verdict, answer.message) == (Verdict.UNSENT, "the connection was cut")
    assert server.seen == []


async def test_a_query_that_a_callers_hook_cuts_short_with_an_error_of_ours_is_made_again() -> None:
    """The task is paid for: only the service's word ends the wait for it."""

    async def refuse(*_: object) -> None:
        raise SessionClosedError(reason="another session of this program is closed")

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(refuse)
    async with aiohttp.ClientSession(trace_configs=[trace]) as theirs, line_to("http://localhost:1", theirs) as line:
        for is_alone in (False, True):
            answer = await line.send(build_query("task-1", None, is_alone=is_alone), 60)
            assert (answer.verdict, answer.problem) == (Verdict.UNSENT, None)


@over_both
@pytest.mark.parametrize("dripped", [response(200, taken()), b""], ids=["drip", "hang"])
async def test_an_answer_that_takes_too_long_is_a_doubt(leap: Leap, dripped: bytes, tls: ssl.SSLContext | None) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.read_body()
        for byte in dripped:
            await exchange.send(bytes([byte]))
            await settle()
            leap(1)
        leap(60)
        await settle()
        leap(LAST_LOOK_S)
        await anyio.sleep_forever()

    answer, server = await answer_of(stall, timeout_s=60, tls=tls)
    assert (answer.verdict, answer.message) == (Verdict.UNKNOWN, "no answer in time")
    assert len(server.seen) == 1


# --- Redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("request_", [POST, GET], ids=["POST", "GET"])
async def test_a_redirect_is_followed_by_nobody(status: int, request_: Request) -> None:
    async with raw_server(accept) as elsewhere:

        async def redirect(exchange: Exchange) -> None:
            await exchange.read_body()
            body = b"" if status == 304 else taken()
            await exchange.reply(status, body, {"Location": elsewhere.url + SUBMIT_PATH})

        answer, server = await answer_of(redirect, request_)
        assert (answer.verdict, answer.status) == (Verdict.UNKNOWN, status)
        assert len(server.seen) == 1
        assert elsewhere.connections == 0


# --- Never begun: certainly unsent ------------------------------------------------------------------------------------


async def test_a_refused_connection_is_certainly_unsent() -> None:
    async with line_to(f"http://127.0.0.1:{closed_port()}") as line:
        answer = await line.send(POST, 60)
    assert answer.verdict is Verdict.UNSENT
    assert answer.message.startswith("cannot connect to 127.0.0.1: ")


class Nowhere(AbstractResolver):
    """Knows no names."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(None, f"no address for {host}")

    async def close(self) -> None:
        """Nothing to let go of."""


async def test_a_name_that_cannot_be_resolved_is_certainly_unsent() -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Nowhere())) as theirs,
        line_to("https://service.example", theirs) as line,
    ):
        answer = await line.send(POST, 60)
    assert answer.verdict is Verdict.UNSENT
    assert "service.example" in answer.message


@pytest.mark.parametrize(("greeting", "message"), [(b"HTTP/1.1 400 No\r\n\r\n", None), (b"", "no answer in time")])
async def test_a_tls_handshake_that_fails_or_hangs_is_certainly_unsent(greeting: bytes, message: str | None) -> None:
    heard = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(2**16))
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, line_to(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as line:
        answer = await line.send(POST, 0.2)
    assert answer.verdict is Verdict.UNSENT
    assert message in (None, answer.message)
    assert KEY.encode() not in b"".join(heard)


async def test_a_proxy_that_refuses_to_connect_is_certainly_unsent_and_sees_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(403, {})

    async with raw_server(refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://user:pass@"))
        async with line_to("https://service.example") as line:
            answer = await line.send(POST, 60)
    (connect,) = proxy.seen
    assert answer.verdict is Verdict.UNSENT
    assert (connect.method, connect.target) == ("CONNECT", "service.example:443")
    assert KEY not in str(connect.headers)
    assert answer.message == "the proxy refused the connection: HTTP 403"


# --- Answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, [], "text", None, {}, {"data": None}, {"code": 0, "data": []}],
    ids=str,
)
async def test_a_2xx_that_is_no_envelope_is_a_doubt(content: object) -> None:
    answer, _ = await answer_of(saying(200, content))
    assert (answer.verdict, answer.status) == (Verdict.UNKNOWN, 200)


@pytest.mark.parametrize("status", [408, 409, 418, 425, 500, 502, 503, 504, 599])
async def test_a_status_that_does_not_refuse_for_certain_is_a_doubt(status: int) -> None:
    answer, _ = await answer_of(saying(status, taken()))
    assert (answer.verdict, answer.status) == (Verdict.UNKNOWN, status)


@pytest.mark.parametrize(
    ("content", "refusal"), [(CONCURRENT, Refusal.RUNNING_LIMIT), (TOO_MANY, Refusal.REQUEST_RATE)]
)
async def test_a_429_is_certainly_refused_and_says_for_what(content: object, refusal: Refusal) -> None:
    answer, _ = await answer_of(saying(429, content))
    assert (answer.verdict, answer.refusal) == (Verdict.REFUSED, refusal)


async def test_a_refusal_whose_body_was_cut_is_a_refusal_all_the_same() -> None:
    """The status alone says that nothing was accepted."""

    async def refuse_by_half(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(response(402, {"code": 402, "message": "insufficient balance"})[:-7])
        exchange.writer.close()

    answer, _ = await answer_of(refuse_by_half)
    assert (answer.verdict, answer.refusal, answer.is_envelope) == (Verdict.REFUSED, Refusal.BALANCE, False)


@over_both
async def test_an_answer_over_a_mebibyte_is_not_read_to_its_end(tls: ssl.SSLContext | None) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(b"HTTP/1.1 200 Told\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            await exchange.send(b" " * 2**20)

    answer, _ = await answer_of(flood, tls=tls)
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.message == f"an answer of more than {MAX_ANSWER_BYTES} bytes"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "zip bomb"])
@pytest.mark.parametrize("handed_in", [False, True])
async def test_an_encoded_answer_is_not_decoded_and_cannot_accept(encoding: str, handed_in: bool) -> None:
    body = gzip.compress(json.dumps(taken()).encode())
    behaviour = saying(200, body, {"Content-Encoding": encoding})
    async with (
        raw_server(behaviour) as server,
        aiohttp.ClientSession() as theirs,
        line_to(server.url, theirs if handed_in else None) as line,
    ):
        answer = await line.send(POST, 60)
    assert (answer.verdict, answer.status) == (Verdict.UNKNOWN, 200)
    assert answer.message.startswith(f"an answer in '{encoding}', although it was asked for as it is")


async def test_an_encoded_refusal_is_a_refusal_by_its_status_alone() -> None:
    answer, _ = await answer_of(saying(402, gzip.compress(b"{}"), {"Content-Encoding": "gzip"}))
    assert (answer.verdict, answer.message, answer.is_envelope) == (Verdict.REFUSED, "HTTP 402", False)


@pytest.mark.parametrize("encoding", ["identity", "", " Identity ", "utf-8", "none", "aws-chunked", "gzip"])
async def test_an_answer_that_is_as_it_is_is_read_whatever_it_says(encoding: str) -> None:
    answer, _ = await answer_of(saying(200, taken(), {"Content-Encoding": encoding}))
    assert answer.verdict is Verdict.ACCEPTED


UNUSUAL: dict[str, list[str]] = {
    "long": ["X-Trace: " + "x" * 100_000],
    "many": [f"X-{number}: {number}" for number in range(2000)],
    "doubled": ["X-RateLimit-Remaining: 5", "Retry-After: 3", "Date: Wed, 25 Nov 2026 18:00:00 GMT"] * 2,
    "doubled length": [f"Content-Length: {len(json.dumps(taken()))}"],
    "in Latin-1": ["X-Name: Zoë"],
}


@pytest.mark.parametrize("lines", UNUSUAL.values(), ids=UNUSUAL.keys())
@pytest.mark.parametrize("handed_in", [False, True])
async def test_headers_that_are_unusual_and_legal_make_no_doubt(lines: list[str], handed_in: bool) -> None:
    if handed_in and lines is UNUSUAL["doubled length"]:
        pytest.skip("aiohttp's own parser refuses that, and a session that is handed in keeps its own connector")

    async def reply(exchange: Exchange) -> None:
        await exchange.read_body()
        head, _, body = response(200, taken()).partition(b"\r\n\r\n")
        await exchange.send(b"\r\n".join((head, *(line.encode("latin-1") for line in lines), b"", body)))

    async with (
        raw_server(reply) as server,
        aiohttp.ClientSession() as theirs,
        line_to(server.url, theirs if handed_in else None) as line,
    ):
        assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED


async def test_a_query_that_is_to_be_alone_goes_over_a_connection_of_its_own() -> None:
    async with raw_server(accept) as server, line_to(server.url) as line:
        for is_alone in (False, True, False, True):
            await line.send(build_query("task-1", is_alone=is_alone), 60)
    assert [exchange.connection for exchange in server.seen] == [1, 2, 1, 3]
    assert server.seen[1].headers["connection"] == "close"


async def test_over_http_localhost_is_this_machine_whatever_dns_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(*_: object, **__: object) -> list[object]:
        raise AssertionError("localhost was looked up")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", elsewhere)
    async with raw_server(accept) as server, line_to(server.url.replace("127.0.0.1", "localhost")) as line:
        assert (await line.send(POST, 60)).verdict is Verdict.ACCEPTED


async def test_a_session_that_was_closed_is_named_at_once() -> None:
    async with raw_server(accept) as server, aiohttp.ClientSession() as theirs, line_to(server.url, theirs) as line:
        await theirs.close()
        answer = await line.send(POST, 60)
        assert (answer.verdict, server.seen) == (Verdict.UNSENT, [])
        assert isinstance(answer.problem, ConfigError)
        assert answer.problem.field == "client_session"


async def test_in_a_child_that_was_forked_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(accept) as server, line_to(server.url) as line:
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 0)
            answers = [await line.send(request, 60) for request in (POST, GET)]
    assert [(answer.verdict, type(answer.problem)) for answer in answers] == [(Verdict.UNSENT, SessionClosedError)] * 2
    assert server.connections == 0


@pytest.mark.parametrize(
    ("variable", "proxy", "shown"),
    [
        ("HTTPS_PROXY", "socks5h://user:secret@127.0.0.1:1080", "socks5h://127.0.0.1:1080"),
        ("https_proxy", "socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ("https_proxy", "proxy.example:3128", "proxy.example:3128"),
        ("HTTPS_PROXY", "http://", "http://"),
        ("HTTPS_PROXY", "http://[::1", "http://[::1"),
        ("HTTPS_PROXY", "http://proxy.example:99999", "http://proxy.example:99999"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_with_its_variable_and_without_its_password(
    variable: str, proxy: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(ConfigError) as caught:
        proxy_for("https://api.modellix.ai")
    assert (caught.value.field, caught.value.value) == (variable, shown)
    assert "secret" not in str(caught.value)
    assert proxy_for("https://localhost:1") is None
    monkeypatch.setenv("NO_PROXY", "api.modellix.ai")
    assert proxy_for("https://api.modellix.ai") is None


async def test_a_long_answer_within_the_bound_is_read() -> None:
    answer, _ = await answer_of(saying(200, taken() | {"padding": "x" * (2**20 - 1000)}))
    assert answer.verdict is Verdict.ACCEPTED


async def test_the_services_words_never_repeat_the_key() -> None:
    answer, _ = await answer_of(saying(401, {"code": 401, "message": f"Authentication failed: no such key {KEY}"}))
    assert answer.message == "Authentication failed: no such key (hidden)"
