"""Dumps: the guide's reader gets every score back, and a folder is there whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from repserve_bench.offline.dumps import DumpWriter, format_scores, list_dumps, read_dump, simulated_note
from repserve_bench.offline.errors import OfflineError
from support.guide_oracle import original_scores

SCORES = np.array([1.5, -2.25, 1e-8, 3.0], np.float32)


def dump(folder: Path, *stems: str, binary: bool = False) -> None:
    with DumpWriter(folder, binary=binary) as writer:
        for stem in stems:
            writer.write(stem, SCORES)


@given(arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32, allow_nan=False)))
def test_text_holds_every_float32(scores: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with DumpWriter(Path(folder) / "dumps") as writer:
            writer.write("image", scores)
        file = Path(folder) / "dumps" / "image_1.txt"
        ours, original = read_dump(file), original_scores(file.parent)["image"]
    assert ours.tolist() == original
    assert ours.astype(np.float32).tolist() == scores.tolist()


def test_a_text_dump_is_one_line_with_single_blanks() -> None:
    assert format_scores(SCORES) == b"1.5 -2.25 9.99999994e-09 3\n"


def test_a_binary_dump_is_raw_little_endian_float32(tmp_path: Path) -> None:
    dump(tmp_path / "dumps", "a", binary=True)
    file = tmp_path / "dumps" / "a_1.bin"
    assert np.fromfile(file, "<f4").tolist() == SCORES.tolist()
    assert read_dump(file).tolist() == SCORES.astype(np.float64).tolist()


def test_dumps_of_the_last_run_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "result" / "dumpOutput_device0"
    dump(folder, "old", "b")
    dump(folder, "b", "a_c", binary=True)
    assert [path.name for path in sorted(folder.iterdir())] == ["a_c_1.bin", "b_1.bin"]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("stranger", ["thesis.doc", "notes.txt", "1.txt", "a_x.txt", "a_1.json"])
def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path, stranger: str) -> None:
    folder = tmp_path / "dumps"
    dump(folder, "a")
    (folder / stranger).write_text("precious")
    with pytest.raises(OfflineError, match=f"'{stranger}', which is not a dump; nothing was removed"):
        dump(folder, "b")
    assert sorted(path.name for path in folder.iterdir()) == sorted(["a_1.txt", stranger])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_within_or_a_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dumps" / "a_1.txt").mkdir(parents=True)
    with pytest.raises(OfflineError, match=r"'a_1\.txt', which is not a dump"):
        dump(tmp_path / "dumps", "b")
    (tmp_path / "link").symlink_to(tmp_path / "dumps")
    with pytest.raises(OfflineError, match="is not a folder"):
        dump(tmp_path / "link", "b")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_that_ends_early_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    folder = tmp_path / "dumps"
    dump(folder, "old")

    def fail() -> None:
        with DumpWriter(folder, simulated="sim:310p") as writer:
            writer.write("a", SCORES)
            raise error

    with pytest.raises(error):
        fail()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dumps", "old_1.txt"]


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    with DumpWriter(folder) as first:
        first.write("a", SCORES)
        with pytest.raises(OfflineError, match=r"another run writes to .*dumps now: wait for its end"):
            dump(folder, "b")
        first.write("c", SCORES)
    assert sorted(path.name for path in folder.iterdir()) == ["a_1.txt", "c_1.txt"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "dumps.partial").mkdir()
    (tmp_path / "dumps.partial" / "old_1.txt").write_text("1 2")
    dump(tmp_path / "dumps", "a")
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["a_1.txt"]


def test_simulated_dumps_have_a_note_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    with DumpWriter(folder, simulated="sim:310p") as writer:
        writer.write("a", SCORES)
    assert "sim:310p is simulated" in simulated_note(folder).read_text()
    assert [path.name for path in folder.iterdir()] == ["a_1.txt"], "the guide reads every file in the folder"
    dump(folder, "a")
    assert not simulated_note(folder).exists()


def test_dumps_are_listed_by_the_stem_of_their_image(tmp_path: Path) -> None:
    for name in ("b_1.txt", "ILSVRC2012_val_00000001_1.txt", "a_2.x.bin"):
        (tmp_path / name).write_bytes(b"")
    assert list(list_dumps(tmp_path)) == ["ILSVRC2012_val_00000001", "a", "b"]


def test_two_dumps_of_an_image_are_an_error(tmp_path: Path) -> None:
    for name in ("a_1.txt", "a_2.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OfflineError, match=r"a_1\.txt and .*a_2\.txt are both of the image a"):
        list_dumps(tmp_path)


def test_a_folder_without_dumps_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="is empty; expected a dump for each image"):
        list_dumps(tmp_path)
    (tmp_path / "readme.md").write_bytes(b"")
    with pytest.raises(OfflineError, match=r"readme\.md: expected only dumps here"):
        list_dumps(tmp_path)
    with pytest.raises(OfflineError, match="cannot list the dump folder"):
        list_dumps(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a_1.txt", b"", r"a_1\.txt: its first line is empty"),
        ("a_1.txt", b"\n1 2 3\n", r"a_1\.txt: its first line is empty"),
        ("a_1.txt", b"1 2 three\n", r"a_1\.txt is damaged.*three"),
        ("a_1.txt", b"\xff\xfe\x00", r"a_1\.txt is damaged"),
        ("a_1.bin", b"", r"a_1\.bin has 0 bytes"),
        ("a_1.bin", b"\x00" * 7, r"a_1\.bin has 7 bytes; expected float32 scores"),
    ],
)
def test_a_damaged_dump_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OfflineError, match=problem):
        read_dump(tmp_path / name)


def test_only_the_first_line_is_read_and_blanks_at_its_end_are_none(tmp_path: Path) -> None:
    (tmp_path / "a_1.txt").write_bytes(b"1 2.5 -3 \r\nsomething else\n")
    assert read_dump(tmp_path / "a_1.txt").tolist() == [1.0, 2.5, -3.0]
