"""Who may talk to the page."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse

from hailuo_async.web.guard import COOKIE, Guard

HOSTS = frozenset({"127.0.0.1:8765", "localhost:8765"})
PAGE = "http://127.0.0.1:8765"


async def ask(guard: Guard, method: str = "GET", path: str = "/", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url=PAGE) as client:
        return await client.request(
            method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )


def guarded(token: str | None = None) -> Guard:
    return Guard(PlainTextResponse("in"), () if token else HOSTS, token, b"give the token")


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765"])
async def test_the_page_is_served_under_its_own_names(host: str) -> None:
    answer = await ask(guarded(), host=host)
    assert (answer.status_code, answer.text) == (200, "in")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", ""])
async def test_another_name_that_leads_here_is_refused(host: str) -> None:
    assert (await ask(guarded(), host=host)).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": PAGE}, 200),
        ({"origin": PAGE, "sec_fetch_site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"origin": PAGE, "sec_fetch_site": "same-site"}, 403),
        ({"origin": "http://localhost:8765"}, 403),
    ],
)
async def test_only_the_page_itself_changes_anything(headers: dict[str, str], status: int) -> None:
    assert (await ask(guarded(), "POST", "/api/jobs", **headers)).status_code == status
    assert (await ask(guarded(), "DELETE", "/api/jobs", **headers)).status_code == status


async def test_with_a_token_only_its_holder_gets_in() -> None:
    guard = guarded("secret")
    assert (await ask(guard)).text == "give the token"
    assert (await ask(guard, path="/api/events")).status_code == 401
    assert (await ask(guard, "POST", "/api/jobs")).status_code == 401
    for wrong in ("Bearer ", "Bearer secre", "Basic secret", "secret"):
        assert (await ask(guard, path="/api/events", authorization=wrong)).status_code == 401
    for cookie in (f"{COOKIE}=secret", f"{COOKIE}=", "x", f"{COOKIE}={'0' * 64}"):
        assert (await ask(guard, path="/api/events", cookie=cookie)).status_code == 401
    assert (await ask(guard, path="/api/events", authorization="Bearer secret")).text == "in"
    assert (await ask(guard, path="/api/events", cookie=f"{COOKIE}={guard.cookie}")).text == "in"
    assert "secret" not in guard.cookie + repr(guard)
