import asyncio
import sys

from hailuo_async import AsyncSession, Failure, SubmissionUnknownError


async def main(keys: list[str]) -> None:
    async with AsyncSession(journal="batch.db") as session:
        async for outcome in session.resume():  # whatever is unfinished, without being given the jobs again
            if isinstance(outcome, Failure) and isinstance(outcome.error, SubmissionUnknownError):
                print("unknown:", outcome.key)
        for key in keys:
            await session.resolve(key, resubmit=True)  # or task_id="…" if it is there, or forget=True


asyncio.run(main(sys.argv[1:]))
