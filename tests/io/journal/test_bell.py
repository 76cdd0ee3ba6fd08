"""How one session wakes another on the same machine, and that nothing comes of it where it cannot."""

from __future__ import annotations

import secrets
import select
from collections.abc import Iterator

import pytest

from hailuo_async._io.journal.bell import Bell


@pytest.fixture
def bells() -> Iterator[tuple[Bell, Bell]]:
    both = Bell(), Bell()
    yield both
    for bell in both:
        bell.close()


def is_rung(bell: Bell) -> bool:
    number = bell.fileno()
    return number is not None and bool(select.select([number], [], [], 0)[0])


def test_only_the_bell_of_that_name_is_rung_and_until_it_is_quieted(bells: tuple[Bell, Bell]) -> None:
    one, other = bells
    name = secrets.token_hex(8)
    one.listen(name)
    other.listen(f"{name} too")
    other.ring({name, "of nobody"})
    other.ring({name})
    assert (is_rung(one), is_rung(other)) == (True, False)
    one.quiet()
    assert not is_rung(one)


def test_a_name_that_is_taken_leaves_a_session_without_a_bell(bells: tuple[Bell, Bell]) -> None:
    one, other = bells
    name = secrets.token_hex(8)
    one.listen(name)
    other.listen(name)
    assert other.fileno() is None
    other.ring({name})  # it has no socket to ring with
    assert not is_rung(one)


def test_a_notice_comes_with_the_ring_and_a_flood_of_them_is_bounded(bells: tuple[Bell, Bell]) -> None:
    one, other = bells
    name = secrets.token_hex(8)
    one.listen(name)
    other.listen(f"{name} too")
    other.ring([name], "it")
    other.ring([name])
    assert one.quiet() == {"it"}
    other.ring([name], "x" * 100_000)
    assert [len(message) for message in one.quiet()] == [1024]
    for number in range(1000):
        other.ring([name], str(number))
    assert 0 < len(one.quiet()) <= 64
    assert not is_rung(one)
