"""A process that forks while a session is open: the child may open its own, and sends nothing over the parent's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hailuo_async.emulator import Emulator

from ..support.programs import run_program

PROGRAM = """
import asyncio, os, warnings
from hailuo_async import AsyncSession, ImageToVideo, SessionClosedError

def job(prompt):
    return ImageToVideo("https://example.com/cat.jpg", prompt=prompt, key=prompt)

async def own():
    async with AsyncSession(journal=journal) as other:
        await other.generate(job("the child's"))

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
journal = {journal}
loop = asyncio.new_event_loop()
session = AsyncSession(journal=journal)
loop.run_until_complete(session.__aenter__())
loop.run_until_complete(session.account())
if (child := os.fork()) == 0:
    for use in (session.submit(job("never sent")), session.aclose()):
        try:
            loop.run_until_complete(use)
        except SessionClosedError as error:
            print(error, flush=True)
    asyncio.run(own())
    os._exit(0)
_, status = os.waitpid(child, 0)
loop.run_until_complete(session.generate(job("the parent's")))
loop.run_until_complete(session.aclose())
loop.close()
print(status)
"""


WAITING = """
import asyncio, os, warnings
from hailuo_async import AsyncSession, ImageToVideo, SessionClosedError

async def ended(generation):
    return await generation

async def seen(generation):
    return [status async for status in generation.updates()]

warnings.simplefilter("ignore", DeprecationWarning)
loop = asyncio.new_event_loop()
session = AsyncSession(journal={journal})
loop.run_until_complete(session.__aenter__())
prompt = "https://example.com/cat.jpg"
first = loop.run_until_complete(session.submit(ImageToVideo(prompt, key="first")))
video = loop.run_until_complete(ended(first))
second = loop.run_until_complete(session.submit(ImageToVideo(prompt, key="second")))
task_id = loop.run_until_complete(second.accepted())
if (child := os.fork()) == 0:
    for wait in (ended, seen):
        try:
            loop.run_until_complete(wait(second))
        except SessionClosedError as error:
            print(error.reason, error.task_id == task_id, flush=True)
    print(loop.run_until_complete(ended(first)) == video, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(loop.run_until_complete(ended(second)).task_id == task_id)
loop.run_until_complete(session.aclose())
loop.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["None", "'batch.db'"])
def test_a_child_does_not_wait_for_what_its_parent_waits_for(folder: Path, service: Emulator, journal: str) -> None:
    """The parent's threads are not there in it: with a journal it waited without end."""
    refused = (
        "this generation belongs to the process that submitted it: wait for it there,"
        " or attach its task in a session here True"
    )
    assert run_program(WAITING.format(journal=journal), folder, service) == [refused, refused, "True", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["None", "'batch.db'"])
def test_a_child_sends_nothing_over_its_parents_session_and_has_its_own(
    folder: Path, service: Emulator, journal: str
) -> None:
    refused = "the session belongs to the process that opened it: open another one after each fork; nothing was sent"
    assert run_program(PROGRAM.format(journal=journal), folder, service) == [refused, refused, "0"]
    assert {prompt: len(tasks) for prompt, tasks in service.ledger.accepted.items()} == {
        "the child's": 1,
        "the parent's": 1,
    }
