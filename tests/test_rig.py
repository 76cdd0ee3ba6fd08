"""The rig itself: each thing that it is to notice is noticed."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blockbuster import BlockingError

from hailuo_async._images.frame import inspect_image

from .support.leftovers import Watch, children, sockets, threads, watching_the_loop


def test_a_thread_left_behind_fails_the_test() -> None:
    watch, leave = Watch(threads, 0.0), threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    with pytest.raises(pytest.fail.Exception, match="threads left behind"):
        watch.check()
    leave.set()
    thread.join()
    watch.check()


@pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc")
def test_a_socket_left_behind_fails_the_test() -> None:
    watch = Watch(sockets, 0.0)
    with socket.socket(), pytest.raises(pytest.fail.Exception, match="sockets left behind"):
        watch.check()
    watch.check()


@pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc")
def test_a_child_left_behind_fails_the_test() -> None:
    watch = Watch(children, 0.0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        with pytest.raises(pytest.fail.Exception, match=f"children left behind: .*{child.pid}"):
            watch.check()
        child.kill()
    watch.check()


async def test_a_task_left_behind_fails_the_test() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"tasks left behind: .*the forgotten one"):
        async with watching_the_loop():
            task = asyncio.create_task(asyncio.sleep(3600), name="the forgotten one")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_ends_by_itself_is_not_left_behind() -> None:
    async with watching_the_loop():
        asyncio.create_task(asyncio.sleep(0))  # noqa: RUF006


async def test_an_error_that_nobody_heard_fails_the_test() -> None:
    def fail() -> None:
        raise ValueError("nobody asks for this")

    with pytest.raises(pytest.fail.Exception, match="nobody asks for this"):
        async with watching_the_loop():
            asyncio.get_running_loop().call_soon(fail)


async def test_an_error_that_is_noticed_only_when_it_is_collected_fails_the_test() -> None:
    async def fail() -> None:
        raise ValueError("nobody asks for this")

    with pytest.raises(pytest.fail.Exception, match="nobody asks for this"):
        async with watching_the_loop():
            asyncio.create_task(fail())  # noqa: RUF006


async def test_the_package_may_not_block_the_loop(tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"what the test itself does holds up nobody")
    with pytest.raises(BlockingError):
        inspect_image("first_frame_image", picture)


async def test_the_loop_is_in_debug_mode() -> None:
    assert asyncio.get_running_loop().get_debug()
