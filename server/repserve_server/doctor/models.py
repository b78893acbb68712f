"""Checks of the repository's models on each device: their folders, their files, and a trial of each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from repserve_server.doctor.ascend import NPU_PREFIX, ChipSurvey
from repserve_server.doctor.check import Check, Group, Status, as_warnings, can_serve
from repserve_server.doctor.compiled import check_compiled
from repserve_server.doctor.trial import Trial, TryModel
from repserve_server.errors import RepositoryError
from repserve_server.repository.model_files import ONNX_NAME, find_onnx
from repserve_server.repository.scan import ModelFolder, scan_repository
from repserve_server.settings import Settings
from repserve_server.supervisor.model_source import ModelSource

_NEW_MODEL = "to get one: "
"""Precedes the command in the problem of a model without a version."""
_check = functools.partial(Check, Group.MODELS)


@dataclass
class ModelReport:
    """The checks of one model: of its folder, and for each device of what the device would run."""

    folder: ModelFolder
    own: list[Check] = field(default_factory=list)
    by_device: dict[str, list[Check]] = field(default_factory=dict)

    def works_on(self, device: str) -> bool:
        """Return whether the device can serve it."""
        return can_serve(self.own) and can_serve(self.by_device.get(device, []))


def choose_folders(settings: Settings) -> tuple[list[ModelFolder], list[Check]]:
    """Choose the models that the server would serve, and check the repository as a whole."""
    name, root = "model repository", settings.model_repository
    try:
        folders = scan_repository(root)
    except RepositoryError as error:
        return [], [_check(name, Status.PROBLEM, str(error), "name the folder of models with --model-repository")]
    known = [folder.name for folder in folders]
    missing = [wanted for wanted in settings.model if wanted not in known]
    if not folders or missing:
        found = (
            f"{root} has no model {', '.join(missing)}; it has {', '.join(known)}" if folders else f"{root} is empty"
        )
        advice = "correct --model" if folders else "create a folder for each model, as in docs/operations.md"
        return [], [_check(name, Status.PROBLEM, found, advice)]
    chosen = [folder for folder in folders if not settings.model or folder.name in settings.model]
    return chosen, [_check(name, Status.OK, f"{root}: {', '.join(folder.name for folder in chosen)}")]


def check_models(
    folders: list[ModelFolder],
    settings: Settings,
    survey: ChipSurvey,
    *,
    threads: int,
    try_model: TryModel | None,
    untried: frozenset[str],
    progress: Callable[[str], None],
) -> tuple[list[Check], frozenset[str]]:
    """Check all models, and find the devices on which one was loaded and measured.

    A model that cannot be served is a problem only if nothing else can be served on that device: the server serves the
    others.

    Args:
        folders: the models to serve.
        settings: the server's settings.
        survey: the chips of the machine.
        threads: CPU threads of each worker.
        try_model: loads a model and measures it; None to leave that out.
        untried: devices on which no model can be loaded, by another check.
        progress: called before each trial, which may take minutes, with its name.
    """
    reports: list[ModelReport] = []
    loaded: set[str] = set()
    for folder in folders:
        report = ModelReport(folder, [_check_model(folder)])
        reports.append(report)
        if folder.problem:
            continue
        devices = folder.config.devices or settings.device
        source = ModelSource(folder, folder.versions[-1], settings)
        # All NPUs run the same files.
        files = {kind: _check_files(source, kind, settings, survey) for kind in {_kind(d) for d in devices}}
        for device in devices:
            checks = report.by_device[device] = list(files[_kind(device)])
            if try_model is not None and device not in untried and can_serve(checks):
                progress(f"loading {folder.name} on {device}")
                load = source.load_message(device, 0, settings.log_level, threads)
                trial = try_model(load, settings.load_timeout_seconds)
                checks.append(_describe_trial(f"{folder.name} on {device}", trial))
                loaded |= set() if trial.reason else {device}
    named = dict.fromkeys([*settings.device, *(device for report in reports for device in report.by_device)])
    return _weigh(reports, tuple(named)), frozenset(loaded)


def _weigh(reports: list[ModelReport], devices: tuple[str, ...]) -> list[Check]:
    served = {device: any(report.works_on(device) for report in reports) for device in devices}
    checks: list[Check] = []
    for report in reports:
        checks += as_warnings(report.own) if all(served.values()) else report.own
        for device, found in report.by_device.items():
            checks += as_warnings(found) if served[device] else found
    return list(dict.fromkeys(checks))


def _kind(device: str) -> str:
    """Return what devices that run the same files have in common: ``npu``, ``cpu``, ``sim``."""
    return device.partition(":")[0]


def _check_model(folder: ModelFolder) -> Check:
    name = folder.name
    if folder.problem:
        found, _, advice = folder.problem.partition(f"; {_NEW_MODEL}")
        return _check(
            name, Status.PROBLEM, found, advice or "correct it; docs/operations.md has the keys of model.toml"
        )
    config = folder.config
    labels = f"{len(folder.labels)} labels" if folder.labels else "no labels"
    version, crop = folder.versions[-1].number, config.preprocessing.crop
    found = f"version {version}, {labels}, crop {crop}, max_batch_size {config.max_batch_size}"
    if folder.caution:
        return _check(
            name, Status.WARNING, f"{found}; {folder.caution}", "convert trained weights: `repserve convert pth2onnx`"
        )
    return _check(name, Status.OK, found)


def _check_files(source: ModelSource, kind: str, settings: Settings, survey: ChipSurvey) -> list[Check]:
    name, folder = f"{source.name}/{source.version}", source.files.path
    if kind == _kind(NPU_PREFIX):
        checks = check_compiled(folder, name, source.folder.config, source.max_batch_size, survey.chips)
        if settings.precision != "auto":
            found = f"{settings.precision} was chosen, but a compiled model has its own arithmetic"
            checks.append(_check(f"{name} precision", Status.PROBLEM, found, "leave --precision at auto"))
        return checks
    if kind == "cpu" and ":" not in settings.runtime:
        try:
            file = find_onnx(folder)
        except RepositoryError as error:
            advice = f"put the ONNX model there, or serve the compiled one with --device {NPU_PREFIX}0"
            return [_check(f"{name}/{ONNX_NAME}", Status.PROBLEM, str(error), advice)]
        return [_check(f"{name}/{file.name}", Status.OK, f"{file.stat().st_size / 1e6:.1f} MB")]
    return []


def _describe_trial(name: str, trial: Trial) -> Check:
    ready = trial.ready
    if ready is None:
        log = f"; its log ends: {' | '.join(trial.log)}" if trial.log else ""
        return _check(name, Status.PROBLEM, trial.reason, f"follow the message, then run this again{log}")
    costs = ", ".join(f"{size}: {seconds * 1e3:.2f} ms" for size, seconds in ready.batch_seconds.items())
    simulated = "SIMULATED, " if ready.simulated else ""
    found = f"{simulated}loaded with {ready.backend}, precision {ready.precision}, batches take {costs}"
    if not trial.unloaded:
        return _check(name, Status.WARNING, f"{found}; its worker did not stop", "expect a slow shutdown")
    return _check(name, Status.OK, found)
