import asyncio

from hailuo_async import AsyncSession, SessionEvent


def watch(event: SessionEvent) -> None:
    print(type(event).__name__)  # Queued, Sent, Refused, Accepted, StatusSeen, Ended, Downloaded, GateClosed


async def main() -> None:
    async with AsyncSession(max_running=2) as session:
        session.hooks.append(watch)
        account = await session.account()
        print(account.is_valid, account.balance)
        stats = session.stats()
        print(f"{stats.running} of {stats.limit} run, {stats.queued} wait, {stats.requests_left} requests left")


asyncio.run(main())
