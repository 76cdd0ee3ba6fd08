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
            print(f"{error}; to go on with it: {error.task_id}")


asyncio.run(main())
