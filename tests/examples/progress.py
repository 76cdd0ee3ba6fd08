import asyncio
from contextlib import aclosing
from pathlib import Path

from rich.progress import Progress

from hailuo_async import AsyncSession, Failure, ImageToVideo


async def main() -> None:
    jobs = [ImageToVideo(path, key=path.stem) for path in sorted(Path("pictures").glob("*.jpg"))]
    async with AsyncSession(journal="batch.db") as session:
        stream = session.stream(jobs, save_to="videos/")
        with Progress() as progress:
            bar = progress.add_task("videos", total=len(jobs))
            async with aclosing(stream):
                async for outcome in stream:
                    if isinstance(outcome, Failure):
                        progress.print(f"{outcome.key}: {outcome.error}")
                    stats = session.stats()
                    words = f"{stats.succeeded} done, {stats.running} of {stats.limit} run"
                    progress.update(bar, advance=1, description=words)


asyncio.run(main())
