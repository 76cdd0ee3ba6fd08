"""When an answer ends: not while the body of its request still comes, as a client that writes would not read it."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import Request
from starlette.types import Message

from hailuo_async.web.answers import json_answer
from hailuo_async.web.reply import Body, Reply

REFUSAL = json_answer({"message": "no"}, 422)


class Exchange:
    """A request whose body comes in these pieces, and all that happens in its order. It is long, if not said else."""

    def __init__(
        self, *pieces: bytes, version: str = "1.1", length: int | None = 9_000_000, is_left: bool = False, **bounds: Any
    ) -> None:
        self.log: list[str] = []
        self.headers: dict[bytes, bytes] = {}
        self._pieces, self._is_left = list(pieces), is_left
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self._scope: dict[str, Any] = {"type": "http", "http_version": version, "headers": headers}
        self.request = Request(self._scope, self._receive)
        self.body = Body(self.request, **bounds)

    async def _receive(self) -> Message:
        await anyio.lowlevel.checkpoint()  # as a server may
        if not self._pieces:
            if not self._is_left:
                await anyio.sleep_forever()
            self.log.append("left")
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        self.log.append(f"read {piece.decode()}")
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or self._is_left}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.headers = dict(message["headers"])
        else:
            words = "all that is said" if message["body"] else "the end"
            self.log.append(words if message.get("more_body", False) else f"{words}, closed")

    async def answer(self) -> list[str]:
        with anyio.fail_after(60):
            await Reply(REFUSAL, self.body)(self._scope, self._receive, self._send)
        return self.log


async def test_an_answer_that_is_known_early_is_sent_at_once_and_ends_when_the_body_has_come() -> None:
    exchange = Exchange(b"a", b"b", b"c")
    await anext(exchange.body.pieces())
    assert await exchange.answer() == ["read a", "all that is said", "read b", "read c", "the end, closed"]
    assert exchange.headers[b"connection"] == b"close"


async def test_an_answer_to_a_body_that_has_come_ends_at_once_and_the_connection_stays() -> None:
    exchange = Exchange(b"a")
    assert [piece async for piece in exchange.body.pieces()] == [b"a"]
    assert await exchange.answer() == ["read a", "all that is said, closed"]
    assert b"connection" not in exchange.headers


@pytest.mark.parametrize(("pieces", "length"), [((b"",), None), ((b"",), 0), ((b"a", b"b"), 2)])
async def test_a_short_body_that_no_handler_has_read_is_dropped_first_and_the_connection_stays(
    pieces: tuple[bytes, ...], length: int | None
) -> None:
    exchange = Exchange(*pieces, length=length)
    assert (await exchange.answer())[-1] == "all that is said, closed"
    assert b"connection" not in exchange.headers


async def test_a_body_that_was_read_before_is_read_from_there() -> None:
    exchange = Exchange(b"a", b"b")
    assert await exchange.request.body() == b"ab"
    with anyio.fail_after(60):
        assert b"".join([piece async for piece in exchange.body.pieces()]) == b"ab"
    assert await exchange.answer() == ["read a", "read b", "all that is said, closed"]


async def test_what_is_left_of_a_body_that_was_too_slow_is_dropped_all_the_same() -> None:
    exchange = Exchange(b"a", b"b")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(exchange.body.pieces())
    assert await exchange.answer() == ["all that is said", "read a", "read b", "the end, closed"]


async def test_what_is_dropped_is_bounded_in_bytes_and_in_time() -> None:
    large = Exchange(b"a", b"b", b"c", max_dropped=2)
    assert await large.answer() == ["all that is said", "read a", "read b", "the end, closed"]
    silent = Exchange(drop_s=0.01)
    assert await silent.answer() == ["all that is said", "the end, closed"]


async def test_a_visitor_who_leaves_ends_the_answer() -> None:
    assert await Exchange(b"a", is_left=True).answer() == ["all that is said", "read a", "left", "the end, closed"]


async def test_over_http_2_no_connection_is_closed_for_one_answer() -> None:
    exchange = Exchange(b"a", b"b", version="2")
    assert (await exchange.answer())[-1] == "the end, closed"
    assert b"connection" not in exchange.headers
