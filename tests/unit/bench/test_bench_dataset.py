from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from repserve_bench.dataset import DatasetError, load_dataset, read_labels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("b.JPEG", "a.jpg", "c.PNG", "notes.txt"):
        (images / name).write_bytes(b"x")
    (images / "folder.jpg").mkdir()
    return images


def labels_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "val_label.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_images_are_taken_by_suffix_and_sorted(folder: Path) -> None:
    dataset = load_dataset(folder)
    assert [sample.name for sample in dataset.samples] == ["a.jpg", "b.JPEG", "c.PNG"]
    assert not dataset.labelled
    assert "no labels" in dataset.describe()


def test_labels_are_joined_and_leftovers_counted(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(folder, labels_file(tmp_path, "a.jpg 3\n\nc.PNG 0\nmissing.jpg 7\n"))
    assert [(sample.name, sample.label) for sample in dataset.samples] == [("a.jpg", 3), ("c.PNG", 0)]
    assert (dataset.images_without_label, dataset.labels_without_image) == (1, 1)
    assert dataset.labelled
    assert "1 images without a label" in dataset.describe()
    assert "1 labels without an image" in dataset.describe()


def test_limit_takes_the_first_and_leaves_the_counts(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(folder, labels_file(tmp_path, "a.jpg 3\nb.JPEG 1\nc.PNG 0\n"), limit=2)
    assert [sample.name for sample in dataset.samples] == ["a.jpg", "b.JPEG"]
    assert (dataset.images_without_label, dataset.labels_without_image) == (0, 0)


def test_none_in_common_is_an_error_that_names_both(folder: Path, tmp_path: Path) -> None:
    file = labels_file(tmp_path, "x.jpg 3\n")
    with pytest.raises(DatasetError, match=r"none of the 3 images.*named by the 1 lines") as caught:
        load_dataset(folder, file)
    assert str(folder) in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"no images in {tmp_path}"):
        load_dataset(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot list the images folder"):
        load_dataset(tmp_path / "absent")


@pytest.mark.parametrize("line", ["b.JPEG", "b.JPEG one", "b.JPEG -1", "7", "b.JPEG 1.5", "b.JPEG ²"])
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, line: str) -> None:
    file = labels_file(tmp_path, f"a.jpg 3\n\n{line}\n")
    with pytest.raises(DatasetError, match="line 3") as caught:
        read_labels(file)
    assert str(file) in str(caught.value)
    assert line in str(caught.value)


def test_a_name_with_two_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 2: a\.jpg already has the label 3"):
        read_labels(labels_file(tmp_path, "a.jpg 3\na.jpg 4\n"))


def test_tabs_and_spaces_in_names_are_read(tmp_path: Path) -> None:
    assert read_labels(labels_file(tmp_path, "a b.jpg 3\nc.jpg\t 4 \n")) == {"a b.jpg": 3, "c.jpg": 4}


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "val_label.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot read the labels file"):
        read_labels(file)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(b"\xef\xbb\xbfa.jpg 1\n")
    assert read_labels(file) == {"a.jpg": 1}
