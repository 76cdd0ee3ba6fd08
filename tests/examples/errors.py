import asyncio
from pathlib import Path

from hailuo_async import AsyncSession, HailuoError, ImageToVideo, JobError, SubmissionUnknownError


async def main() -> None:
    async with AsyncSession() as session:
        try:
            await session.generate(ImageToVideo(Path("cat.jpg"), duration=6), timeout=900)
        except JobError as error:
            print(f"{error.field} {error.rule}")  # nothing was sent
        except SubmissionUnknownError as error:
            print(f"perhaps paid for, sent at {error.sent_at}: {error.reason}")
        except HailuoError as error:
            print(error)  # with a task_id it goes on: await (await session.attach(error.task_id)) is its video


asyncio.run(main())
