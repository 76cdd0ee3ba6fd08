"""Everything that a session does beside jobs: accounts, uploads, downloads, figures; and what none of it ever tells."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from hailuo_async import (
    Account,
    AsyncSession,
    ConfigError,
    DownloadError,
    Failure,
    HailuoError,
    ImageError,
    ImageToVideo,
    ProtocolError,
    Resource,
    ServiceError,
    Stats,
    Success,
    TaskExpiredError,
    Video,
    estimate,
)
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import FaultRates, Faults, Kind

from ..support.service import (
    CONCURRENT,
    KEY,
    TOO_MANY,
    Line,
    emulated,
    envelope,
    job,
    jobs,
    no_answer,
    picture,
    refusal,
    told,
    until,
)


def answering(*contents: tuple[int, object]) -> Line:
    """A line on which queries are answered so, one after the other, the last one for ever."""
    left = list(contents)

    async def answer(request: Request) -> Answer:
        return told(*(left.pop(0) if len(left) > 1 else left[0]))

    return Line(on_post=answer, on_query=answer)


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


# --- The account ------------------------------------------------------------------------------------------------------


async def test_an_account_is_its_key_and_its_balance() -> None:
    async with emulated(balance=12.5) as (emulator, session):
        assert await session.account() == Account(is_valid=True, balance=Decimal("12.5"))
        emulator.service.api_key = "another"
        assert await session.account() == Account(is_valid=False, balance=None)


@pytest.mark.parametrize("balance", [None, "lots", True, []])
async def test_a_balance_that_is_no_number_is_none(balance: object) -> None:
    line = answering((200, envelope({"is_valid": True})), (200, envelope({"balance": balance})))
    async with line.session() as session:
        assert await session.account() == Account(is_valid=True, balance=None)


@pytest.mark.parametrize(("told", "balance"), [(12.34, "12.34"), ("12.5000", "12.5"), (0, "0"), (-3.5, "-3.5")])
async def test_a_balance_is_dollars_to_the_cent_and_may_be_owed(told: object, balance: str) -> None:
    line = answering((200, envelope({"is_valid": True})), (200, envelope({"balance": told})))
    async with line.session() as session:
        assert await session.account() == Account(is_valid=True, balance=Decimal(balance))


async def test_a_key_that_a_200_calls_invalid_is_not_valid() -> None:
    line = answering((200, envelope({"is_valid": False})))
    async with line.session() as session:
        assert await session.account() == Account(is_valid=False, balance=None)


@pytest.mark.parametrize("data", [{}, {"is_valid": None}, {"is_valid": "true"}, {"is_valid": 1}])
async def test_what_does_not_say_whether_the_key_is_valid_is_no_word_against_it(data: dict[str, object]) -> None:
    async with answering((200, envelope(data))).session() as session:
        with pytest.raises(ProtocolError, match=r"no bool @ \$\.data\.is_valid"):
            await session.account()


# --- Models and prices ------------------------------------------------------------------------------------------------


async def test_what_the_service_offers_makes_the_estimates_of_that_session_narrower() -> None:
    async with emulated() as (_, session):
        before = session.estimate(job())
        models = {model.slug: model for model in await session.models()}
        offered = models["minimax/hailuo-2.3-i2v"]
        assert (before.low, before.high) == (Decimal("0.3240"), Decimal("0.7200"))
        assert (offered.price_low, offered.price_high, offered.unit) == (Decimal("0.0540"), Decimal("0.1200"), "$/sec")
        assert session.estimate(job()).high == Decimal("0.7200")
    row = {"slug": "minimax/hailuo-2.3-i2v", "price": {"min": 0.06, "max": 0.1}, "unit": "$/sec"}
    line = answering((200, {"models": [row]}))
    async with line.session() as session:
        await session.models()
        narrower = session.estimate(job())
    assert (narrower.low, narrower.high) == (Decimal("0.36"), Decimal("0.6"))
    assert estimate(job()) == before


async def test_prices_are_of_today_where_the_date_of_the_answer_is_outside_the_calendar() -> None:
    async def answer(request: Request) -> Answer:
        row = {"slug": "minimax/hailuo-2.3-i2v", "price": {"fixed": "0.07"}, "unit": "$/sec"}
        return told(200, {"models": [row]}, {"Date": "0001-01-01T00:00:00+14:00"})

    async with Line(on_query=answer).session() as session:
        await session.models()
        found = session.estimate(job())
    assert found.low == found.high == Decimal("0.42")
    assert found.as_of == datetime.now(UTC).date()


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (500, {}, "ServiceUnavailableError"),
        (200, {"data": {}}, "ProtocolError"),
        (401, refusal(401, "Authentication failed"), "AuthenticationError"),
        (429, TOO_MANY, "RateLimitedError"),
    ],
)
async def test_a_list_that_cannot_be_read_is_an_error(status: int, content: object, kind: str) -> None:
    for ask in (AsyncSession.models, AsyncSession.uploads):
        async with answering((status, content)).session() as session:
            with pytest.raises(ServiceError) as caught:
                await ask(session)
        assert type(caught.value).__name__ == kind


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (500, {}, "ServiceUnavailableError"),
        (200, [], "ProtocolError"),
        (401, "a proxy's page", "ProtocolError"),
        (429, CONCURRENT, "RateLimitedError"),
    ],
)
async def test_an_account_that_cannot_be_read_is_an_error(status: int, content: object, kind: str) -> None:
    async with answering((status, content)).session() as session:
        with pytest.raises(ServiceError) as caught:
            await session.account()
    assert type(caught.value).__name__ == kind


# --- Uploads ----------------------------------------------------------------------------------------------------------


async def test_an_upload_serves_many_jobs() -> None:
    async with emulated() as (emulator, session):
        url = await session.upload(picture())
        assert url.startswith(emulator.url)
        await asyncio.gather(*(session.generate(ImageToVideo(url, prompt=str(number))) for number in range(3)))
        assert {entry.first_frame for entry in emulator.ledger.of(Kind.SUBMIT)} == {url}


async def test_what_is_too_large_or_on_the_web_already_is_not_uploaded() -> None:
    line = Line()
    async with line.session() as session:
        for image in ("https://pictures.example/cat.jpg", picture() + bytes(16 * 2**20), b"no image"):
            with pytest.raises(ImageError):
                await session.upload(image)
    assert line.posts == []


@pytest.mark.parametrize("content", [envelope({}), envelope({"url": 7})])
async def test_an_upload_that_brings_no_url_is_a_protocol_error(content: object) -> None:
    async with answering((200, content)).session() as session:
        with pytest.raises(ProtocolError):
            await session.upload(picture())


async def test_an_upload_that_is_cancelled_gives_back_what_it_took() -> None:
    line = Line(on_post=no_answer)
    async with line.session() as session:
        task = asyncio.ensure_future(session.upload(picture()))
        await until(lambda: line.posts)
        task.cancel()
        await asyncio.wait([task])
        line.on_post = None
        await session.generate(job())


# --- Downloads --------------------------------------------------------------------------------------------------------


async def test_a_video_is_saved_as_a_file_or_in_a_directory_and_never_over_another(tmp_path: Path) -> None:
    async with emulated(video_size=100_000) as (emulator, session):
        video = await session.generate(job())
        named = await session.download(video, tmp_path / "cat.mp4")
        by_key = await session.download(video, tmp_path, key="a cat")
        by_id = await session.download(video, tmp_path)
        assert [path.name for path in (named, by_key, by_id)] == ["cat.mp4", by_key.name, f"{video.task_id}.mp4"]
        assert by_key.name.startswith("a cat")
        contents = {await anyio.Path(path).read_bytes() for path in (named, by_key, by_id)}
        assert {len(content) for content in contents} == {100_000}
        assert len(contents) == 1
        with pytest.raises(DownloadError):
            await session.download(video, named)
        assert await session.download(video, named, overwrite=True) == named
        assert emulator.ledger.keys_leaked == 0
    assert sorted(names_in(tmp_path)) == sorted(each.name for each in (named, by_key, by_id))


async def test_an_expired_url_is_asked_for_anew_and_an_expired_task_is_said_so(tmp_path: Path) -> None:
    async with emulated(url_lasts_s=0.0) as (emulator, session):
        video = await session.generate(job())
        emulator.service.url_lasts_s = 3600
        emulator.clock_offset_s = 60
        assert await anyio.Path(await session.download(video, tmp_path / "1.mp4")).exists()
        emulator.clock_offset_s = 8 * 24 * 3600
        with pytest.raises(TaskExpiredError) as caught:
            await session.download(video, tmp_path / "2.mp4")
        assert caught.value.task_id == video.task_id
    assert names_in(tmp_path) == ["1.mp4"]


async def test_the_name_of_a_file_comes_from_the_resource_that_is_saved(tmp_path: Path) -> None:
    async with emulated() as (_, session):
        video = await session.generate(job())
        cover = Resource("https://results.example/cover.jpg", type="image", format="jpg")
        with_cover = Video(video.task_id, video.model, (cover, *video.resources))
        assert (await session.download(with_cover, tmp_path)).name == f"{video.task_id}.mp4"


async def test_a_download_that_is_cut_is_tried_again_and_arrives_whole(tmp_path: Path) -> None:
    async with emulated(video_size=300_000, faults=Faults(download=FaultRates(truncated=0.3, cut=0.2))) as (_, session):
        video = await session.generate(job())
        path = await session.download(video, tmp_path / "cat.mp4")
    assert path.stat().st_size == 300_000


async def test_a_download_is_bounded_as_the_caller_says(tmp_path: Path) -> None:
    async with emulated(video_size=300_000) as (_, session):
        video = await session.generate(job())
        with pytest.raises(DownloadError) as caught:
            await session.download(video, tmp_path / "cat.mp4", max_bytes=299_999)
        assert caught.value.task_id == video.task_id
        with pytest.raises(ConfigError):
            await session.download(video, tmp_path / "cat.mp4", timeout=0)
        assert names_in(tmp_path) == []
        await session.download(video, tmp_path / "cat.mp4", max_bytes=300_000, timeout=60)
    assert names_in(tmp_path) == ["cat.mp4"]


# --- Figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_figures_tell_what_waits_what_runs_and_how_jobs_ended() -> None:
    async with emulated(max_running=2, generation_s=600.0, requests_per_minute=1000) as (emulator, session):
        generations = [await session.submit(each) for each in jobs(5)]
        await until(lambda: session.stats().running == 2 and session.stats().refusals)
        stats = session.stats()
        assert (stats.queued, stats.running, stats.limit) == (3, 2, 2)
        assert stats.requests_left is not None
        assert 900 < stats.requests_left < 1000
        emulator.service.generation_s, emulator.clock_offset_s = 0.05, 600.0
        await asyncio.gather(*generations)
        emulator.next_fault(Kind.SUBMIT, "cut_after")
        emulator.next_fault(Kind.SUBMIT, "refuse")
        await asyncio.gather(*map(session.generate, jobs(2)), return_exceptions=True)
        ended = session.stats()
    assert ended == Stats(
        queued=0,
        running=0,
        limit=ended.limit,
        requests_left=ended.requests_left,
        refusals=ended.refusals,
        succeeded=5,
        failed=0,
        refused=1,
        unknown=1,
        abandoned=0,
        spent=5 * Decimal("0.3240"),
        committed=Decimal("0.7200"),  # the doubt may have been paid for, at the most that it may cost
    )


# --- Secrets ----------------------------------------------------------------------------------------------------------


def words_of(value: object) -> Iterator[str]:
    """Everything that a value may say of itself."""
    yield repr(value)
    yield str(value)
    if isinstance(value, BaseException):
        yield repr(vars(value))
        if value.__cause__ is not None:
            yield from words_of(value.__cause__)


@pytest.mark.slow
async def test_no_log_and_no_repr_ever_holds_the_key_or_a_signed_url(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    faults = Faults(
        submit=FaultRates(cut_after=0.1, error_500=0.1, garbage=0.1, refuse=0.1),
        query=FaultRates(cut_before=0.1, garbage=0.1, missing_fields=0.1, unknown_status=0.1, error_500=0.1),
        download=FaultRates(cut=0.1, truncated=0.1),
    )
    said: list[str] = []
    secrets = [KEY]
    async with emulated(faults=faults, fail_rate=0.1) as (emulator, session):
        said += [repr(session), repr(session.stats())]
        async for outcome in session.stream(jobs(40)):
            said += words_of(outcome)
            match outcome:
                case Success(video=video):
                    said += [*words_of(video), *words_of(video.resources[0])]
                    secrets.append(video.url.partition("?")[2])
                    if len(secrets) < 8:
                        await session.download(video, tmp_path)
                case Failure(error=error):
                    said += words_of(error)
                    assert str(pickle.loads(pickle.dumps(error))) == str(error)
        emulator.service.api_key = "another"
        with pytest.raises(HailuoError) as caught:
            await session.generate(job())
        said += words_of(caught.value)
    said += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert min(len(said), len(secrets)) > 10
    assert all(secrets)
    assert [words for words in said for secret in secrets if secret in words] == []


async def test_a_key_that_the_service_repeats_is_not_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    from ..support.rawserver import Exchange, raw_server

    async def refuse(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.reply(401, refusal(401, f"Authentication failed: {KEY}"))

    async with raw_server(refuse) as server, AsyncSession(api_key=KEY, base_url=server.url) as session:
        with pytest.raises(HailuoError) as caught:
            await session.generate(job())
    assert KEY not in str(caught.value) + caplog.text


# --- Memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_stream_over_very_many_jobs_holds_a_handful() -> None:
    line = Line()

    async def held_after(count: int) -> int:
        async for outcome in stream:
            line.posts.clear()
            line.queries.clear()
            if outcome.index >= count:
                break
        return tracemalloc.get_traced_memory()[0]

    async with line.session(max_running=20) as session, contextlib.aclosing(session.stream(jobs(1_000_000))) as stream:
        tracemalloc.start()
        try:
            early = await held_after(100)
            late = await held_after(400)
        finally:
            tracemalloc.stop()
    assert late - early < 200_000
