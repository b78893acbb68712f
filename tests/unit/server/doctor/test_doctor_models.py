"""Models: what of a repository can be served on which device, and what a trial says."""

from __future__ import annotations

from pathlib import Path

import pytest

from repserve_server.channel.worker_messages import LoadWorker
from repserve_server.doctor.ascend import ChipSurvey
from repserve_server.doctor.check import Check, Status, can_serve
from repserve_server.doctor.models import check_models, choose_folders
from repserve_server.doctor.trial import Trial
from repserve_server.settings import Settings
from support.doctor_machines import READY

NO_CHIPS = ChipSurvey((), None, ())


class Trials:
    """Trials that end as was said; ``tried`` has what was to be loaded."""

    def __init__(self, **by_device: Trial) -> None:
        self.by_device = by_device
        self.tried: list[tuple[str, str]] = []

    def __call__(self, load: LoadWorker, seconds: float) -> Trial:
        assert seconds == 600.0
        self.tried.append((load.model, load.device))
        return self.by_device.get(load.device.partition(":")[0], Trial(ready=READY))


class OneFails(Trials):
    """Trials of which those of one model, or on one device, fail."""

    def __init__(self, failing: str) -> None:
        super().__init__()
        self.failing = failing

    def __call__(self, load: LoadWorker, seconds: float) -> Trial:
        trial = super().__call__(load, seconds)
        return Trial(reason="torn") if self.failing in (load.model, load.device) else trial


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, files in (("absent", ()), ("good", ("model.onnx",))):
        (tmp_path / name / "1").mkdir(parents=True)
        for file in files:
            (tmp_path / name / "1" / file).write_bytes(b"x" * 300_000)
    (tmp_path / "absent" / "model.toml").write_text('setup_command = "make it"\n', encoding="utf-8")
    return tmp_path


def examined(settings: Settings, trials: Trials | None, untried: frozenset[str] = frozenset()) -> dict[str, Check]:
    folders, own = choose_folders(settings)
    checks, _ = check_models(
        folders, settings, NO_CHIPS, threads=1, try_model=trials, untried=untried, progress=lambda _: None
    )
    return {check.name: check for check in (*own, *checks)}


def test_a_model_is_tried_on_each_device_and_its_costs_are_told(repository: Path) -> None:
    trials = Trials(sim=Trial(ready=READY.model_copy(update={"simulated": True, "backend": "simulated"})))
    settings = Settings(model_repository=repository, device=("cpu", "sim:310p"))
    checks = examined(settings, trials)
    assert trials.tried == [("good", "cpu"), ("good", "sim:310p")]
    assert can_serve(checks.values())
    assert checks["good"].found == "version 1, no labels, crop 224, max_batch_size 16"
    assert checks["good/1/model.onnx"].found == "0.3 MB"
    assert checks["good on cpu"].found == ("loaded with openvino, precision bf16, batches take 1: 0.30 ms, 16: 6.00 ms")
    assert checks["good on sim:310p"].found.startswith("SIMULATED, loaded with simulated")


def test_a_model_without_a_version_is_a_warning_beside_one_that_works(repository: Path) -> None:
    check = examined(Settings(model_repository=repository), Trials())["absent"]
    assert (check.status, check.found, check.advice) == (Status.WARNING, "it has no version yet", "make it")


def test_a_model_without_a_version_is_a_problem_where_nothing_else_works(repository: Path) -> None:
    checks = examined(Settings(model_repository=repository, model=("absent",)), Trials())
    assert checks["absent"].status is Status.PROBLEM


def test_each_device_needs_a_model_that_it_can_serve(repository: Path) -> None:
    settings = Settings(model_repository=repository, device=("cpu", "npu:0"))
    checks = examined(settings, Trials())
    assert (checks["good on cpu"].status, checks["absent"].status) == (Status.OK, Status.PROBLEM)
    assert (checks["good/1"].status, checks["good/1"].found) == (
        Status.PROBLEM,
        "no .om model, and NPUs run nothing else",
    )
    assert checks["good/1"].advice == (
        f"run `repserve convert onnx2om {repository / 'good' / '1' / 'model.onnx'} --batch-sizes 1,16 "
        f"--soc-version Ascend310P3 --into {repository / 'good' / '1'}`"
    )
    assert "good on npu:0" not in checks


