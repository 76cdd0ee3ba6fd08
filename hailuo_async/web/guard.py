"""Decides who may use the page: this machine alone, or any visitor with the token. Pure ASGI, in front of all else.

- ``Host`` must be a name that the page is served under, or another site's name could lead here (DNS rebinding).
- A request that changes something must come from the page itself: ``Origin`` and ``Sec-Fetch-Site`` say so.
- With a token, a cookie (``HttpOnly``, ``SameSite=Strict``) or ``Authorization: Bearer`` has to hold it.
- Every answer carries a strict Content-Security-Policy: nothing runs or loads but what the page brings.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

import attrs
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hailuo_async.web.answers import Answer, json_answer
from hailuo_async.web.reply import Body, Reply

COOKIE = "hailuo"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send "Origin: null" with a form
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_READING = frozenset({"GET", "HEAD"})
#: What a visitor without a token gets: enough to give it.
_OPEN_PATHS = frozenset({"/login", "/static/page.css", "/static/icon.svg"})


@attrs.define(eq=False)
class Guard:
    """Lets through to ``app`` what may pass. ``hosts``: the names it is served under; none for any (with a token)."""

    app: ASGIApp
    hosts: Collection[str]
    token: str | None = attrs.field(default=None, repr=False)
    login_page: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, send_safely)
            return
        body = None if scope["method"] in _READING else Body(Request(scope, receive))
        await Reply(refusal, body)(scope, receive, send_safely)

    def is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(errors="surrogatepass"), self.token.encode())

    @property
    def cookie(self) -> str:
        """What the cookie holds: not the token itself, which its owner may use elsewhere."""
        return hashlib.sha256(f"hailuo page\n{self.token}".encode()).hexdigest()

    def login(self, status: int) -> Answer:
        """The page that asks for the token."""
        return Answer(
            status, {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}, self.login_page
        )

    def _refusal(self, method: str, path: str, headers: Headers) -> Answer | None:
        host = headers.get("host", "")
        if self.hosts and host not in self.hosts:
            return _refused(403, "this page is not served under that name: open it at the address that was printed")
        if method not in _READING and not _is_own(headers, host):
            return _refused(403, "another site may not do this")
        if self.token is None or path in _OPEN_PATHS or self._has_token(headers):
            return None
        if path == "/" and method in _READING:
            return self.login(200)
        return _refused(401, "give the token: open the page")

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and hmac.compare_digest(cookies[COOKIE].value.encode(), self.cookie.encode())


def _is_own(headers: Headers, host: str) -> bool:
    """Whether a request comes from this page, or from no page at all."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc == host)


def _refused(status: int, words: str) -> Answer:
    return json_answer({"error": "Refused", "message": words}, status)
