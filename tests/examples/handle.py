import asyncio
from pathlib import Path

from hailuo_async import AsyncSession, FirstLastFrameToVideo


async def main() -> None:
    async with AsyncSession() as session:
        job = FirstLastFrameToVideo(
            last_frame_image=Path("evening.jpg"), first_frame_image=Path("morning.jpg"), duration=10
        )
        generation = await session.submit(job)  # checked and queued
        print(await generation.accepted())  # the task id, as soon as the service has it
        async for status in generation.updates():
            print(status)  # pending, processing, success
        video = await generation  # any number of tasks may wait for it
        await session.download(video, "day.mp4")


asyncio.run(main())
