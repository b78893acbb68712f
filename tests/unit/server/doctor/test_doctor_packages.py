"""The packages that run models: what their import says, and what to install."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from repserve_server.ascend.packages import ImportOutcome, describe_import_error, try_import
from repserve_server.backends.acl_errors import explain_import_error
from repserve_server.doctor.check import Status
from repserve_server.doctor.packages import check_python, check_runtime, check_vendor_packages
from repserve_server.settings import Settings
from support.doctor_machines import HANG, IMPORTER, INSTALLED, FakeCommands, ended, npu_machine


def outcome(result: CompletedProcess[str] | Exception) -> ImportOutcome:
    return try_import({}, run=FakeCommands({IMPORTER: result}))


def test_packages_that_can_be_imported_are_ok() -> None:
    check = check_vendor_packages(outcome(INSTALLED))
    assert (check.status, check.found) == (Status.OK, "aclruntime 0.0.2, ais_bench 0.0.2")


@pytest.mark.parametrize(
    ("error", "found", "advice"),
    [
        (
            ModuleNotFoundError("no", name="aclruntime"),
            "aclruntime is not installed",
            "wheels aclruntime and ais_bench",
        ),
        (ModuleNotFoundError("no", name="ais_bench.infer"), "ais_bench.infer is not installed", "not on PyPI"),
        (ImportError("libascendcl.so: cannot open"), "aclruntime cannot be loaded: libascendcl.so", "set_env.sh"),
        (ModuleNotFoundError("No module named 'tqdm'", name="tqdm"), "No module named 'tqdm'", "install CANN"),
    ],
)
def test_an_import_error_says_what_to_install(error: ImportError, found: str, advice: str) -> None:
    described = describe_import_error(error)
    assert found in described.found
    assert advice in described.advice
    assert explain_import_error(error) == f"{described.found}; {described.advice}"


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (ended(-11, "", "aclInit\n"), "the import ended by SIGSEGV (aclInit)"),
        (ended(1, "", "Traceback\nRuntimeError: torn\n"), "ended with status 1 (RuntimeError: torn)"),
        (HANG, "did not finish within 60 s: the driver hangs"),
    ],
)
def test_an_import_that_crashes_or_hangs_is_a_problem(result: CompletedProcess[str] | Exception, found: str) -> None:
    check = check_vendor_packages(outcome(result))
    assert (check.status, found in check.found, "import aclruntime" in check.advice) == (Status.PROBLEM, True, True)


def test_a_python_without_wheels_is_a_warning_for_npus_alone(tmp_path: Path) -> None:
    machine = replace(npu_machine(tmp_path), python=(3, 13))
    assert check_python(machine, npu=True).status is Status.WARNING
    assert "Python 3.12" in check_python(machine, npu=True).advice
    assert check_python(machine, npu=False).found == "3.13 on x86_64"
    assert check_python(replace(machine, python=(3, 12)), npu=True).status is Status.OK


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime"])
def test_a_runtime_is_named_with_its_version(runtime: str) -> None:
    package = "openvino" if runtime == "auto" else runtime
    check = check_runtime(Settings(runtime=runtime))
    assert (check.status, check.found) == (Status.OK, f"{package} {importlib.metadata.version(package)}")


@pytest.mark.parametrize(
    ("runtime", "found", "advice"),
    [
        ("tensorrt", "unknown runtime 'tensorrt'", "openvino, onnxruntime, or package.module:Class"),
        (":Runtime", "unknown runtime ':Runtime'", "package.module:Class"),
        ("nowhere.at_all:Runtime", "nowhere is not installed", "PYTHONPATH"),
    ],
)
def test_a_runtime_that_is_not_there_is_a_problem(runtime: str, found: str, advice: str) -> None:
    check = check_runtime(Settings(runtime=runtime))
    assert (check.status, check.found, advice in check.advice) == (Status.PROBLEM, found, True)


def test_a_runtime_of_ones_own_is_looked_for() -> None:
    assert check_runtime(Settings(runtime="support.faulty_runtimes:FaultyRuntime")).status is Status.OK


@pytest.mark.parametrize(
    ("runtime", "extras"), [("auto", "server"), ("openvino", "server"), ("onnxruntime", "server,onnxruntime")]
)
def test_a_missing_runtime_names_the_extra(monkeypatch: pytest.MonkeyPatch, runtime: str, extras: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    check = check_runtime(Settings(runtime=runtime))
    assert (check.status, check.advice) == (Status.PROBLEM, f"pip install 'repserve[{extras}]'")