def test_a_trial_that_fails_is_a_problem_with_the_end_of_its_log(repository: Path) -> None:
    trials = Trials(cpu=Trial(reason="it takes another size", log=("first", "last")))
    check = examined(Settings(model_repository=repository), trials)["good on cpu"]
    assert (check.status, check.found) == (Status.PROBLEM, "it takes another size")
    assert check.advice.endswith("its log ends: first | last")


def test_a_trial_that_fails_is_a_warning_beside_a_model_that_works(repository: Path) -> None:
    (repository / "other" / "1").mkdir(parents=True)
    (repository / "other" / "1" / "model.onnx").write_bytes(b"")

    checks = examined(Settings(model_repository=repository), OneFails("other"))
    assert (checks["other on cpu"].status, checks["good on cpu"].status) == (Status.WARNING, Status.OK)


def test_a_worker_that_does_not_unload_is_a_warning(repository: Path) -> None:
    check = examined(Settings(model_repository=repository), Trials(cpu=Trial(ready=READY, unloaded=False)))
    assert check["good on cpu"].status is Status.WARNING


def test_nothing_is_tried_where_it_was_not_asked_for_or_cannot_work(repository: Path) -> None:
    trials = Trials()
    settings = Settings(model_repository=repository)
    assert "good on cpu" not in examined(settings, None)
    examined(settings, trials, untried=frozenset({"cpu"}))
    assert trials.tried == []


def test_a_cpu_needs_an_onnx_model_unless_a_runtime_of_ones_own_takes_something_else(repository: Path) -> None:
    (repository / "good" / "1" / "model.onnx").rename(repository / "good" / "1" / "model_bs1.om")
    check = examined(Settings(model_repository=repository), Trials())["good/1/model.onnx"]
    assert (check.status, "--device npu:0" in check.advice) == (Status.PROBLEM, True)
    own = Settings(model_repository=repository, runtime="package.module:Class")
    assert examined(own, Trials())["good on cpu"].status is Status.OK


def test_a_precision_of_its_own_is_a_problem_for_an_npu(repository: Path) -> None:
    (repository / "good" / "1" / "model_bs1.om").write_bytes(b"")
    settings = Settings(model_repository=repository, device=("npu:0",), precision="f32")
    assert examined(settings, Trials())["good/1 precision"].status is Status.PROBLEM


def test_several_npus_have_their_files_checked_once_and_each_its_trial(repository: Path) -> None:
    (repository / "good" / "1" / "model_bs1.om").write_bytes(b"")
    settings = Settings(model_repository=repository, device=("npu:0", "npu:1"))
    folders, _ = choose_folders(settings)
    trials = OneFails("npu:1")
    checks, loaded = check_models(
        folders, settings, NO_CHIPS, threads=1, try_model=trials, untried=frozenset(), progress=lambda _: None
    )
    names = [check.name for check in checks]
    assert names == ["absent", "good", "good/1/compiled.json", "good on npu:0", "good on npu:1"]
    assert loaded == {"npu:0"}


def test_random_weights_are_a_warning(repository: Path) -> None:
    (repository / "good" / "1" / "WEIGHTS.txt").write_text("The weights are random.\n", encoding="utf-8")
    check = examined(Settings(model_repository=repository), Trials())["good"]
    assert (check.status, check.found.endswith("The weights are random.")) == (Status.WARNING, True)


def test_a_wrong_model_toml_is_shown_with_its_key(repository: Path) -> None:
    (repository / "good" / "model.toml").write_text("max_bach = 4\n", encoding="utf-8")
    check = examined(Settings(model_repository=repository), Trials())["good"]
    assert check.status is Status.PROBLEM
    assert "max_bach" in check.found
    assert "docs/operations.md" in check.advice


@pytest.mark.parametrize(
    ("folder", "chosen", "found", "advice"),
    [
        ("gone", (), "is not a folder", "--model-repository"),
        ("good/1", (), "is empty", "create a folder"),
        ("", ("good", "bad"), "has no model bad; it has absent, good", "correct --model"),
    ],
)
def test_a_wrong_repository_is_a_problem(
    repository: Path, folder: str, chosen: tuple[str, ...], found: str, advice: str
) -> None:
    settings = Settings(model_repository=repository / folder, model=chosen)
    folders, (check,) = choose_folders(settings)
    assert folders == []
    assert (check.status, found in check.found, advice in check.advice) == (Status.PROBLEM, True, True)
