"""Shared-memory regions: only what a client has registered is read or written, whatever it does to the object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repserve_server.channel.requests import Region
from repserve_server.dataplane.regions import Regions
from repserve_server.errors import InvalidRequestError, NotAllowedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "object").write_bytes(bytes(range(100)))
    return tmp_path


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def opened(folder: Path, offset: int = 10, size: int = 50, key: str = "/object") -> Regions:
    regions = Regions(folder)
    regions.open(Region("r", key, offset, size))
    return regions


@pytest.mark.parametrize("key", ["/object", "object"])
def test_a_part_of_a_region_is_read_and_written(folder: Path, key: str) -> None:
    regions = opened(folder, key=key)
    assert bytes(regions.read("r", 0, 3)) == bytes([10, 11, 12])
    assert bytes(regions.read("r", 49, 1)) == bytes([59])
    regions.write("r", 1, 4, b"abc")
    assert (folder / "object").read_bytes()[10:15] == bytes([10]) + b"abc" + bytes([14])


@pytest.mark.parametrize(("offset", "size"), [(0, 51), (50, 1), (-1, 2), (51, 0), (0, -1)])
def test_nothing_outside_of_a_region_is_touched(folder: Path, offset: int, size: int) -> None:
    regions = opened(folder)
    with pytest.raises(InvalidRequestError, match="are outside region 'r', which has 50"):
        regions.read("r", offset, size)
    with pytest.raises(InvalidRequestError, match="are outside region 'r'"):
        regions.write("r", offset, size, b"")


def test_an_output_that_is_larger_than_its_place_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequestError, match="has 5 bytes, but its place in region 'r' has 4"):
        opened(folder).write("r", 0, 4, b"abcde")


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (100, 1), (-1, 5), (0, 0), (2**63, 1)])
def test_a_region_must_lie_in_its_object(folder: Path, offset: int, size: int) -> None:
    with pytest.raises(InvalidRequestError, match="which has 100"):
        opened(folder, offset, size)


@pytest.mark.parametrize("key", ["", "/", "..", "/..", "a/b", "/a/b", "a\0b", "x" * 300])
def test_a_key_is_a_plain_name(folder: Path, key: str) -> None:
    with pytest.raises(InvalidRequestError, match="does not name a shared-memory object"):
        opened(folder, key=key)


def test_what_is_no_object_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRequestError, match="there is no shared-memory object '/nothing'"):
        opened(folder, key="/nothing")
    (folder / "link").symlink_to(folder / "object")
    with pytest.raises(NotAllowedError, match="cannot open"):
        opened(folder, key="/link")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidRequestError, match="is not a shared-memory object"):
        opened(folder, key="/pipe")


def test_an_object_that_became_smaller_is_an_error_and_no_crash(folder: Path) -> None:
    regions = opened(folder)
    os.truncate(folder / "object", 20)
    assert bytes(regions.read("r", 0, 5)) == bytes(range(10, 15))
    with pytest.raises(InvalidRequestError, match="has shrunk"):
        regions.read("r", 5, 10)
    with pytest.raises(InvalidRequestError, match="has shrunk"):
        regions.write("r", 5, 10, bytes(10))
    assert (folder / "object").stat().st_size == 20


def test_a_closed_region_is_unknown_and_its_descriptor_is_given_back(folder: Path) -> None:
    regions = opened(folder)
    count = open_files()
    regions.open(Region("r", "/object", 0, 10))
    assert open_files() == count
    regions.close("r")
    regions.close("r")
    assert open_files() == count - 1
    with pytest.raises(InvalidRequestError, match="there is no shared-memory region 'r'"):
        regions.read("r", 0, 1)
    with pytest.raises(InvalidRequestError):
        regions.open(Region("bad", "/object", 0, 1000))
    assert open_files() == count - 1
