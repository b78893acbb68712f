"""A server at concurrency 64 while its versions change, its workers and frontends die, and deadlines are short."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pytest

from support.harness import RunningServer, wait_until
from support.load_on_server import Load
from support.versioned_runtime import add_version, make_model

pytestmark = [pytest.mark.slow, pytest.mark.serial]

RUNTIME = ("--runtime", "support.versioned_runtime:Runtime")
KILLS = 20


def answers(load: Load, more: int, version: str = "") -> None:
    """Wait until so many more requests were answered, by this version if one is named."""
    before = load.versions[version] if version else load.answered
    wait_until(
        lambda: (load.versions[version] if version else load.answered) >= before + more or bool(load.failures),
        f"{more} more answers",
        60,
    )


@pytest.mark.parametrize("frontends", ["1", "2"])
def test_a_new_version_takes_over_and_no_request_fails_or_mixes_versions(tmp_path: Path, frontends: str) -> None:
    model = make_model(tmp_path, 1)
    with (
        RunningServer(*RUNTIME, "--frontends", frontends, "--instance-count", "2", repository=tmp_path) as server,
        Load(server.address) as load,
    ):
        for version in ("2", "3"):
            answers(load, 500)
            add_version(model, int(version))
            answers(load, 500, version)
        wait_until(lambda: len(server.children("worker")) == 2, "the old versions are unloaded")
    assert load.failures == []
    assert set(load.versions) == {"1", "2", "3"}


def test_a_bad_version_is_dropped_in_and_no_request_fails(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, repository=tmp_path) as server, Load(server.address) as load:
        answers(load, 500)
        add_version(model, 2, "broken")
        wait_until(lambda: "the model is broken" in server.log, "the bad version was tried")
        answers(load, 500)
    assert load.failures == []
    assert set(load.versions) == {"1"}


@pytest.mark.parametrize("instances", ["1", "2"])
def test_workers_are_killed_at_random_and_no_request_fails(tmp_path: Path, instances: str) -> None:
    make_model(tmp_path, 1)
    chance = random.Random(7)
    with RunningServer(*RUNTIME, "--instance-count", instances, repository=tmp_path) as server:
        with Load(server.address) as load:
            answers(load, 200)
            for _ in range(KILLS):
                answers(load, chance.choice((0, 10, 100, 300)))  # at once: the next is killed while it starts
                _kill_one(server, chance)
            answers(load, 200)
        assert load.failures == []
        assert server.metric("repserve_restarts_total", role="worker") >= KILLS
        wait_until(lambda: server.metric("repserve_queue_images") == 0, "every slot is free")


def _kill_one(server: RunningServer, chance: random.Random) -> None:
    """Kill a worker that lives; the next kill waits until another has been started."""
    wait_until(lambda: bool(server.children("worker")), "there is a worker", 60)
    worker: psutil.Process = chance.choice(server.children("worker"))
    worker.kill()
    worker.wait(10)


def test_short_deadlines_at_random_and_nothing_counts_that_came_late(tmp_path: Path) -> None:
    make_model(tmp_path, 1)
    expected = ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    slow = {"VERSIONED_RUN_SECONDS": "0.1"}
    with RunningServer(*RUNTIME, repository=tmp_path, environment=slow) as server:
        with Load(server.address, timeouts=(0.02, 0.5), expected=expected) as load:
            answers(load, 300)
        assert load.failures == []
        assert load.late == 0
        assert load.statuses["DEADLINE_EXCEEDED"] > 0
        assert load.statuses["RESOURCE_EXHAUSTED"] > 0, "what cannot be met is refused at once"
        wait_until(lambda: server.metric("repserve_queue_images") == 0, "every slot is free")
        # The server never calls an answer good that the client did not get in time; a few are lost on the way.
        assert server.metric("repserve_requests_total", code="OK") <= load.answered + load.statuses["DEADLINE_EXCEEDED"]


def test_one_greedy_connection_does_not_starve_another(tmp_path: Path) -> None:
    make_model(tmp_path, 1)
    slow = {"VERSIONED_RUN_SECONDS": "0.05"}
    with (
        RunningServer(*RUNTIME, "--max-queue-size", "256", repository=tmp_path, environment=slow) as server,
        Load(server.address, concurrency=400, expected=("RESOURCE_EXHAUSTED",)) as greedy,
    ):
        wait_until(lambda: server.metric("repserve_queue_images") > 150, "the queue is nearly full")
        with Load(server.address, concurrency=1, timeouts=(0.5, 0.5)) as modest:
            answers(modest, 20)
    assert modest.failures == []
    assert greedy.failures == []
