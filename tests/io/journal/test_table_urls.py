"""No file of a journal holds a signed URL that is of no more use."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from hailuo_async._io.journal.table import JobTable
from hailuo_async.outcomes import Resource, Video

from ...support.tables import DAY_S, SECRET, Clock, Opener, accepted, did, intent, record_of, video
from .conftest import Everything


def wiped(value: Video) -> Video:
    return attrs.evolve(value, resources=tuple(attrs.evolve(place, url="") for place in value.resources))


def test_a_saved_video_is_on_record_and_its_urls_are_in_no_file(ours: JobTable, everything: Everything) -> None:
    accepted(ours)
    did(ours, lambda it: it.succeeded("cat", video()))
    assert not record_of(ours).is_wiped
    assert SECRET.encode() in everything()
    did(ours, lambda it: it.saved("t1", "/films/cat.mp4"))
    record = record_of(ours)
    assert (record.saved_to, record.video, record.is_wiped) == ("/films/cat.mp4", wiped(video()), True)
    assert SECRET.encode() not in everything()


def test_what_a_whole_video_is_known_by_is_on_record_before_its_place_and_wipes_nothing(ours: JobTable) -> None:
    accepted(ours)
    did(ours, lambda it: it.succeeded("cat", video()))
    did(ours, lambda it: it.whole("t1", 3, "5ha"))
    record = record_of(ours)
    assert (record.saved_to, record.saved_bytes, record.saved_sha256) == (None, 3, "5ha")
    assert not record.is_wiped


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_reader_that_holds_an_old_version_delays_the_wiping_and_does_not_prevent_it(
    ours: JobTable, path: Path, everything: Everything
) -> None:
    accepted(ours)
    did(ours, lambda it: it.succeeded("cat", video()))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM job").fetchall()
    did(ours, lambda it: it.saved("t1", "/films/cat.mp4"))
    assert SECRET.encode() in everything()
    reader.close()
    did(ours, JobTable.renew)
    assert SECRET.encode() not in everything()


@pytest.mark.slow
def test_among_many_rows_that_grow_and_move_no_wiped_url_is_left(ours: JobTable, everything: Everything) -> None:
    keys = [f"job-{number}" for number in range(300)]
    with ours.transaction():
        for number, key in enumerate(keys):
            ours.intend(intent(key, prompt="p" * (number * 7 % 200)))
    for number, key in enumerate(sorted(keys, key=lambda key: key[::-1])):
        with ours.transaction():
            ours.succeeded(key, video(key))
            if number % 3:
                ours.saved(key, "/films/" + "x" * (number % 90))
    with ours.transaction():
        for key in keys:
            ours.saved(key, "/films/of/all")
    assert SECRET.encode() not in everything()


def test_expired_urls_go_when_a_session_opens_renews_or_closes(
    ours: JobTable, opened: Opener, clock: Clock, everything: Everything
) -> None:
    expiry = datetime.fromtimestamp(clock.time + DAY_S, UTC)
    did(ours, lambda it: it.succeeded("said", video("t1", expiry)))
    did(ours, lambda it: it.succeeded("unsaid", video("t2")))
    clock.time += DAY_S
    opened("theirs")
    assert record_of(ours, "task:t1").is_wiped
    assert not record_of(ours, "task:t2").is_wiped
    clock.time += 6 * DAY_S
    did(ours, JobTable.renew)
    assert record_of(ours, "task:t2").is_wiped
    assert SECRET.encode() not in everything()


def test_a_second_result_replaces_the_first_ones_urls(ours: JobTable, everything: Everything) -> None:
    accepted(ours)
    did(ours, lambda it: it.succeeded("cat", video()))
    newer = attrs.evolve(video(), resources=(Resource(url="https://cdn.example/new"),))
    did(ours, lambda it: it.succeeded("cat", newer))
    assert record_of(ours).video == newer
    assert SECRET.encode() not in everything()


def test_a_job_without_a_video_is_not_wiped(ours: JobTable) -> None:
    assert not did(ours, lambda it: it.intend(intent())).record.is_wiped
