"""The table of models, row by row as the documents have it, and how a name finds its row."""

from __future__ import annotations

import copy
import pickle

import pytest

from hailuo_async import MODELS, JobError, Model
from hailuo_async.contract import CAMERA_COMMANDS
from hailuo_async.models import find_model

TWO = {6: ("768P", "1080P"), 10: ("768P",)}
THREE = {6: ("768P", "512P", "1080P"), 10: ("768P",)}
ONE = {6: ("720P",)}

ROWS = [
    Model("hailuo-2.3-i2v", "/api/v1/minimax/hailuo-2.3-i2v/async", TWO, fast_pretreatment=True),
    Model("hailuo-02-fl2v", "/api/v1/image-to-video/minimax/hailuo-02-fl2v/async", TWO, takes_last_frame=True),
    Model("hailuo-2.3-fast-i2v", "/api/v1/minimax/hailuo-2.3-fast-i2v/async", TWO, fast_pretreatment=True),
    Model("hailuo-02-i2v", "/api/v1/minimax/hailuo-02-i2v/async", THREE),
    Model("minimax-i2v-01", "/api/v1/minimax/minimax-i2v-01/async", ONE, camera_commands=False),
    Model("minimax-i2v-01-live", "/api/v1/minimax/minimax-i2v-01-live/async", ONE, camera_commands=False),
    Model("minimax-i2v-01-director", "/api/v1/minimax/minimax-i2v-01-director/async", ONE),
]


def test_the_table_is_the_documents() -> None:
    assert list(MODELS.values()) == ROWS


def test_the_table_is_found_by_slug_and_cannot_be_changed() -> None:
    assert list(MODELS) == [row.slug for row in ROWS]
    with pytest.raises(TypeError):
        MODELS["mine"] = ROWS[0]  # type: ignore[index]


@pytest.mark.parametrize("model", ROWS, ids=lambda model: model.slug)
def test_a_model_can_be_pickled_copied_and_put_into_a_set(model: Model) -> None:
    copies = (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model))
    assert {*copies} == {model}
    with pytest.raises(TypeError):
        copies[0].sizes[6] = ()


def test_there_are_fifteen_camera_commands() -> None:
    pairs = ["Truck left/right", "Pan left/right", "Pedestal up/down", "Tilt up/down", "Zoom in/out"]
    both = {f"{verb} {way}" for pair in pairs for verb, ways in [pair.split(" ")] for way in ways.split("/")}
    assert {*both, "Push in", "Pull out", "Shake", "Tracking shot", "Static shot"} == CAMERA_COMMANDS
    assert len(CAMERA_COMMANDS) == 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_a_model_is_found_by_its_slug_with_and_without_its_provider(row: Model) -> None:
    assert find_model(row.slug, takes_last_frame=row.takes_last_frame) == row
    assert find_model(f"minimax/{row.slug}", takes_last_frame=row.takes_last_frame) == row


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/image-to-video/minimax/hailuo-2.3-i2v/async",
        "/api/v1/minimax/hailuo-2.3-i2v/async",
        "/api/v1/minimax/hailuo-2.3-i2v",
        "/api/v2/elsewhere/hailuo-2.3-i2v",
    ],
)
def test_a_path_of_a_known_model_keeps_its_rules(path: str) -> None:
    assert find_model(path, takes_last_frame=False) == Model("hailuo-2.3-i2v", path, TWO, fast_pretreatment=True)


@pytest.mark.parametrize("takes_last_frame", [True, False])
def test_the_rules_of_a_path_that_nobody_knows_are_left_to_the_service(takes_last_frame: bool) -> None:
    path = "/api/v1/minimax/hailuo-9/async"
    found = find_model(path, takes_last_frame=takes_last_frame)
    assert found == Model("hailuo-9", path, {}, takes_last_frame, camera_commands=True, fast_pretreatment=True)


@pytest.mark.parametrize("name", [None, 5, "", b"hailuo-2.3-i2v"])
def test_a_name_is_a_str(name: object) -> None:
    with pytest.raises(JobError) as caught:
        find_model(name, takes_last_frame=False)
    assert (caught.value.field, caught.value.value) == ("model", name)
    assert caught.value.rule == "must be a model's slug or its path, a str"


@pytest.mark.parametrize(
    "name", ["hailuo", "Hailuo-2.3-i2v", "other/hailuo-2.3-i2v", "https://api.modellix.ai/api/v1/a"]
)
def test_a_name_that_is_not_in_the_table_is_told_the_table(name: str) -> None:
    with pytest.raises(JobError) as caught:
        find_model(name, takes_last_frame=False)
    assert (caught.value.field, caught.value.value) == ("model", name)
    assert all(row.slug in caught.value.rule for row in ROWS)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/minimax/hailuo-2.3-i2v/",
        "/api/v1/minimax/hailuo-2.3-i2v/async/async",
        "/api/v1/minimax//hailuo-2.3-i2v",
        "/api/v1/../admin",
        "/api/v1/minimax/hailuo-2.3-i2v?team=1",
        "/api/v1/minimax/hailuo-2.3-i2v#a",
        "/api/v1/minimax/hailuo 2.3",
        "/api/v1/minimax/hailuo\n",
        "/api/v1/minimax/%2e%2e",
        "/api/v٣/minimax/hailuo-2.3-i2v",
        "//evil.example/api/v1/minimax/hailuo-2.3-i2v",
        "/v1/minimax/hailuo-2.3-i2v",
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(JobError) as caught:
        find_model(path, takes_last_frame=False)
    assert (caught.value.field, caught.value.value) == ("model", path)
    assert caught.value.rule == "must be /api/v1/… of plain segments, without a query, where it is a path"


@pytest.mark.parametrize(
    ("name", "takes_last_frame", "job"),
    [
        ("hailuo-02-fl2v", False, "FirstLastFrameToVideo"),
        ("/api/v1/minimax/hailuo-02-fl2v", False, "FirstLastFrameToVideo"),
        ("hailuo-2.3-i2v", True, "ImageToVideo"),
    ],
)
def test_a_model_of_the_other_kind_names_the_job_that_it_is_for(name: str, takes_last_frame: bool, job: str) -> None:
    with pytest.raises(JobError) as caught:
        find_model(name, takes_last_frame=takes_last_frame)
    assert caught.value.rule == f"belongs to the other kind of job: use {job} for it"
