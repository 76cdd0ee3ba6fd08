"""A server's own handler of a signal is called as before, and stands alone again when no stream is open."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import pytest
from anyio import to_thread

from hailuo_async.web.signals import ended_by_signals

pytestmark = pytest.mark.anyio


@pytest.fixture
def served() -> Iterator[list[int]]:
    """What the handler of a server was called with."""
    called: list[int] = []

    def handle(number: int, frame: object) -> None:
        called.append(number)

    before = signal.signal(signal.SIGTERM, handle)
    yield called
    assert signal.getsignal(signal.SIGTERM) is handle
    signal.signal(signal.SIGTERM, before)


async def raised() -> None:
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.01)


async def test_what_is_open_ends_and_the_server_hears_of_each_signal(served: list[int]) -> None:
    ended: list[str] = []
    with ended_by_signals(lambda: ended.append("stream")):
        await raised()
        await raised()
    assert (ended, served) == (["stream"] * 2, [signal.SIGTERM] * 2)
    await raised()
    assert (len(ended), len(served)) == (2, 3)


async def test_two_that_end_in_any_order_leave_nothing_behind(served: list[int]) -> None:
    ended: list[int] = []
    first = contextlib.ExitStack()
    for number in range(50):
        second = contextlib.ExitStack()
        second.enter_context(ended_by_signals(lambda number=number: ended.append(number)))  # type: ignore[misc]
        first.close()
        first = second
    await raised()
    assert (ended, served) == ([49], [signal.SIGTERM])
    first.close()


async def test_a_signal_that_no_server_handles_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ended_by_signals(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_outside_the_main_thread_nothing_is_changed(served: list[int]) -> None:
    def run() -> object:
        with ended_by_signals(lambda: None):
            return signal.getsignal(signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    assert await to_thread.run_sync(run) is handler
