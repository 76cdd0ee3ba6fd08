"""A download that was cut goes on where it was, if the film is still the same."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from hailuo_async._io.download.client import Downloads

from ...support.film_hosts import BODY, OTHER, Shelf, base64_of, files, film_host, refused
from ...support.https import over_both

pytestmark = pytest.mark.anyio


@over_both
async def test_a_cut_download_goes_on_where_it_was(
    downloads: Downloads, tmp_path: Path, tls: ssl.SSLContext | None
) -> None:
    async with film_host(shelf := Shelf(cuts=[900_000, 300_000]), tls) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    first, second = shelf.resumed_at()
    assert 0 < first <= 900_000
    assert first <= second <= first + 300_000
    assert {condition for _, condition in shelf.asked[1:]} == {'"v1"'}
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
async def test_without_a_strong_validator_a_cut_download_begins_anew(
    etag: str | None, downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(shelf := Shelf(etag=etag, cuts=[900_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert shelf.asked == [(None, None), (None, None)]
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_host_without_ranges_sends_all_of_it_again(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(ranges=False, cuts=[900_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert shelf.resumed_at() != [0]
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.parametrize("obeys_if_range", [True, False])
async def test_a_film_that_changes_between_two_tries_is_never_mixed(
    obeys_if_range: bool, downloads: Downloads, tmp_path: Path
) -> None:
    shelf = Shelf(cuts=[900_000], obeys_if_range=obeys_if_range)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if shelf.asked:
            shelf.body, shelf.etag = OTHER, '"v2"'
        return await shelf(request)

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": OTHER}


async def test_a_refused_range_begins_anew(downloads: Downloads, tmp_path: Path) -> None:
    shelf = Shelf(cuts=[900_000])

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "Range" in request.headers:
            return web.Response(status=416)
        return await shelf(request)

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}


@over_both
async def test_a_later_download_goes_on_with_what_an_earlier_one_left(
    downloads: Downloads, tmp_path: Path, tls: ssl.SSLContext | None
) -> None:
    async with film_host(shelf := Shelf(cuts=[700_000, 10, 10, 10]), tls) as url:
        reason = await refused(downloads, url, tmp_path / "cat.mp4")
        assert re.fullmatch(r"the connection was cut, at the last of 4 tries", reason)
        left = await files(tmp_path)
        assert sorted(left) == ["cat.mp4.part", "cat.mp4.part.json"]
        assert left["cat.mp4.part"] == BODY[: len(left["cat.mp4.part"])]
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1")
    assert shelf.resumed_at()[-1] == len(left["cat.mp4.part"]) > 0
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_download_of_another_task_does_not_go_on_with_it(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(cuts=[700_000, 10, 10, 10])) as url:
        await refused(downloads, url, tmp_path / "cat.mp4")
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-2")
    assert shelf.asked[-1] == (None, None)
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_page_in_place_of_the_rest_does_not_cost_what_was_there(downloads: Downloads, tmp_path: Path) -> None:
    shelf = Shelf(cuts=[700_000])

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="log in", content_type="text/html") if shelf.asked else await shelf(request)

    async with film_host(answer) as url:
        assert "a page" in await refused(downloads, url, tmp_path / "cat.mp4")
    assert sorted(await files(tmp_path)) == ["cat.mp4.part", "cat.mp4.part.json"]


async def test_a_new_url_of_the_same_film_goes_on_and_one_of_another_begins_anew(
    downloads: Downloads, tmp_path: Path
) -> None:
    for place, goes_on in (("cat.mp4", True), ("dog.mp4", False)):
        shelf = Shelf(cuts=[700_000])

        async def answer(request: web.BaseRequest, shelf: Shelf = shelf) -> web.StreamResponse:
            fresh = "fresh" in request.query_string or not shelf.asked
            return await shelf(request) if fresh else web.Response(status=403)

        async with film_host(answer) as url:

            async def refresh(new: str = f"{url.replace('cat.mp4', place)}&fresh") -> str:
                return new

            await downloads.fetch(url, tmp_path / place, refresh=refresh)
        assert (shelf.resumed_at()[0] > 0) == goes_on
    assert await files(tmp_path) == {"cat.mp4": BODY, "dog.mp4": BODY}


async def test_a_checksum_told_before_a_cut_is_checked_by_the_download_that_goes_on(
    downloads: Downloads, tmp_path: Path
) -> None:
    shelf = Shelf(headers={"Content-MD5": base64_of("md5", OTHER)}, cuts=[700_000, 10, 10, 10])
    async with film_host(shelf) as url:
        await refused(downloads, url, tmp_path / "cat.mp4")
        shelf.headers = {"Content-MD5": base64_of("md5", b"of the rest")}
        assert "its md5 is not" in await refused(downloads, url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {}
