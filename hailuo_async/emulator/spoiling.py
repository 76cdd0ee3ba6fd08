"""What each fault makes of a request, and of the answer to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs

from .facts import RUNNING_LIMIT_WORDINGS
from .faults import Fault
from .wire import Delivery, Refusal, Reply, json_reply, refused

_GARBAGE = b"<html><body>The page you are looking for is temporarily unavailable"
_STRANGE_STATUS = "levitating"
_STRANGE_FIELDS: dict[str, object] = {"x_note": None, "x_list": [1, {"x": "y"}], "x_object": {"duration": "soon"}}

_STRANGE_AMOUNTS: tuple[object, ...] = (
    "much",
    "-0.2400",
    "NaN",
    "Infinity",
    "9" * 1000,
    "0.2400 EUR",
    "",
    {"usd": 1},
    -1,
)
_STRANGE_EXPIRIES: tuple[object, ...] = (1_786_000_000, 0, -1, 10**30, "tomorrow", None, True)


def strike(fault: Fault, dice: random.Random) -> Reply:
    """The answer to a request that this fault keeps from having any effect."""
    match fault:
        case Fault.REFUSE:
            return refused(Refusal(400, "Invalid parameters: refused on purpose"))
        case Fault.REFUSE_405:
            return refused(Refusal.of(405, "refused on purpose"))
        case Fault.REFUSE_415:
            return refused(Refusal.of(415, "refused on purpose"))
        case Fault.RUNNING_429:
            return refused(Refusal(429, dice.choice(RUNNING_LIMIT_WORDINGS).format(limit=0)))
        case Fault.RATE_429:
            return refused(Refusal(429, "Rate limit exceeded: refused on purpose"))
        case Fault.HANG_BEFORE:
            return Reply(200, delivery=Delivery.HANG)
        case Fault.CUT_BEFORE | Fault.CUT:
            return Reply(200, delivery=Delivery.CUT)
        case _:
            return _broken_down()


def spoil(fault: Fault, reply: Reply, dice: random.Random) -> Reply:
    """What this fault makes of the ``reply`` to a request that has succeeded."""
    match fault:
        case Fault.CUT_AFTER:
            return attrs.evolve(reply, delivery=Delivery.CUT)
        case Fault.HANG:
            return attrs.evolve(reply, delivery=Delivery.HANG)
        case Fault.TRUNCATED:
            return attrs.evolve(reply, delivery=Delivery.TRUNCATED)
        case Fault.GARBAGE:
            return Reply(reply.status, {"Content-Type": "text/html"}, _GARBAGE)
        case Fault.UNKNOWN_STATUS:
            return _rewritten(reply, lambda data: data | {"status": _STRANGE_STATUS})
        case Fault.WRONG_TASK_ID:
            return _rewritten(reply, lambda data: data | {"task_id": f"task-{dice.getrandbits(64):016x}"})
        case Fault.STRANGE_BILL:
            bill = {"status": "succeeded", "amount": dice.choice(_STRANGE_AMOUNTS)}
            return _rewritten(reply, lambda data: data | {"billing": bill})
        case Fault.STRANGE_EXPIRY:
            return _rewritten(reply, lambda data: data | {"result_expires_at": dice.choice(_STRANGE_EXPIRIES)})
        case Fault.EXTRA_FIELDS:
            return _with_strange_fields(reply)
        case Fault.MISSING_FIELDS:
            return _with_a_gap(reply, dice)
        case _:
            return _broken_down()


def _broken_down() -> Reply:
    return refused(Refusal.of(500, "broken on purpose"))


def _rewritten(reply: Reply, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Reply:
    envelope = reply.json()
    return json_reply(reply.status, envelope | {"data": change(envelope["data"])})


def _with_strange_fields(reply: Reply) -> Reply:
    envelope = reply.json()
    return json_reply(reply.status, {**_STRANGE_FIELDS, **envelope, "data": {**_STRANGE_FIELDS, **envelope["data"]}})


def _with_a_gap(reply: Reply, dice: random.Random) -> Reply:
    """Without a field that a client needs: the id of a pending task; of others the id, the status or the result."""

    def without_one(data: dict[str, Any]) -> dict[str, Any]:
        needed = ("task_id",) if data["status"] == "pending" else ("task_id", "status", "result")
        gone = dice.choice([name for name in needed if name in data])
        # The address to ask at holds the id too.
        return {name: value for name, value in data.items() if name not in (gone, "get_result")}

    return _rewritten(reply, without_one)
