"""All checks, group by group, for a machine and the server's settings."""

from __future__ import annotations

import re
from collections.abc import Callable

from repserve_server.ascend.packages import try_import
from repserve_server.doctor.ascend import NPU_PREFIX, check_ascend, survey_chips
from repserve_server.doctor.check import Check, Group, Status, as_warnings, can_serve, not_needed
from repserve_server.doctor.limits import check_limits, check_ports
from repserve_server.doctor.machine import Machine
from repserve_server.doctor.memory import check_memory
from repserve_server.doctor.models import check_models, choose_folders
from repserve_server.doctor.packages import check_python, check_runtime, check_vendor_packages
from repserve_server.doctor.processor import check_processor
from repserve_server.doctor.trial import TryModel
from repserve_server.settings import Settings

_DEVICE = re.compile(r"cpu|npu:\d+|sim:\w+", re.ASCII)


def examine(
    machine: Machine, settings: Settings, try_model: TryModel | None, progress: Callable[[str], None]
) -> list[Check]:
    """Run all checks, group by group.

    Problems below a device that has just run a model become warnings: CANN and the driver may be installed in ways that
    the checks do not know.

    Args:
        machine: the machine.
        settings: those of the server.
        try_model: loads a model and measures it; None to leave that out.
        progress: called before each step that may take long, with its name.
    """
    if unknown := _check_devices(settings):
        return unknown  # other checks would be about devices that were not meant
    npus = tuple(device for device in settings.device if device.startswith(NPU_PREFIX))
    unused = f"not needed for {', '.join(settings.device)}"
    progress("running npu-smi")
    survey = survey_chips(machine)
    ascend = check_ascend(machine, survey, npus)
    progress("importing aclruntime and ais_bench")
    vendor = [check_vendor_packages(try_import(machine.environment, run=machine.run))]
    runtime = [check_runtime(settings)]
    folders, repository = choose_folders(settings)
    on_cpu = settings.device.count("cpu") * settings.instance_count
    models, loaded = check_models(
        folders,
        settings,
        survey,
        threads=max(1, machine.cpus // max(1, on_cpu)),
        try_model=try_model,
        untried=frozenset(() if can_serve(vendor) else npus),
        progress=progress,
    )
    if npus and loaded.issuperset(npus):
        ascend = as_warnings(ascend, "models run all the same")
    return [
        *(ascend if npus else not_needed(ascend, unused)),
        check_python(machine, npu=bool(npus)),
        *(vendor if npus else not_needed(vendor, unused)),
        *(runtime if "cpu" in settings.device else not_needed(runtime, unused)),
        *repository,
        *models,
        *check_processor(machine, settings),
        *check_memory(machine, settings, folders),
        *check_ports(settings),
        *check_limits(machine, settings),
    ]


def _check_devices(settings: Settings) -> list[Check]:
    """Find devices of an unknown kind."""
    return [
        Check(
            Group.MODELS,
            f"device {device}",
            Status.PROBLEM,
            f"unknown device {device!r}",
            "use cpu, an NPU such as npu:0, or sim:310p, sim:310, sim:t4 to simulate one",
        )
        for device in settings.device
        if not _DEVICE.fullmatch(device)
    ]
