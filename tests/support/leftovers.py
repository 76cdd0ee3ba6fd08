"""What a test has left behind: threads, sockets, child processes, and on its loop tasks and complaints."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

#: A thread that was told to end and a child that was killed take a moment to be gone. Only a leak waits so long.
PATIENCE_S = 20.0
#: A task that was cancelled, or a transport that was closed, is gone after a few rounds of the loop.
ROUNDS = 20


def threads() -> set[object]:
    """Every thread that lives."""
    return set(threading.enumerate())


def sockets() -> set[object]:
    """Every open socket, by its inode. Empty where there is no ``/proc``."""
    found = set[object]()
    with contextlib.suppress(FileNotFoundError):
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {link for link in found if str(link).startswith("socket:")}


def children() -> set[object]:
    """The process ids of our children. Empty where there is no ``/proc``."""
    found = set[object]()
    with contextlib.suppress(ChildProcessError, AttributeError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # only asks whether there are any: it is quick
        found = _children_in_proc()
    return found


def _children_in_proc() -> set[object]:
    found = set[object]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _, parent, *_ = stat.read_text().rpartition(")")[2].split()
            if int(parent) == os.getpid():
                found.add(stat.parent.name)
    return found


@attrs.define
class Watch:
    """Remembers what there was when it was made."""

    _look: Callable[[], set[object]]
    _patience_s: float = PATIENCE_S
    _before: set[object] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._before = self._look()

    def check(self) -> None:
        """Fails the test if there is more now than there was, and goes on being so."""
        give_up = time.monotonic() + self._patience_s
        while left := self._look() - self._before:
            if time.monotonic() > give_up:
                pytest.fail(f"{self._look.__name__} left behind: {left}", pytrace=False)
            time.sleep(0.005)


@contextlib.asynccontextmanager
async def watching_the_loop() -> AsyncIterator[None]:
    """Fails the test if a task is left, or anything went to the loop's exception handler.

    Objects that complain when they are collected, such as a task that was forgotten or a session that was not closed,
    are collected before it looks.
    """
    loop, before = asyncio.get_running_loop(), _tasks()
    loop.slow_callback_duration = math.inf  # a busy machine is not a fault; what blocks the loop, ``conftest`` finds
    gc.freeze()  # what was there before is not looked through, which makes the collection below cheap
    complaints: list[dict[str, Any]] = []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        yield
        left = await _tasks_left(before)
        gc.collect()
        await asyncio.sleep(0)
    finally:
        gc.unfreeze()
        loop.set_exception_handler(handler)
    if left or complaints:
        pytest.fail(f"tasks left behind: {left}; given to the loop's handler: {complaints}", pytrace=False)


async def _tasks_left(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    left = _tasks() - before
    for _ in range(ROUNDS):
        if not left:
            break
        await asyncio.sleep(0)
        left = _tasks() - before
    return left


def _tasks() -> set[asyncio.Task[Any]]:
    """Every task of the loop but the two in which anyio's plugin runs tests and fixtures."""
    return {task for task in asyncio.all_tasks() if not _name(task).startswith("TestRunner.")}


def _name(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", ""))
