"""Where a download may go."""

from __future__ import annotations

import ipaddress
import socket

import attrs
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hailuo_async._io.download.allowed_hosts import ANYWHERE, PUBLIC, CheckingResolver, is_public, parse_url
from hailuo_async.errors import DownloadError

_PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "172.32.0.1", "100.128.0.1"]
_NOT_PUBLIC = [
    *("127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.9", "192.88.99.1"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::808:808"),
    *("2002:7f00:1::", "2002:808:808::", "2001:0:808:808::", "2001:10::1", "3ffe::1", "3fff::1", "100::1", "4000::1"),
]


@pytest.mark.parametrize("address", _PUBLIC)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", _NOT_PUBLIC)
def test_an_address_of_any_special_purpose_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("url", ["https://example.com/a?b", "https://8.8.8.8/", "https://[2606:4700::1111]:8443/"])
def test_https_to_a_name_or_a_public_address_may_be_asked(url: str) -> None:
    PUBLIC.check_url(parse_url(url))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "the URL's scheme is 'http'; only https is allowed"),
        ("file:///etc/passwd", "the URL's scheme is 'file'; only https is allowed"),
        ("//example.com/", "the URL's scheme is ''; only https is allowed"),
        ("https:///x", "the URL names no host"),
        ("https://user:word@example.com/", "the URL holds a user name or a password for example.com"),
        ("https://10.0.0.1/", "10.0.0.1 is not a public address (see allow_private_network)"),
        ("https://[::1]:1/", "::1 is not a public address (see allow_private_network)"),
        ("https://[fe80::1%25eth0]/", "fe80::1%25eth0 is not a public address (see allow_private_network)"),
        ("https://①②⑦.0.0.1/", "127.0.0.1 is not a public address (see allow_private_network)"),
        ("https://127.1/", "127.1 is not an IP address"),
        ("https://2130706433/", "2130706433 is not an IP address"),
        ("https://0177.0.0.1/", "0177.0.0.1 is not an IP address"),
        ("https://127.0.0.1./", "127.0.0.1. is not an IP address"),
    ],
)
def test_what_the_url_itself_shows_to_be_forbidden_is_refused(url: str, reason: str) -> None:
    with pytest.raises(DownloadError) as caught:
        PUBLIC.check_url(parse_url(url))
    assert caught.value.reason == reason


def test_anywhere_means_http_and_private_addresses_too() -> None:
    ANYWHERE.check_url(URL("http://127.0.0.1:8080/a"))
    with pytest.raises(DownloadError, match="only http or https"):
        ANYWHERE.check_url(URL("ftp://127.0.0.1/a"))


def test_a_url_is_asked_for_to_the_letter() -> None:
    assert str(parse_url("https://x/%7Ea?sig=%2b/%41+")) == "https://x/%7Ea?sig=%2b/%41+"


def test_what_cannot_stand_in_a_request_is_quoted() -> None:
    assert str(parse_url("https://x/a b\u00e9?c d")) == "https://x/a%20b%C3%A9?c+d"
    assert "\n" not in str(parse_url("https://x/a\r\nCookie: b"))


@pytest.mark.parametrize("text", ["https://x:99999/?sig=secret", "https://[x/?sig=secret", "https://a\\@b/?sig=secret"])
def test_what_is_no_url_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(DownloadError) as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@attrs.define(eq=False)
class _Phonebook(AbstractResolver):
    """Answers each name with the next of its lists of addresses."""

    addresses: list[list[str]]
    closed: bool = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses.pop(0)
        ]

    async def close(self) -> None:
        self.closed = True


@pytest.mark.anyio
async def test_a_name_is_refused_when_one_of_its_addresses_is_private_each_time_it_is_resolved() -> None:
    book = _Phonebook([["8.8.8.8"], ["8.8.8.8", "10.0.0.7"]])
    resolver = CheckingResolver(book, PUBLIC)
    assert [found["host"] for found in await resolver.resolve("x.example", 443)] == ["8.8.8.8"]
    with pytest.raises(DownloadError) as caught:
        await resolver.resolve("x.example", 443)
    assert caught.value.reason == "x.example is at 10.0.0.7, which is not a public address (see allow_private_network)"
    await resolver.close()
    assert book.closed
