from __future__ import annotations

import pytest

from repserve_bench.offline.perf_file import Stage, Stages


def test_a_rate_is_over_the_time_from_the_first_beginning_to_the_last_end() -> None:
    stage = Stage()
    stage.add(10.0, 11.0)
    stage.add(13.0, 14.0, 3)
    assert (stage.count, stage.busy, stage.rate) == (4, 2.0, 1.0)


def test_stages_that_overlap_count_from_the_earliest() -> None:
    stage = Stage()
    stage.add(12.0, 14.0)
    stage.add(10.0, 13.0)
    assert stage.rate == 2 / 4


def test_the_figures_of_a_run() -> None:
    stages = Stages()
    for image in range(8):
        stages.read.add(image, image + 1)
        stages.preprocess.add(image + 1, image + 1.5)
    for batch in range(2):
        began = 5.0 + 8 * batch
        stages.infer.add(began, began + 4, 4)
        stages.interface.add(began + 1, began + 3, 4)
        stages.post.add(began + 4, began + 6)
    figures = stages.throughput(20.0)
    assert (figures.end_to_end, figures.latency) == (0.4, 20_000.0)
    assert figures.end_to_end * figures.latency == pytest.approx(8 * 1000)
    assert (figures.read, figures.preprocess) == (1.0, 8 / 7.5)
    assert figures.infer == 8 / 12
    assert figures.interface == 8 / 4, "only what was spent inside the model counts"
    assert figures.infer_time == 1000.0
    assert figures.post == 2 / 10, "in batches"


def test_a_clock_that_stands_still_does_not_divide_by_zero() -> None:
    stages = Stages()
    for stage in (stages.read, stages.preprocess, stages.infer, stages.interface, stages.post):
        stage.add(1.0, 1.0)
    assert stages.throughput(0.0).format().count("\n") == 5


def test_a_run_without_an_image_has_no_throughput() -> None:
    with pytest.raises(ValueError, match="without an image"):
        Stages().throughput(1.0)
