"""What can be set: everything that cannot work is refused with its field, value and rule, before anything is sent."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from hailuo_async import AsyncSession, ConfigError
from hailuo_async.contract import API_KEY_VARIABLE, BASE_URL_VARIABLE
from hailuo_async.errors import without_query
from hailuo_async.settings import Dsn, Settings, check_settings, is_this_machine, optional_seconds

KEY = "sk-0123456789abcdef"

ALL: dict[str, Any] = {
    "api_key": KEY,
    "base_url": "https://api.modellix.ai",
    "max_running": None,
    "max_queued": 10,
    "max_jobs": None,
    "max_cost": None,
    "webhook_url": None,
    "timeout": None,
    "poll_interval": (0.5, 30.0),
    "journal": None,
    "journal_prompts": False,
    "keep_jobs": False,
    "max_kept_bytes": 4 << 30,
    "on_unknown": "raise",
    "allow_private_network": False,
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)


def check(**changes: Any) -> Settings:
    return check_settings(**{**ALL, **changes})


def problem(make: Callable[[], object]) -> tuple[str, object, str]:
    """The field, value and rule of the error that ``make`` meets."""
    with pytest.raises(ConfigError) as caught:
        make()
    return caught.value.field, caught.value.value, caught.value.rule


def refused(field: str, value: object) -> str:
    """The rule that this setting breaks; that the error names field and value is checked here."""
    named, shown, rule = problem(lambda: check(**{field: value}))
    assert named == field
    assert shown is value or shown == without_query(str(value))
    return rule


# --- The key --------------------------------------------------------------------------------------------------------

NO_KEY = "set MODELLIX_API_KEY or give api_key="
KEY_RULE = "must be printable ASCII without spaces"


def test_the_key_is_given_or_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check().api_key == KEY
    monkeypatch.setenv(API_KEY_VARIABLE, "from-the-environment")
    assert check(api_key=None).api_key == "from-the-environment"
    assert check().api_key == KEY


def test_without_a_key_nothing_begins() -> None:
    assert problem(lambda: check(api_key=None)) == ("api_key", None, NO_KEY)
    assert problem(lambda: check(api_key="")) == ("api_key", None, NO_KEY)
    assert problem(AsyncSession) == ("api_key", None, NO_KEY)


@pytest.mark.parametrize("key", [" ", "a b", " key", "key ", "key\n", "a\tb", "a\x00b", "a\x7fb", "schlüssel", 5, b"k"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key: object) -> None:
    assert problem(lambda: check(api_key=key)) == ("api_key", "(hidden)", KEY_RULE)


def test_a_bad_key_in_the_environment_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, f"{KEY}\n")
    with pytest.raises(ConfigError) as caught:
        check(api_key=None)
    assert KEY not in str(caught.value)
    assert KEY not in repr(vars(caught.value))


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(check())
    assert KEY not in repr(AsyncSession(api_key=KEY))


# --- The origin -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        (None, "https://api.modellix.ai"),
        ("https://api.modellix.ai", "https://api.modellix.ai"),
        ("https://api.modellix.ai/", "https://api.modellix.ai"),
        ("HTTPS://Api.Modellix.AI", "https://api.modellix.ai"),
        ("https://example.com:8443", "https://example.com:8443"),
        ("https://example.com:", "https://example.com"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_base_url_is_an_origin(given: str | None, origin: str) -> None:
    assert check(base_url=given).base_url == origin


def test_the_base_url_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BASE_URL_VARIABLE, "http://localhost:8000/")
    assert check(base_url=None).base_url == "http://localhost:8000"
    assert check(base_url="https://example.com").base_url == "https://example.com"
    monkeypatch.setenv(BASE_URL_VARIABLE, "")
    assert check(base_url=None).base_url == "https://api.modellix.ai"
    monkeypatch.setenv(BASE_URL_VARIABLE, "http://example.com")
    assert problem(lambda: check(base_url=None))[:2] == ("base_url", "http://example.com")


HTTPS = "must be https; plain http is for localhost and loopback addresses alone"
ORIGIN = "must be an origin: scheme and host, no path, no query"
PARTS = "must be an https origin with a valid host and port"
A_STR = "must be an https origin, a str"


@pytest.mark.parametrize(
    ("base_url", "rule"),
    [
        ("http://api.modellix.ai", HTTPS),
        ("http://10.0.0.1", HTTPS),
        ("http://localhost.example.com", HTTPS),
        ("http://api.localhost", HTTPS),
        ("http://localhost.", HTTPS),
        ("http://128.0.0.1", HTTPS),
        ("ftp://api.modellix.ai", HTTPS),
        ("//api.modellix.ai", HTTPS),
        ("https://api.modellix.ai/api/v1", ORIGIN),
        ("https://api.modellix.ai//", ORIGIN),
        ("https://api.modellix.ai?", ORIGIN),
        ("https://api.modellix.ai?team=1", ORIGIN),
        ("https://api.modellix.ai#a", ORIGIN),
        ("https://", ORIGIN),
        ("https:///", ORIGIN),
        ("https://:8443", ORIGIN),
        ("https://.", ORIGIN),
        ("https://api..modellix.ai", ORIGIN),
        ("https://bücher.example", ORIGIN),
        ("https://api.modellix.ai\\.evil.example", ORIGIN),
        ("https://api.modellix.ai%2eevil.example", ORIGIN),
        ("https://a,b", ORIGIN),
        ("https://[v1.evil]", ORIGIN),
        ("api.modellix.ai", ORIGIN),
        ("", ORIGIN),
        ("https://api.modellix.ai:99999", PARTS),
        ("https://api.modellix.ai:http", PARTS),
        ("https://[::1", PARTS),
        ("https://api.modellix.ai ", A_STR),
        (" https://api.modellix.ai", A_STR),
        ("https://api.modellix.ai\n", A_STR),
        (b"https://api.modellix.ai", A_STR),
        (5, A_STR),
    ],
)
def test_a_base_url_that_is_more_or_less_than_an_https_origin_is_refused(base_url: object, rule: str) -> None:
    assert refused("base_url", base_url) == rule


@pytest.mark.parametrize("base_url", ["https://user:secret@api.modellix.ai", "https://secret@api.modellix.ai"])
def test_credentials_in_a_base_url_are_refused_and_not_shown(base_url: str) -> None:
    found = problem(lambda: check(base_url=base_url))
    assert found == ("base_url", "(hidden)", "must not hold a user name or a password")


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        *[(host, True) for host in ("localhost", "127.0.0.1", "127.1.2.3", "::1")],
        *[(host, False) for host in ("a.localhost", "localhost.example", "10.0.0.1", "::2", "example.com", "")],
    ],
)
def test_this_machine_is_known_by_its_names(host: str, is_here: bool) -> None:
    assert is_this_machine(host) is is_here


@pytest.mark.parametrize(("base_url", "is_local"), [("http://localhost:1", True), ("https://api.modellix.ai", False)])
def test_a_service_is_local_if_its_host_is_this_machine(base_url: str, is_local: bool) -> None:
    assert check(base_url=base_url).is_local is is_local


# --- Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["max_running", "max_jobs", "max_queued"])
def test_a_count_is_a_whole_number_of_at_least_one(field: str) -> None:
    for count in (1, 3, 10**12):
        assert getattr(check(**{field: count}), field) == count
    for bad in (0, -1, 1.0, 3.5, "3", True, math.inf, math.nan, [3]):
        assert refused(field, bad) == "must be a whole number of at least 1"


@pytest.mark.parametrize("field", ["max_running", "max_jobs", "max_cost", "timeout", "journal"])
def test_what_need_not_be_set_may_be_none(field: str) -> None:
    assert getattr(check(**{field: None}), field) is None


@pytest.mark.parametrize("field", ["max_queued", "poll_interval", "on_unknown", "journal_prompts"])
def test_what_has_a_value_is_never_none(field: str) -> None:
    refused(field, None)


DOLLARS = "must be US dollars, over 0 and under a million, such as 20 or Decimal('14.58')"


def test_a_limit_of_dollars_is_the_decimal_that_is_said() -> None:
    for said, dollars in ((20, "20"), (3 * 0.324, "0.972"), ("0.5", "0.5"), ("$20", "20"), (Decimal("1.10"), "1.10")):
        assert check(max_cost=said).max_cost == Decimal(dollars)
    for bad in (0, 0.0, -1, "-1", "", "lots", True, math.inf, math.nan, 10**7, "1e3", [20], Decimal("NaN")):
        assert refused("max_cost", bad) == DOLLARS


SECONDS = "must be a finite number of seconds over 0"


def test_a_timeout_is_a_finite_number_of_seconds() -> None:
    for timeout in (0.001, 1, 90.5, 1e9):
        found = check(timeout=timeout).timeout
        assert (found, type(found)) == (timeout, float)
    for bad in (0, -1, 0.0, math.inf, -math.inf, math.nan, 10**400, "90", True, [1]):
        assert refused("timeout", bad) == SECONDS


def test_seconds_that_belong_to_one_call_are_checked_as_well() -> None:
    assert optional_seconds("timeout", None) is None
    assert optional_seconds("timeout", 3) == 3.0
    assert problem(lambda: optional_seconds("timeout", -3)) == ("timeout", -3, SECONDS)


def test_the_poll_interval_is_a_pair_in_order() -> None:
    for interval in ((0.5, 30.0), (1, 1), [2, 3.5]):
        assert check(poll_interval=interval).poll_interval == tuple(interval)
    for interval in ((30.0, 0.5), (2, 1)):
        assert refused("poll_interval", interval) == "must have its shortest before its longest"
    for shape in (5, 5.0, "ab", (1,), (1, 2, 3), {1: 2, 3: 4}):
        assert refused("poll_interval", shape) == "must be a pair of seconds, the shortest and the longest"
    found = problem(lambda: check(poll_interval=(1, math.nan)))
    assert (found[0], found[2]) == ("poll_interval", SECONDS)


@pytest.mark.parametrize(
    ("interval", "bad"),
    [((0, 1), 0), ((-1, 1), -1), ((1, math.inf), math.inf), (("1", 2), "1"), ((1, None), None), ((1, True), True)],
)
def test_both_ends_of_the_poll_interval_are_seconds(interval: tuple[object, object], bad: object) -> None:
    assert problem(lambda: check(poll_interval=interval)) == ("poll_interval", bad, SECONDS)


# --- Webhooks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/done?team=1", "https://203.0.114.7:8443", "https://[2606::1]/"]
)
def test_a_webhook_is_a_public_https_url(url: str) -> None:
    assert check(webhook_url=url).webhook_url == url


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/done", "https://localhost/x", "https://10.1.2.3", "http://[::1]:1/", "https://127.1/"],
)
def test_a_webhook_on_this_network_has_to_be_allowed(url: str) -> None:
    assert check(webhook_url=url, allow_private_network=True).webhook_url == url
    field, value, rule = problem(lambda: check(webhook_url=url))
    assert (field, value) == ("webhook_url", url)
    assert rule.startswith(("must be https", "must be a public address"))


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://hooks.example.com/", "must be https: the service calls nothing else"),
        ("ftp://hooks.example.com/", "must be an https URL with a valid host and port"),
        ("hooks.example.com", "must be an https URL with a valid host and port"),
        ("https://", "must be an https URL with a valid host and port"),
        ("https://hooks.example.com:99999", "must be an https URL with a valid host and port"),
        ("https://[::1", "must be an https URL with a valid host and port"),
        ("https://hooks.example.com/#a", "must have no fragment: it would not be sent"),
        ("https://hooks.example.com/" + "x" * 2000, "must have at most 2000 characters"),
        ("https://hooks.example.com/a b", "must be an https URL in printable ASCII, a str"),
        ("https://hooks.example.com/\r\nX: y", "must be an https URL in printable ASCII, a str"),
        ("https://bücher.example/", "must be an https URL in printable ASCII, a str"),
        (5, "must be an https URL in printable ASCII, a str"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("allow", [False, True])
def test_a_webhook_that_the_service_could_not_call_is_refused(url: object, rule: str, allow: bool) -> None:
    found = problem(lambda: check(webhook_url=url, allow_private_network=allow))
    assert found == ("webhook_url", url, rule)


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("base_url", "https://api.modellix.ai/?key=SECRET"),
        ("webhook_url", "http://hooks.example.com/?token=SECRET"),
        ("webhook_url", "https://10.1.2.3/?token=SECRET"),
        ("webhook_url", "https:///?token=SECRET"),
        ("webhook_url", "https://hooks.example.com/?token=SECRET#a"),
        ("webhook_url", "https://hooks.example.com/?token=SECRET" + "x" * 2000),
        ("webhook_url", "https://hooks.example.com/?token=SECRET "),
    ],
)
def test_the_query_of_an_address_that_is_refused_is_not_shown(field: str, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(**{field: url})
    assert "SECRET" not in f"{caught.value} {vars(caught.value)}"


def test_the_query_of_a_webhook_which_keeps_strangers_from_it_is_not_shown() -> None:
    settings = check(webhook_url="https://hooks.example.com/done?token=SECRET")
    assert "SECRET" not in repr(settings)
    assert "'https://hooks.example.com/done?…'" in repr(settings)


def test_credentials_in_a_webhook_are_refused_and_not_shown() -> None:
    found = problem(lambda: check(webhook_url="https://user:secret@hooks.example.com"))
    assert found == ("webhook_url", "(hidden)", "must hold no user name and no password")


# --- The others -----------------------------------------------------------------------------------------------------


def test_a_journal_is_the_path_of_a_file() -> None:
    assert check(journal="batch.db").journal == Path("batch.db")
    assert check(journal=Path("a") / "batch.db").journal == Path("a/batch.db")
    assert check(journal=os.fsencode("a").decode()).journal == Path("a")
    for journal in ("", 5, b"batch.db", True, "a\0b", ":memory:", "file:batch.db?mode=ro"):
        assert refused("journal", journal) == "must be the path of a file, a PostgreSQL DSN, or None"


def test_a_path_may_be_in_bytes_inside() -> None:
    class Odd:
        def __fspath__(self) -> bytes:
            return b"batch.db"

    assert check(journal=Odd()).journal == Path("batch.db")


@pytest.mark.parametrize("field", ["journal_prompts", "allow_private_network"])
def test_a_flag_is_true_or_false(field: str) -> None:
    for flag in (True, False):
        assert getattr(check(**{field: flag}), field) is flag
    for other in (0, 1, "yes", None):
        assert refused(field, other) == "must be True or False"


def test_what_happens_after_a_doubt_is_one_of_two_words() -> None:
    assert [check(on_unknown=word).on_unknown for word in ("raise", "resubmit")] == ["raise", "resubmit"]
    for other in ("RAISE", "retry", "", True):
        assert refused("on_unknown", other) == 'must be "raise" or "resubmit"'


def test_settings_are_a_value_that_cannot_change() -> None:
    assert check() == check()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        check().max_queued = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_running", 0), ("timeout", -1), ("poll_interval", (2, 1)), ("base_url", "x"), ("journal", 5)],
)
def test_a_session_checks_all_of_it_when_it_is_made(field: str, value: Any) -> None:
    made: dict[str, Any] = {"api_key": KEY, field: value}
    assert problem(lambda: AsyncSession(**made))[:2] == (field, value)


def test_a_transport_and_a_source_of_random_numbers_can_be_used_as_such() -> None:
    transport = problem(lambda: AsyncSession(api_key=KEY, transport=5))  # type: ignore[arg-type]
    assert transport == ("transport", 5, "must have the methods send and aclose, as Transport")
    rng = problem(lambda: AsyncSession(api_key=KEY, rng=5))  # type: ignore[arg-type]
    assert rng == ("rng", 5, "must be a random.Random, or None")


def test_a_client_session_is_aiohttps() -> None:
    not_one = aiohttp.ClientTimeout()
    found = problem(lambda: AsyncSession(api_key=KEY, client_session=not_one))  # type: ignore[arg-type]
    assert found == ("client_session", not_one, "must be an aiohttp.ClientSession")


# --- A journal in a database ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://team@db.example/films", "postgresql://team@db.example/films"),
        ("postgres://team@db.example/films", "postgresql://team@db.example/films"),
        ("postgresql://team:s3cret@db.example:5433/films", "postgresql://team@db.example:5433/films"),
        ("postgresql://db.example/films?user=team&password=s3cret", "postgresql://db.example/films?user=team"),
        ("postgresql://team:s3%2Fcret@a:1,b:2/films", "postgresql://team@a:1,b:2/films"),
        ("postgresql:///films?host=/run/pg&sslpassword=s3cret", "postgresql:///films?host=/run/pg"),
        ("postgresql://team:s3cret@[::1]:5433/films", "postgresql://team@[::1]:5433/films"),
    ],
)
def test_a_dsn_is_shown_without_its_password(dsn: str, shown: str) -> None:
    place = check(journal=dsn).journal
    assert isinstance(place, Dsn)
    assert (place.url, str(place), repr(place)) == (dsn, shown, f"Dsn({shown!r})")
    assert place.hide(f"{dsn} s3/cret") == dsn.replace("s3cret", "***").replace("s3%2Fcret", "***") + (
        " ***" if "%2F" in dsn else " s3/cret"
    )


@pytest.mark.parametrize("password", ["s3/cret", "s3?cret", "s3#cret", "s3@cret", "123/45", "123?4@5"])
def test_a_password_that_breaks_a_dsn_is_hidden_in_what_is_said_of_it(password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(journal=f"postgresql://team:{password}@db.example/films")
    assert caught.value.field == "journal"
    assert password not in str(caught.value)
    assert "%XX" in caught.value.rule


@pytest.mark.parametrize("scheme", ["pg", "mysql", "postgresql+psycopg", "sqlite"])
def test_a_url_of_another_kind_is_no_path_and_is_not_shown(scheme: str) -> None:
    with pytest.raises(ConfigError, match="must be a path or postgresql://") as caught:
        check(journal=f"{scheme}://team:s3cret@db.example/films")
    assert "s3cret" not in str(caught.value)


def test_libpqs_keywords_are_no_path_and_are_not_shown() -> None:
    with pytest.raises(ConfigError, match="must be a path or postgresql://") as caught:
        check(journal="host=db.example user=team password=s3cret")
    assert "s3cret" not in str(caught.value)


def test_a_path_that_looks_like_a_dsn_is_a_path() -> None:
    assert check(journal=Path("postgresql:/x")).journal == Path("postgresql:/x")
