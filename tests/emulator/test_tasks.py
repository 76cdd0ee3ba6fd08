"""The life of a task, from acceptance to oblivion."""

from __future__ import annotations

import pytest

from hailuo_async.emulator import Kind, Service

from ..support.emulated import NOW, accepted, ask, data_url, job, png, queried, refusal, submit


def test_a_task_is_pending_then_processing_then_done() -> None:
    service = Service(generation_s=100, spread=0)
    task_id = accepted(service)
    assert [queried(service, task_id, NOW + at)["status"] for at in (0, 9.9, 10, 99.9, 100, 10_000)] == [
        "pending", "pending", "processing", "processing", "success", "success",
    ]  # fmt: skip


def test_a_query_of_a_finished_task_answers_its_film() -> None:
    service = Service(generation_s=93.5, spread=0, origin="https://api.modellix.ai")
    task_id = accepted(service)
    data = queried(service, task_id, NOW + 100)
    url = data["result"]["resources"][0].pop("url")
    assert url.startswith(f"https://api.modellix.ai/results/{task_id}.mp4?")
    assert data == {
        "status": "success",
        "task_id": task_id,
        "model_id": "minimax-hailuo-2.3-i2v",
        "duration": 93500,
        "result": {
            "resources": [{"type": "video", "width": 1366, "height": 768, "format": "mp4", "role": "primary"}],
            "metadata": {"request_id": task_id.replace("task", "req")},
        },
        "billing": {"status": "succeeded", "amount": "0.3240"},
        "result_expires_at": round((NOW + 93.5 + 7 * 24 * 3600) * 1000),
    }


@pytest.mark.parametrize("render", [False, True])
def test_a_picture_is_kept_only_where_a_film_is_made_of_it(render: bool) -> None:
    service = Service(render=render)
    task_id = service.handle(submit({"first_frame_image": data_url(png(400, 400))}), NOW).json()["data"]["task_id"]
    task = service._tasks.find(task_id)
    assert task is not None
    assert task.submission.first is not None
    assert (task.submission.first.data is not None) is render


@pytest.mark.parametrize(
    ("model", "pictures", "resolution", "size"),
    [
        ("hailuo-2.3-i2v", {"first_frame_image": (1000, 1000)}, "768P", (768, 768)),
        ("hailuo-2.3-i2v", {"first_frame_image": (1080, 1920)}, "1080P", (1080, 1920)),
        ("hailuo-02-i2v", {"first_frame_image": (1000, 400)}, "512P", (1280, 512)),
        ("hailuo-02-fl2v", {"last_frame_image": (1000, 400)}, "768P", (1920, 768)),
        ("hailuo-02-fl2v", {"last_frame_image": (1000, 400), "first_frame_image": (400, 401)}, "768P", (768, 770)),
        ("minimax-i2v-01", {"first_frame_image": (1920, 1080)}, "720P", (1280, 720)),
    ],
)
def test_a_film_has_the_resolution_asked_for_in_its_first_pictures_aspect(
    model: str, pictures: dict[str, tuple[int, int]], resolution: str, size: tuple[int, int]
) -> None:
    service = Service()
    content = {name: data_url(png(*pixels)) for name, pixels in pictures.items()} | {"resolution": resolution}
    task_id = service.handle(submit(content, f"/api/v1/minimax/{model}"), NOW).json()["data"]["task_id"]
    resource = queried(service, task_id, NOW + 10)["result"]["resources"][0]
    assert (resource["width"], resource["height"]) == size


def test_a_task_that_fails_says_why() -> None:
    service = Service(fail_rate=1)
    task_id = accepted(service)
    assert queried(service, task_id, NOW + 10) == {
        "status": "failed",
        "task_id": task_id,
        "model_id": "minimax-hailuo-2.3-i2v",
        "error": {"code": "generation_failed", "message": "failed on purpose"},
    }


def test_a_share_of_the_tasks_fails() -> None:
    service = Service(fail_rate=0.3, max_running=None, requests_per_minute=None)
    states = [queried(service, accepted(service), NOW + 10)["status"] for _ in range(1000)]
    assert 250 < states.count("failed") < 350
    assert set(states) == {"success", "failed"}


def test_generation_times_keep_to_their_mean_and_spread() -> None:
    service = Service(generation_s=100, spread=0.2, max_running=None, requests_per_minute=None)
    taken = [queried(service, accepted(service), NOW + 200)["duration"] for _ in range(1000)]
    assert 80_000 <= min(taken) < 81_000
    assert 119_000 < max(taken) <= 120_000
    assert 99_000 < sum(taken) / 1000 < 101_000


def test_a_task_is_forgotten_when_its_results_have_expired() -> None:
    service = Service(generation_s=10, spread=0, results_last_s=100)
    task_id = accepted(service)
    assert queried(service, task_id, NOW + 109.9)["status"] == "success"
    assert refusal(service.handle(ask("GET", f"/api/v1/tasks/{task_id}"), NOW + 110)) == (404, "Resource not found")


def test_the_same_seed_tells_the_same_story() -> None:
    def story(seed: int) -> list[bytes]:
        service = Service(seed=seed, fail_rate=0.5, max_running=None)
        ids = [accepted(service) for _ in range(20)]
        return [service.handle(ask("GET", f"/api/v1/tasks/{task_id}"), NOW + 5).body for task_id in ids]

    assert story(1) == story(1)
    assert story(1) != story(2)


def test_more_queries_do_not_change_how_long_tasks_take() -> None:
    def durations(queries: int) -> list[int]:
        service = Service(max_running=None, requests_per_minute=None)
        ids = []
        for _ in range(5):
            ids.append(accepted(service))
            for _ in range(queries):
                queried(service, ids[-1], NOW)
        return [queried(service, task_id, NOW + 10)["duration"] for task_id in ids]

    assert durations(0) == durations(7)


@pytest.mark.slow
def test_thousands_of_tasks_run_on_a_virtual_clock() -> None:
    service = Service(generation_s=90, max_running=50, requests_per_minute=None, results_last_s=600, ledger_entries=10)
    now = NOW
    ids: list[str] = []
    while len(ids) < 5000:
        now += 1
        while (reply := service.handle(job(), now)).status == 200:
            ids.append(reply.json()["data"]["task_id"])
    assert service.ledger.most_running == service.running == 50
    assert (len(service.ledger.entries), service.ledger.posts) == (10, 5000 + service.ledger.statuses[Kind.SUBMIT, 429])
    assert queried(service, ids[-1], now)["status"] == "pending"
    assert service.handle(ask("GET", f"/api/v1/tasks/{ids[0]}"), now).status == 404
