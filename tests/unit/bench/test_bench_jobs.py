from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.dataset import Sample
from repserve_bench.load import auto_processes, make_jobs, share_of_requests
from repserve_bench.load_messages import LoadSettings
from repserve_bench.payloads import InputSettings, group


def samples(count: int) -> list[Sample]:
    return [Sample(Path(f"{number}.jpg")) for number in range(count)]


@pytest.mark.parametrize(
    ("concurrency", "pixels", "cores", "expected"),
    [
        (1, False, 1, 1),
        (32, False, 2, 1),
        (64, False, 64, 1),
        (65, False, 64, 2),
        (512, False, 8, 4),
        (32, True, 2, 1),
        (32, True, 8, 2),
        (256, True, 64, 16),
    ],
)
def test_processes_follow_the_load_and_leave_half_the_cores(
    concurrency: int, pixels: bool, cores: int, expected: int
) -> None:
    assert auto_processes(concurrency=concurrency, pixels=pixels, cores=cores) == expected


@given(
    count=st.integers(1, 30),
    concurrency=st.integers(1, 40),
    processes=st.integers(1, 8),
    requests=st.integers(1, 200),
)
def test_jobs_together_send_what_one_process_would(count: int, concurrency: int, processes: int, requests: int) -> None:
    settings = LoadSettings("x", concurrency=concurrency, processes=processes, requests=requests)
    jobs = make_jobs(samples(count), settings)
    sent: Counter[str] = Counter()
    for job in jobs:
        for number in range(job.requests):
            sent[job.groups[number % len(job.groups)][0].name] += 1
    assert sent == Counter(f"{number % count}.jpg" for number in range(requests))
    assert sum(job.concurrency for job in jobs) == concurrency
    assert all(1 <= job.channels <= job.concurrency for job in jobs)


def test_one_pass_is_the_default() -> None:
    jobs = make_jobs(samples(10), LoadSettings("x", processes=1))
    assert [job.requests for job in jobs] == [10]


def test_a_load_by_time_has_no_least_number_of_requests() -> None:
    jobs = make_jobs(samples(10), LoadSettings("x", processes=2, seconds=3.0))
    assert [(job.requests, job.seconds) for job in jobs] == [(0, 3.0), (0, 3.0)]


def test_shares_add_up() -> None:
    assert [share_of_requests(25, 10, process, 3) for process in range(3)] == [10, 8, 7]


def test_the_last_request_may_carry_fewer_images() -> None:
    assert [len(part) for part in group(samples(10), 4)] == [4, 4, 2]


def test_images_per_request_make_fewer_requests() -> None:
    settings = LoadSettings("x", processes=1, input=InputSettings(pixels=True, images_per_request=4))
    (job,) = make_jobs(samples(10), settings)
    assert job.requests == 3
