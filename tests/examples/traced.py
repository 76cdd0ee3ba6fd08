import asyncio
from pathlib import Path

from hailuo_async import AsyncSession, ImageToVideo
from hailuo_async.otel import instrument


async def main() -> None:
    async with AsyncSession() as session:
        instrument(session)
        await session.generate(ImageToVideo(Path("cat.jpg"), key="cat"))


asyncio.run(main())
