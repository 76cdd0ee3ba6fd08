"""The URLs, addresses and redirects that a download may use.

The URL of a result comes from outside, and so does every redirect after it. Followed blindly, it could make this
machine send requests into its own network: to a router, a database, the metadata service of a cloud. So, unless the
caller allows it, a download goes only to public addresses over https. These are checked:

- every URL before its request, the first as well as each that a redirect names (``Reach.check_url``);
- every address that a name resolves to, by the very resolver that the connection uses (``CheckingResolver``), so
  that a name which is public when it is checked and private when it is connected to (DNS rebinding) gains nothing. An
  address in the URL itself needs no resolver, so it is checked with the URL.

A proxy resolves and connects by itself: then only the URL can be checked here.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import aiohttp
import anyio.to_thread
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from hailuo_async._io.lenient import lenient_connector
from hailuo_async.errors import ConfigError, DownloadError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Bytes that a connection may hold unread, twice over. aiohttp's default is four times as much, for each of fifty.
_READ_BUFFER_BYTES = 2**16
_CONNECT_S = 30.0
#: aiohttp's characters for bytes of a header that are not UTF-8.
_UNDECODED = re.compile("[\udc80-\udcff]")

#: Not public although ``is_global`` calls them so, in some versions of Python or in all: protocol assignments (the
#: gateway's own anycast is among them), the 6to4 relays, IPv6 protocol assignments with Teredo, 6to4, the old 6bone,
#: and the documentation's newer block.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(block)
    for block in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3ffe::/16", "3fff::/20")
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether ``address`` belongs to the open internet, and serves no special purpose.

    An IPv6 address that is only a way of writing an IPv4 one (mapped, or NAT64, as DNS64 makes them in networks
    without IPv4) is as public as that one. Teredo and 6to4 carry one too, but videos are not served there: refused.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in block for block in _NOT_PUBLIC)


@attrs.frozen
class Reach:
    """The schemes and addresses that a download may use."""

    schemes: frozenset[str]
    allows: Callable[[Address], bool]

    def check_url(self, url: URL) -> None:
        """Raises ``DownloadError`` if ``url`` breaks a rule that can be checked without connecting."""
        if url.scheme not in self.schemes:
            allowed = " or ".join(sorted(self.schemes))
            raise DownloadError(reason=f"the URL's scheme is {url.scheme!r}; only {allowed} is allowed")
        if not url.raw_host:
            raise DownloadError(reason="the URL names no host")
        if url.raw_user is not None or url.raw_password is not None:
            raise DownloadError(reason=f"the URL holds a user name or a password for {url.raw_host}")
        if ":" in url.raw_host or url.raw_host.replace(".", "").isdigit():
            self.check_address(url.raw_host, url.raw_host)

    def check_address(self, text: str, host: str) -> None:
        """Raises ``DownloadError`` if no connection to ``text``, the address of ``host``, is allowed.

        Other spellings of an IPv4 address (``127.1``, ``2130706433``) are refused: the system would read them as one.
        """
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise DownloadError(reason=f"{text} is not an IP address") from None
        if not self.allows(address):
            place = text if text == host else f"{host} is at {text}, which"
            raise DownloadError(reason=f"{place} is not a public address (see allow_private_network)")


#: The default.
PUBLIC = Reach(frozenset({"https"}), is_public)
#: With ``allow_private_network=True``: for the emulator, and for services of one's own.
ANYWHERE = Reach(frozenset({"http", "https"}), lambda address: True)


@attrs.define(eq=False)
class CheckingResolver(AbstractResolver):
    """Resolves by ``inner``, and refuses an answer unless all of its addresses are within ``reach``."""

    inner: AbstractResolver
    reach: Reach

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``. Raises ``DownloadError`` if one of them is not allowed."""
        found = await self.inner.resolve(host, port, family)
        for result in found:
            self.reach.check_address(result["host"], host)
        return found

    async def close(self) -> None:
        """Closes ``inner``."""
        await self.inner.close()


@attrs.define(kw_only=True, eq=False)
class Clients:
    """Two clients for result hosts: no key, no cookies, no lookup used twice.

    The direct one connects itself, and its resolver checks each address. The other goes through proxies, whose own
    address may be private. Which one a URL takes is decided for its host each time, so ``NO_PROXY`` counts, and a
    redirect cannot carry the exemption of a proxy's address to another host.
    """

    reach: Reach
    find_proxy: Callable[[str], str | None] = attrs.field(repr=False)
    """The proxy for an origin, or a ``ConfigError`` for one that cannot be used. Called in a thread: on some systems it
    reads settings, or asks a name server."""
    make_resolver: Callable[[], AbstractResolver]
    stall_s: float
    tls: ssl.SSLContext | None
    """As ``Downloads`` has it."""
    _clients: dict[bool, aiohttp.ClientSession] = attrs.field(factory=dict, init=False)
    """Made when the first URL takes them: by whether it is through a proxy."""

    @asynccontextmanager
    async def travel(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """The answer at the end of at most five redirects from ``url``, each step within reach.

        Raises ``DownloadError`` if a step is not; connection errors are aiohttp's. Leaving it closes the connection
        unless the body was read to its end.
        """
        place = parse_url(url)
        for _ in range(_MAX_REDIRECTS + 1):
            self.reach.check_url(place)
            proxy = await self._proxy_for(place)
            client = self._client(is_proxied=proxy is not None)
            async with client.get(place, headers=headers, proxy=proxy, allow_redirects=False) as response:
                target = response.headers.get("Location") if response.status in _REDIRECTS else None
                if target is None:
                    yield response
                    return
            place = place.join(parse_url(target))
        raise DownloadError(reason=f"more than {_MAX_REDIRECTS} redirects")

    async def aclose(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            await client.close()

    async def _proxy_for(self, place: URL) -> str | None:
        origin = f"{place.scheme}://{place.raw_authority}"
        try:
            return await anyio.to_thread.run_sync(self.find_proxy, origin)
        except ConfigError as error:  # the environment names one that cannot be used
            raise DownloadError(reason=str(error)) from None

    def _client(self, *, is_proxied: bool) -> aiohttp.ClientSession:
        if is_proxied not in self._clients:
            resolver = self.make_resolver()
            resolver = resolver if is_proxied else CheckingResolver(resolver, self.reach)
            self._clients[is_proxied] = _make_client(resolver, self.stall_s, self.tls)
        return self._clients[is_proxied]


def _make_client(resolver: AbstractResolver, stall_s: float, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """A client whose connections fail after ``stall_s`` without a byte.

    It has no other limits: a limit on connections would let a hundred slow readers hold up all other downloads.
    """
    return aiohttp.ClientSession(
        connector=lenient_connector(resolver, tls, use_dns_cache=False),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=stall_s),
        trust_env=False,  # would also read .netrc, and send a password from it
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
    )


def parse_url(text: str) -> URL:
    """``text`` as a URL, to the letter, as a signature covers its spelling. Raises ``DownloadError``, without the URL.

    Characters that a request cannot have (spaces, control characters, letters beyond ASCII) are quoted. A header may
    hold bytes that are not UTF-8, such as a ``Location`` in Latin-1: each is quoted as the byte that it is.
    """
    text = _UNDECODED.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", text)
    try:
        url = URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)
        _ = url.port  # yarl looks at it only now
        return url
    except ValueError:
        raise DownloadError(reason="the video's URL is not valid") from None
