from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.info import InfoEntry, format_info, image_entry, list_files, parse_info
from support.guide_oracle import original_info
from support.images import encoded, photo


def names(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).write_bytes(b"x")


def test_the_line_is_the_guides(tmp_path: Path) -> None:
    entries = [InfoEntry(f"./prep_dataset/ILSVRC2012_val_0000000{n}.bin", 224, 224) for n in (1, 2)]
    content = format_info(entries)
    assert content == (
        b"0 ./prep_dataset/ILSVRC2012_val_00000001.bin 224 224\n1 ./prep_dataset/ILSVRC2012_val_00000002.bin 224 224\n"
    )
    file = tmp_path / "prep.info"
    file.write_bytes(content)
    assert original_info(file)[1] == (1, "./prep_dataset/ILSVRC2012_val_00000002.bin", 224, 224)


@given(
    st.lists(
        st.builds(
            InfoEntry,
            st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1).filter(
                lambda path: path.strip(" ") == path
            ),
            st.integers(1, 10_000),
            st.integers(1, 10_000),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_back(entries: list[InfoEntry]) -> None:
    assert parse_info(format_info(entries), "x.info") == entries


def test_files_are_listed_by_type_and_sorted(tmp_path: Path) -> None:
    names(tmp_path, "b.bin", "a.bin", "c.bin.partial", "d.txt", "z.JPEG", "y.jpg", "x.png")
    (tmp_path / "folder.bin").mkdir()
    assert list_files("bin", str(tmp_path)) == [f"{tmp_path}/a.bin", f"{tmp_path}/b.bin"]
    assert list_files("jpg", f"{tmp_path}/") == [f"{tmp_path}/y.jpg", f"{tmp_path}/z.JPEG"]


def test_the_order_is_not_that_of_the_folder_on_the_disk(tmp_path: Path) -> None:
    expected = [f"{tmp_path}/{number:03}.bin" for number in range(50)]
    for number in range(50):
        names(tmp_path, f"{17 * number % 50:03}.bin")
    assert list_files("bin", str(tmp_path)) == expected


def test_the_folder_stands_as_the_user_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prep").mkdir()
    names(tmp_path / "prep", "a.bin")
    assert list_files("bin", "./prep") == ["./prep/a.bin"]
    assert list_files("bin", "prep/") == ["prep/a.bin"]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"no files in .* end in \.jpeg or \.jpg"):
        list_files("jpg", str(tmp_path))
    with pytest.raises(OfflineError, match="cannot list the folder"):
        list_files("jpg", str(tmp_path / "absent"))


def test_a_name_with_a_line_break_is_an_error(tmp_path: Path) -> None:
    names(tmp_path, "a\nb.bin")
    with pytest.raises(OfflineError, match=r"'a\\nb\.bin': a line of an info file cannot hold a line break"):
        list_files("bin", str(tmp_path))


def test_images_have_their_own_size(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(photo(60, 40), "JPEG"))
    assert image_entry(str(file)) == InfoEntry(str(file), 60, 40)
    file.write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"a\.jpg: the data is no known image format"):
        image_entry(str(file))


@pytest.mark.parametrize("line", ["0 a.bin 224", "a.bin 224 224", "x a.bin 224 224", "0 a.bin 224 wide", "0  224 224"])
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(OfflineError, match=r"x\.info, line 2: expected 'INDEX PATH WIDTH HEIGHT', found '"):
        parse_info(f"0 a.bin 224 224\n{line}\n".encode(), "x.info")


def test_blanks_at_the_end_and_windows_line_ends_are_read() -> None:
    assert parse_info(b"0 a b.bin 224 224 \r\n\r\n", "x.info") == [InfoEntry("a b.bin", 224, 224)]


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(OfflineError, match=r"x\.info is empty"):
        parse_info(b"\n", "x.info")
