"""What a process may use: CPUs, from cgroup files, and file descriptors."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from repserve_server import process
from repserve_server.process import _cgroup_quota, allow_descriptors, available_cpus


class Cgroup:
    """A tree of cgroup files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.membership = folder / "self"
        self.root.mkdir()

    def join(self, path: str) -> None:
        self.membership.write_text(f"12:cpuset:/elsewhere\n0::{path}\n", encoding="utf-8")
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def limit(self, path: str, content: str) -> None:
        (self.root / path.lstrip("/") / "cpu.max").write_text(content, encoding="utf-8")

    def quota(self) -> float | None:
        return _cgroup_quota(self.root, self.membership)


@pytest.fixture
def cgroup(tmp_path: Path) -> Cgroup:
    return Cgroup(tmp_path)


def test_the_quota_of_the_own_group_counts(cgroup: Cgroup) -> None:
    cgroup.join("/pods/server")
    cgroup.limit("/pods/server", "250000 100000\n")
    assert cgroup.quota() == 2.5


def test_the_tightest_ancestor_counts(cgroup: Cgroup) -> None:
    cgroup.join("/pods/server")
    cgroup.limit("/pods/server", "800000 100000\n")
    cgroup.limit("/pods", "150000 100000\n")
    cgroup.limit("/", "max 100000\n")
    assert cgroup.quota() == 1.5


def test_without_a_limit_there_is_no_quota(cgroup: Cgroup) -> None:
    cgroup.join("/pods/server")
    assert cgroup.quota() is None
    cgroup.limit("/pods/server", "max 100000\n")
    assert cgroup.quota() is None


def test_what_cannot_be_read_is_no_limit(cgroup: Cgroup) -> None:
    assert cgroup.quota() is None, "no membership file"
    cgroup.join("/")
    cgroup.limit("/", "nonsense\n")
    assert cgroup.quota() is None
    cgroup.membership.write_text("4:cpu:/version1\n", encoding="utf-8")
    assert cgroup.quota() is None


def test_limits_above_the_root_of_the_tree_are_not_looked_for(cgroup: Cgroup) -> None:
    cgroup.join("/")
    (cgroup.root.parent / "cpu.max").write_text("10000 100000\n", encoding="utf-8")
    assert cgroup.quota() is None


@pytest.mark.parametrize(("quota", "cpus"), [(None, 6), (0.2, 1), (2.5, 3), (4.0, 4), (64.0, 6)])
def test_cpus_are_the_affinity_cut_to_the_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(process, "_cgroup_quota", lambda: quota)
    assert available_cpus() == cpus


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1024, 524_288), 65_536),
        ((1024, 4096), 4096),
        ((1024, resource.RLIM_INFINITY), 65_536),
        ((100_000, 524_288), None),
    ],
)
def test_the_limit_of_descriptors_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: int | None
) -> None:
    chosen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: chosen.append(pair))
    allow_descriptors(65_536)
    assert chosen == ([] if expected is None else [(expected, limits[1])])
