"""Where downloads may go: addresses, redirects and proxies."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

import attrs
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from hailuo_async import DownloadError, Resource, Video
from hailuo_async._io.download.allowed_hosts import Reach, is_public
from hailuo_async._io.download.client import Downloads
from hailuo_async._io.http import proxy_for

from ...support.film_hosts import BODY, SECRET, Shelf, files, film_host, refused
from ...support.service import Line

pytestmark = pytest.mark.anyio


def this_host_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return is_public(address) or str(address) == "127.0.0.1"


NEARLY_PUBLIC = Reach(frozenset({"http"}), this_host_is_public)


@attrs.define(eq=False)
class Rebinding(AbstractResolver):
    """Each time another address for the same name."""

    addresses: list[str]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://x.example/", "the URL's scheme is 'http'; only https is allowed"),
        ("https://127.0.0.1:1/", "127.0.0.1 is not a public address (see allow_private_network)"),
        (
            "https://localhost:1/",
            "localhost is at 127.0.0.1, which is not a public address (see allow_private_network)",
        ),
    ],
)
async def test_by_default_only_https_to_public_addresses_is_asked_for(url: str, reason: str, tmp_path: Path) -> None:
    downloads = Downloads(allow_private_network=False, make_resolver=lambda: Rebinding(["127.0.0.1"]))
    async with contextlib.aclosing(downloads):
        assert await refused(downloads, url + SECRET, tmp_path / "cat.mp4") == reason


@pytest.mark.parametrize(
    "place", ["127.0.0.2", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "a.example"]
)
async def test_a_redirect_to_a_private_address_is_refused(place: str, tmp_path: Path) -> None:
    shelf, locations = Shelf(), [f"http://{place}/cat.mp4", "/here"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if locations:
            return web.Response(status=307, headers={"Location": locations.pop()})
        return await shelf(request)

    downloads = Downloads(
        allow_private_network=False, reach=NEARLY_PUBLIC, make_resolver=lambda: Rebinding(["192.168.1.1"])
    )
    async with film_host(answer) as url, contextlib.aclosing(downloads):
        assert "is not a public address" in await refused(downloads, url, tmp_path / "cat.mp4")
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_name_that_is_public_at_first_and_private_when_connected_to_again_is_refused(tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(cuts=[700_000])) as url:
        downloads = Downloads(
            allow_private_network=False,
            reach=NEARLY_PUBLIC,
            make_resolver=lambda: Rebinding(["127.0.0.1", "127.0.0.2"]),
            waits_s=(0.0,),
        )
        async with contextlib.aclosing(downloads):
            reason = await refused(downloads, url.replace("127.0.0.1", "x.example"), tmp_path / "cat.mp4")
    assert reason == "x.example is at 127.0.0.2, which is not a public address (see allow_private_network)"
    assert len(shelf.asked) == 1


async def test_through_a_proxy_the_proxy_is_asked_and_the_url_is_still_checked(tmp_path: Path) -> None:
    shelf, asked = Shelf(), list[str]()

    async def proxy(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        return await shelf(request)

    async with film_host(proxy) as url:
        place = url.partition("/films")[0]
        downloads = Downloads(allow_private_network=False, find_proxy=lambda origin: place, reach=NEARLY_PUBLIC)
        async with contextlib.aclosing(downloads):
            await downloads.fetch("http://x.example/cat.mp4?sig=1", tmp_path / "cat.mp4")
            assert "10.0.0.1 is not" in await refused(downloads, "http://10.0.0.1/", tmp_path / "dog.mp4")
    assert asked == ["http://x.example/cat.mp4?sig=1"]
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_each_host_on_the_way_takes_its_own_proxy_or_none(tmp_path: Path) -> None:
    through, direct, origins = list[str](), list[str](), list[str]()

    async def proxy(request: web.BaseRequest) -> web.StreamResponse:
        through.append(request.raw_path)
        return web.Response(status=302, headers={"Location": f"{here}/b.mp4"})

    async def host(request: web.BaseRequest) -> web.StreamResponse:
        direct.append(request.raw_path)
        return web.Response(body=BODY)

    async with film_host(proxy) as of_the_proxy, film_host(host) as of_the_host:
        there, here = (url.partition("/films")[0] for url in (of_the_proxy, of_the_host))

        def find_proxy(origin: str) -> str | None:
            origins.append(origin)
            return None if origin == here else there

        downloads = Downloads(allow_private_network=False, find_proxy=find_proxy, reach=NEARLY_PUBLIC)
        async with contextlib.aclosing(downloads):
            await downloads.fetch("http://x.example/a.mp4", tmp_path / "cat.mp4")
    assert (through, direct, origins) == (["http://x.example/a.mp4"], ["/b.mp4"], ["http://x.example", here])
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_the_address_of_a_proxy_is_not_open_to_what_goes_past_it(tmp_path: Path) -> None:
    async with film_host(Shelf()) as url:
        place = url.partition("/films")[0]
        downloads = Downloads(
            allow_private_network=False,
            find_proxy=lambda origin: None if "inside" in origin else place,
            reach=Reach(frozenset({"http"}), is_public),
            make_resolver=lambda: Rebinding(["127.0.0.1"]),
        )
        async with contextlib.aclosing(downloads):
            await downloads.fetch("http://x.example/a.mp4", tmp_path / "cat.mp4")
            reason = await refused(downloads, "http://inside.example/a.mp4", tmp_path / "dog.mp4")
    assert reason.startswith("inside.example is at 127.0.0.1, which is not a public address")


async def test_a_session_heeds_no_proxy_for_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    async def proxy(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        return web.Response(body=BODY)

    async with film_host(proxy) as url, Line().session(allow_private_network=True) as session:
        monkeypatch.setenv("http_proxy", url.partition("/films")[0])
        monkeypatch.setenv("no_proxy", "b.invalid")
        for host, timeout in (("a.invalid", 60), ("b.invalid", 0.5)):
            video = Video(host, None, (Resource(f"http://{host}/x.mp4", "video"),))
            with contextlib.suppress(DownloadError):  # b.invalid is looked up, and does not exist
                await session.download(video, tmp_path / host, timeout=timeout)
    assert (asked, await files(tmp_path)) == (["http://a.invalid/x.mp4"], {"a.invalid": BODY})


@pytest.mark.parametrize("proxy", ["socks5h://127.0.0.1:1080", "127.0.0.1:3128", "ftp://user:word@proxy"])
async def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    async with contextlib.aclosing(Downloads(allow_private_network=True, find_proxy=proxy_for)) as downloads:
        reason = await refused(downloads, "http://x.example/a.mp4", tmp_path / "cat.mp4")
    assert reason.startswith("http_proxy ")
    assert "must be http://host:port or https://host:port" in reason
    assert "word" not in reason


def test_a_proxys_password_does_not_show() -> None:
    downloads = Downloads(allow_private_network=False, find_proxy=lambda origin: "http://user:word@proxy/")
    assert "word" not in repr(downloads)
