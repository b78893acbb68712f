from __future__ import annotations

from pathlib import Path

import pytest

from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.files import check_stems, stem_of
from repserve_server.files import write_whole


def test_a_stem_ends_at_the_first_dot() -> None:
    assert [stem_of(name) for name in ("a.JPEG", "a.b.jpg", "a", ".hidden.jpg")] == ["a", "a", "a", ""]


def test_two_files_of_one_stem_are_refused_by_name() -> None:
    with pytest.raises(OfflineError, match=r"one/a\.jpg and two/a\.b\.png have the same name .* 'a'"):
        check_stems([Path("one/a.jpg"), Path("one/b.jpg"), Path("two/a.b.png")])


def test_a_name_without_a_stem_is_refused() -> None:
    with pytest.raises(OfflineError, match=r"one/\._a\.jpg: expected a name with something before its first dot"):
        check_stems([Path("one/._a.jpg")])


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second"
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_whole(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
