import asyncio
from pathlib import Path

from hailuo_async import Accepted, AsyncSession, Ended, GateClosed, ImageToVideo, Refused, SessionEvent


def watch(event: SessionEvent) -> None:
    match event:
        case Refused(key=key, reason=reason):
            print(f"{key} was refused: {reason}")
        case Accepted(key=key, task_id=task_id):
            print(f"{key} is {task_id}")
        case GateClosed(reason=reason, seconds=seconds):
            print(f"nothing is sent for {seconds:.1f} s: {reason}")
        case Ended(key=key, status=status):
            print(f"{key} ended: {status}")


async def main() -> None:
    async with AsyncSession() as session:
        session.hooks.append(watch)
        await session.generate(ImageToVideo(Path("cat.jpg"), key="cat"))


asyncio.run(main())
