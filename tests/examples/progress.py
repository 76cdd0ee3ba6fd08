import asyncio
from pathlib import Path

from rich.progress import Progress

from hailuo_async import AsyncSession, ImageToVideo


async def main() -> None:
    jobs = [ImageToVideo(path, key=path.stem) for path in Path("pictures").glob("*.jpg")]
    async with AsyncSession() as session:
        with Progress() as progress:
            bar = progress.add_task("videos", total=len(jobs))
            async for _ in session.stream(jobs, save_to="videos/"):
                stats = session.stats()
                words = f"{stats.succeeded} done, {stats.running} of {stats.limit} run"
                progress.update(bar, advance=1, description=words)


asyncio.run(main())
