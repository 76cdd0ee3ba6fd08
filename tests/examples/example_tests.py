import sys
from pathlib import Path

import anyio
import pytest

from hailuo_async import AsyncSession, ImageToVideo, RequestRejectedError, Success
from hailuo_async.emulator import Emulator

pytestmark = pytest.mark.anyio
JOB = ImageToVideo("https://example.com/cat.jpg", prompt="[Push in] the cat looks up", key="cat")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_video_is_paid_for_once(modellix: Emulator) -> None:
    async with AsyncSession() as session:
        video = await session.generate(JOB)
    assert modellix.ledger.accepted == {JOB.prompt: [video.task_id]}


async def test_a_refused_job_is_not_sent_again(modellix: Emulator) -> None:
    modellix.next_fault("submit", "refuse")
    async with AsyncSession() as session:
        with pytest.raises(RequestRejectedError):
            await session.generate(JOB)
    assert (modellix.ledger.posts, modellix.ledger.submits_accepted) == (1, 0)


CRASHES = """
import asyncio, os
from hailuo_async import AsyncSession, ImageToVideo

async def main():
    async with AsyncSession(journal="videos.db") as session:
        generation = await session.submit(ImageToVideo("https://example.com/cat.jpg", key="cat"))
        await generation.accepted()
        os._exit(1)  # the service has the job, and nobody waits for it

asyncio.run(main())
"""


@pytest.mark.modellix(generation_s=2)
async def test_what_a_crash_left_is_not_paid_for_again(modellix: Emulator, tmp_path: Path) -> None:
    await anyio.run_process([sys.executable, "-c", CRASHES], cwd=tmp_path, check=False)
    async with AsyncSession(journal=tmp_path / "videos.db") as session:
        outcomes = [outcome async for outcome in session.resume()]
    assert [(type(outcome), outcome.key) for outcome in outcomes] == [(Success, "cat")]
    assert modellix.ledger.posts == 1
