"""The throughput file: its layout is the benchmark tool's, and the guide's own reader finds the figure."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.perf_file import (
    QuotedThroughput,
    Throughput,
    guide_line,
    perf_file_name,
    read_throughput,
)
from support.guide_oracle import original_throughput

SAMPLE = Throughput(
    end_to_end=355.7151,
    latency=140562.2,
    read=377.2149,
    preprocess=376.5781,
    infer=357.6282,
    interface=1509.638,
    infer_time=2.1165,
    post=22.35092,
)
"""The figures of a file that the benchmark tool wrote on a 310, with digits beyond the six that it prints."""
TEXT = """\
[e2e] throughputRate: 355.715, latency: 140562
[data read] throughputRate: 377.215, moduleLatency: 2.65101
[preprocess] throughputRate: 376.578, moduleLatency: 2.65549
[infer] throughputRate: 357.628, Interface throughputRate: 1509.64, moduleLatency: 2.1165
[post] throughputRate: 22.3509, moduleLatency: 44.7409
"""
RATES = st.floats(1e-4, 1e7)


def written(folder: Path, text: str = TEXT, name: str = "perf_vision_batchsize_16_device_0.txt") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_the_layout_is_the_tools() -> None:
    assert SAMPLE.format() == TEXT
    assert perf_file_name(16, 3) == "perf_vision_batchsize_16_device_3.txt"


def test_the_guides_reader_and_ours_find_the_same(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert original_throughput(str(file)) == ("16", 1509.64)
    assert read_throughput(file) == QuotedThroughput("16", 1509.64)


@given(figures=st.builds(Throughput, RATES, RATES, RATES, RATES, RATES, RATES, RATES, RATES), batch=st.integers(1, 999))
def test_both_readers_find_what_was_written_to_six_digits(figures: Throughput, batch: int) -> None:
    with tempfile.TemporaryDirectory(prefix="under_score_") as folder:
        file = written(Path(folder), figures.format(), perf_file_name(batch, 0))
        quoted = read_throughput(file)
        assert (quoted.batch_size, quoted.fps) == original_throughput(str(file))
    assert quoted.batch_size == str(batch)
    assert quoted.fps == pytest.approx(figures.interface, rel=1e-5)
    assert len(figures.format().splitlines()) == 5


def test_the_documented_relations_hold() -> None:
    lines = [dict(pair.split(": ") for pair in line.partition("] ")[2].split(", ")) for line in TEXT.splitlines()]
    images = float(lines[0]["throughputRate"]) * float(lines[0]["latency"]) / 1000
    assert images == pytest.approx(50_000, rel=1e-5)
    for stage in (lines[1], lines[2], lines[4]):
        assert float(stage["moduleLatency"]) == pytest.approx(1000 / float(stage["throughputRate"]), rel=1e-5)
    assert float(lines[4]["throughputRate"]) == pytest.approx(float(lines[3]["throughputRate"]) / 16, rel=1e-3)


def test_a_simulated_device_gets_a_sixth_line_that_the_guides_reader_survives(tmp_path: Path) -> None:
    text = replace(SAMPLE, interface=8752.0).format("sim:310p")
    assert text.splitlines()[5].startswith("SIMULATED sim 310p")
    file = written(tmp_path, text)
    assert original_throughput(str(file)) == ("16", 8752.0)
    assert read_throughput(file).remark.startswith("SIMULATED sim 310p")


@pytest.mark.parametrize("ending", ["samples/s", " samples/s"])
def test_a_unit_and_the_tags_of_newer_tools_are_read(tmp_path: Path, ending: str) -> None:
    tags = TEXT.replace("[infer]", "[inference]").replace("[post]", "[postprocess]")
    text = tags.replace("1509.64,", f"1509.64{ending},")
    assert read_throughput(written(tmp_path, text)) == QuotedThroughput("16", 1509.64)


def test_the_guides_lines() -> None:
    assert guide_line("310P", QuotedThroughput("16", 8752.1)) == "310P bs16 fps:8752.1"
    assert guide_line("310", QuotedThroughput("1", 278.0)) == "310 bs1 fps:1112.0"


@pytest.mark.parametrize("text", ["", "[e2e] throughputRate: 355.715, latency: 140562\n"])
def test_a_file_with_too_few_values_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(OfflineError, match=r"device_0\.txt holds \d values; expected the five lines"):
        read_throughput(written(tmp_path, text))


def test_a_figure_that_is_no_number_is_shown(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="the eighth value, 'fast', is not a number"):
        read_throughput(written(tmp_path, TEXT.replace("1509.64", "fast")))


@pytest.mark.parametrize("name", ["perf.txt", "perf_vision_batchsize_many_device_0.txt"])
def test_a_name_without_a_batch_size_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OfflineError, match="which gives the batch size"):
        read_throughput(written(tmp_path, name=name))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="cannot read the throughput file"):
        read_throughput(tmp_path / perf_file_name(1, 0))
