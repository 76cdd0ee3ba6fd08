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
