"""``save_as``: where each video is saved, checked while the job still costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hailuo_async import AsyncSession, ConfigError, DownloadError, Failure, ImageToVideo, Outcome, Success
from hailuo_async._rules.wire import Answer, Request

from ..support.films import FILM, Films, films, in_short
from ..support.service import Line, job, prompt_of, refusal, told


async def save(session: AsyncSession, items: list[ImageToVideo], save_as: Any) -> list[Outcome]:
    """All outcomes, in the order of their jobs."""
    outcomes = [outcome async for outcome in session.stream(items, save_as=save_as)]
    return sorted(outcomes, key=lambda outcome: outcome.index)


async def save_by(host: Films, items: list[ImageToVideo], save_as: Any, **settings: Any) -> tuple[list[Outcome], Line]:
    """The same over a session of its own, and the line that it sent on."""
    line = host.line()
    async with line.session(max_running=1, **settings) as session:
        return await save(session, items, save_as), line


@pytest.mark.parametrize("wrap", [dict, lambda paths: lambda job: paths[job.key]], ids=["mapping", "callable"])
async def test_each_video_is_saved_where_it_is_said_and_directories_are_made(
    tmp_path: Path, wrap: Callable[[dict[str, Path]], Any]
) -> None:
    paths = {"cat": tmp_path / "of" / "tonight" / "Cat.mp4", "dog": tmp_path / "d.bin"}
    async with films() as host:
        outcomes, _ = await save_by(host, [job("1", key="cat"), job("2", key="dog")], wrap(paths))
    assert [outcome.path for outcome in outcomes if isinstance(outcome, Success)] == list(paths.values())
    assert [await anyio.Path(path).read_bytes() for path in paths.values()] == [FILM, FILM]


async def test_a_path_may_be_a_str(tmp_path: Path) -> None:
    async with films() as host:
        [outcome], _ = await save_by(host, [job()], lambda job: str(tmp_path / "cat.mp4"))
    assert isinstance(outcome, Success)
    assert outcome.path == tmp_path / "cat.mp4"


async def test_a_path_that_is_taken_or_cannot_be_written_fails_its_job_before_it_is_paid_for(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "theirs").write_bytes(b"somebody's")
    paths = {"there": "theirs", "long": "n" * 300, "in a file": "theirs/cat.mp4", "good": "good.mp4"}
    items = [job(key, key=key) for key in paths]
    async with films() as host:
        outcomes, line = await save_by(host, items, {key: tmp_path / name for key, name in paths.items()})
    assert in_short(outcomes, tmp_path) == ["DownloadError None"] * 3 + ["good.mp4"]
    assert line.prompts == ["good"]
    assert await anyio.Path(tmp_path / "theirs").read_bytes() == b"somebody's"


async def test_of_two_jobs_that_would_have_one_file_the_second_is_not_paid_for(tmp_path: Path) -> None:
    async with films() as host:
        outcomes, line = await save_by(host, [job("1"), job("2")], lambda job: tmp_path / "cat.mp4")
    assert in_short(outcomes, tmp_path) == ["cat.mp4", "DownloadError None"]
    assert line.prompts == ["1"]


async def test_a_name_that_a_refused_job_had_is_free_for_the_next(tmp_path: Path) -> None:
    async with films() as host:
        line = host.line()

        async def refuse_the_first(request: Request) -> Answer:
            return told(422, refusal(422, "no")) if prompt_of(request) == "1" else line.accept()

        line.on_post = refuse_the_first
        async with line.session(max_running=1) as session:
            for prompt, word in (("1", "RequestRejectedError None"), ("2", "cat.mp4")):
                outcomes = await save(session, [job(prompt, key="cat")], {"cat": tmp_path / "cat.mp4"})
                assert in_short(outcomes, tmp_path) == [word]


async def test_with_a_journal_a_second_run_finds_its_own_files_and_pays_for_nothing(tmp_path: Path) -> None:
    items, paths = [job("1", key="cat"), job("1", key="cat")], {"cat": tmp_path / "cat.mp4"}
    async with films() as host:
        runs = [await save_by(host, items, paths, journal=tmp_path / "batch.db") for _ in range(2)]
        assert len(host.asked) == 1
    assert [in_short(outcomes, tmp_path) for outcomes, _ in runs] == [["cat.mp4"] * 2] * 2
    assert [line.prompts for _, line in runs] == [["1"], []]


async def test_a_job_that_was_not_sent_for_its_name_is_sent_by_the_next_run(tmp_path: Path) -> None:
    file = anyio.Path(tmp_path / "cat.mp4")
    await file.write_bytes(b"somebody's")
    said = []
    async with films() as host:
        for _ in range(2):
            outcomes, line = await save_by(host, [job(key="cat")], {"cat": file}, journal=tmp_path / "batch.db")
            said.append((in_short(outcomes, tmp_path), len(line.posts)))
            await file.unlink()
    assert said == [(["DownloadError None"], 0), (["cat.mp4"], 1)]


@pytest.mark.parametrize(
    "save_as",
    [{"dog": "dog.mp4"}, {"cat": ""}, {"cat": 5}, lambda job: None, lambda job: "a\0b"],
    ids=["other", "empty", "number", "none", "nul"],
)
async def test_a_job_without_a_usable_path_fails_and_is_not_paid_for(save_as: Any) -> None:
    line = Line()
    async with line.session() as session:
        [outcome] = await save(session, [job(key="cat")], save_as)
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, ConfigError)
    assert outcome.error.field == "save_as"
    assert line.posts == []


async def test_what_the_callable_raises_ends_its_stream() -> None:
    line = Line()
    async with line.session() as session:
        with pytest.raises(ZeroDivisionError):
            await save(session, [job()], lambda job: 1 / 0)
        await session.generate(job("the session goes on"))
    assert line.prompts == ["the session goes on"]


async def test_a_save_as_that_is_none_or_one_too_many_is_said_at_once(tmp_path: Path) -> None:
    async with Line().session() as session:
        with pytest.raises(ConfigError, match="mapping from keys to paths, or a callable"):
            session.stream([job()], save_as="videos")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="not both"):
            session.stream([job()], save_as={}, save_to=tmp_path)


async def test_with_save_to_two_jobs_of_one_key_are_not_both_paid_for(tmp_path: Path) -> None:
    async with films() as host:
        line = host.line()
        async with line.session(max_running=1) as session:
            stream = session.stream([job("1", key="cat"), job("2", key="cat")], save_to=tmp_path)
            outcomes = sorted([outcome async for outcome in stream], key=lambda outcome: outcome.index)
    assert in_short(outcomes, tmp_path) == ["cat.mp4", "DownloadError None"]
    assert isinstance(outcomes[1], Failure)
    assert isinstance(outcomes[1].error, DownloadError)
    assert "another job of this stream" in str(outcomes[1].error)


async def test_a_coroutine_function_that_would_not_be_awaited_is_said_at_once(tmp_path: Path) -> None:
    async def later(_: object) -> Path:
        return tmp_path / "cat.mp4"

    async with Line().session() as session:
        with pytest.raises(ConfigError, match="save_as"):
            session.stream([job()], save_as=later)  # type: ignore[arg-type]


@pytest.mark.parametrize("save_to", ["a\0b", 5, b"videos"])
async def test_what_is_no_directory_is_said_at_once(save_to: Any) -> None:
    async with Line().session() as session:
        with pytest.raises(ConfigError) as caught:
            session.stream([job()], save_to=save_to)
    assert (caught.value.field, caught.value.value) == ("save_to", save_to)
