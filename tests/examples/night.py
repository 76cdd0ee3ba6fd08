import anyio

from hailuo_async import AsyncSession, ImageToVideo, Success
from hailuo_async.emulator import Service
from hailuo_async.testing import InMemory, run_virtual


async def main() -> tuple[int, float]:
    service = Service(max_running=3, generation_s=90)
    jobs = (ImageToVideo(f"https://example.com/{number}.jpg") for number in range(200))
    async with AsyncSession(transport=InMemory(service), api_key=service.api_key) as session:
        outcomes = [outcome async for outcome in session.stream(jobs)]
    return sum(isinstance(outcome, Success) for outcome in outcomes), anyio.current_time()


videos, seconds = run_virtual(main)
print(f"{videos} videos in {seconds / 3600:.1f} hours")
