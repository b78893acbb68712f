"""Which versions are wanted, and when what lies in their folders is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from repserve_server.repository import watch
from repserve_server.repository.policy import Latest, VersionPolicy, choose
from repserve_server.repository.scan import ModelFolder, VersionFolder, scan_model
from repserve_server.repository.watch import SETTLE_SECONDS, Settling, changes
from support.fakes import FakeClock


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (Latest(), (9,)),
        (Latest(latest=2), (4, 9)),
        (Latest(latest=7), (1, 4, 9)),
        ("all", (1, 4, 9)),
        ((1, 9, 5), (1, 9)),
    ],
)
def test_a_policy_chooses_from_what_is_there(policy: VersionPolicy, chosen: tuple[int, ...]) -> None:
    assert choose([4, 9, 1], policy) == chosen


@given(st.sets(st.integers(1, 50)), st.integers(1, 5))
def test_the_latest_are_the_greatest(numbers: set[int], latest: int) -> None:
    chosen = choose(numbers, Latest(latest=latest))
    assert len(chosen) == min(latest, len(numbers))
    assert all(number < min(chosen) for number in numbers - set(chosen)) or not chosen


@pytest.mark.parametrize("value", ["newest", {"latest": 0}, {"last": 1}, [], [0], 3])
def test_any_other_policy_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[VersionPolicy](VersionPolicy).validate_python(value)


def folder(*versions: tuple[int, str]) -> ModelFolder:
    found = tuple(VersionFolder(number, Path(str(number)), content) for number, content in versions)
    return ModelFolder("m", Path("m"), versions=found)


def sift(settling: Settling, *versions: tuple[int, str]) -> tuple[list[tuple[int, str]], bool]:
    (sifted,), waiting = settling.sift([folder(*versions)])
    return [(version.number, version.fingerprint) for version in sifted.versions], waiting


def test_a_new_version_is_offered_when_it_has_stayed_the_same_for_a_while() -> None:
    clock = FakeClock()
    settling = Settling(clock)
    settling.trust([folder((1, "a"))])
    assert sift(settling, (1, "a"), (2, "half")) == ([(1, "a")], True)
    clock.advance(SETTLE_SECONDS)
    assert sift(settling, (1, "a"), (2, "more")) == ([(1, "a")], True)
    clock.advance(SETTLE_SECONDS / 2)
    assert sift(settling, (1, "a"), (2, "more")) == ([(1, "a")], True)
    clock.advance(SETTLE_SECONDS / 2)
    assert sift(settling, (1, "a"), (2, "more")) == ([(1, "a"), (2, "more")], False)


def test_a_version_that_is_being_overwritten_stays_as_it_was() -> None:
    clock = FakeClock()
    settling = Settling(clock)
    settling.trust([folder((1, "old"))])
    assert sift(settling, (1, "new")) == ([(1, "old")], True)
    clock.advance(SETTLE_SECONDS)
    assert sift(settling, (1, "new")) == ([(1, "new")], False)


def test_a_version_that_is_removed_is_gone_at_once() -> None:
    settling = Settling(FakeClock())
    settling.trust([folder((1, "a"), (2, "b"))])
    assert sift(settling, (1, "a")) == ([(1, "a")], False)
    assert sift(settling, (1, "a"), (2, "b")) == ([(1, "a")], True), "it is new when it comes back"


def test_a_fingerprint_changes_with_every_file_that_loading_depends_on(tmp_path: Path) -> None:
    model = tmp_path / "m"
    (model / "1").mkdir(parents=True)
    (model / "golden").mkdir()
    seen = set()
    for file in ("1/model.onnx", "1/extra.bin", "model.toml", "labels.txt", "golden/golden.toml"):
        (model / file).write_text("", encoding="utf-8")
        if (model / "1" / "model.onnx").exists():
            seen.add(scan_model(model).versions[0].fingerprint)
    (model / "1" / "model.onnx").write_text("longer", encoding="utf-8")
    seen.add(scan_model(model).versions[0].fingerprint)
    assert len(seen) == 6
    (model / "notes.md").write_text("", encoding="utf-8")
    assert scan_model(model).versions[0].fingerprint in seen


async def take(count: int, root: Path, mode: Literal["poll", "watch"]) -> None:
    events = changes(root, mode, 0.01)
    for _ in range(count):
        await asyncio.wait_for(anext(events), 10)


def test_where_the_kernel_cannot_tell_the_repository_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_watches(*paths: object, **_: object) -> AsyncIterator[object]:
        if paths:
            raise OSError("no space left for watches")
        yield set()

    monkeypatch.setattr(watch, "awatch", no_watches)
    asyncio.run(take(2, tmp_path, "watch"))
    assert "cannot be watched (no space left for watches)" in caplog.text
    caplog.clear()
    asyncio.run(take(2, tmp_path, "poll"))
    assert caplog.text == ""


def test_the_kernel_tells_of_changes(tmp_path: Path) -> None:
    async def test() -> None:
        noticed = asyncio.ensure_future(take(1, tmp_path, "watch"))
        number = 0
        while not noticed.done():
            number += 1
            (tmp_path / str(number)).mkdir()
            await asyncio.wait({noticed}, timeout=0.1)
        noticed.result()

    asyncio.run(test())
