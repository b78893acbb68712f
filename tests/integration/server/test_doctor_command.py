"""``repserve doctor`` as a user runs it: on this machine, and over the stand-in for the vendor's packages."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.digits_server import compile_digits
from support.harness import MODEL_REPOSITORY, repserve
from support.standin_models import standin_environment

FREE_PORTS = ("--host", "127.0.0.1", "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")
ASCEND_VARIABLES = ("LD_LIBRARY_PATH", "ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH")
NO_NPU = pytest.mark.skipif(Path("/dev/davinci_manager").exists(), reason="this machine has an NPU")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in ASCEND_VARIABLES}
    return subprocess.run(
        [repserve(), "doctor", *arguments],
        env={**variables, "COLUMNS": "80", **environment},
        capture_output=True,
        timeout=120,
        check=False,
        text=True,
    )


def examined(*arguments: str, **environment: str) -> tuple[int, bool, dict[str, dict[str, Any]]]:
    """Exit status, the verdict, and the checks by name."""
    done = run("--json", *arguments, **environment)
    assert done.stderr == ""
    body = json.loads(done.stdout)
    assert set(body) == {"schema", "schema_version", "ok", "checks"}
    for check in body["checks"]:
        assert set(check) == {"name", "group", "status", "found", "advice"}
        assert check["group"] in ("Ascend", "Python packages", "Models", "Machine")
        assert check["status"] in ("ok", "warning", "problem", "not needed")
        assert bool(check["advice"]) == (check["status"] in ("warning", "problem")), check
    return done.returncode, body["ok"], {check["name"]: check for check in body["checks"]}


def test_the_bundled_models_can_be_served_on_this_cpu() -> None:
    before = sorted(MODEL_REPOSITORY.rglob("*"))
    done = run("--model-repository", str(MODEL_REPOSITORY), *FREE_PORTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(MODEL_REPOSITORY.rglob("*")) == before, "a look changes nothing"
    lines = done.stdout.splitlines()
    assert [line for line in lines if line and line[0] in "APM"] == ["Ascend", "Python packages", "Models", "Machine"]
    assert lines[-1].startswith("serving can work with these settings")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout


def test_the_model_was_loaded_and_measured() -> None:
    status, ok, checks = examined("--model-repository", str(MODEL_REPOSITORY), *FREE_PORTS, "--precision", "f32")
    assert (status, ok) == (0, True)
    found = checks["repvgg_digits on cpu"]["found"]
    assert found.startswith("loaded with openvino, precision f32, batches take 1: ")
    assert " 16: " in found


def test_the_foretold_precision_is_the_one_that_openvino_takes() -> None:
    _, _, checks = examined("--model-repository", str(MODEL_REPOSITORY), "--model", "repvgg_digits", *FREE_PORTS)
    precision = checks["CPU features"]["found"].rpartition(" is ")[2]
    assert f"precision {precision}," in checks["repvgg_digits on cpu"]["found"]


@NO_NPU
def test_an_npu_that_is_not_there_is_told_with_what_to_install() -> None:
    status, ok, checks = examined("--model-repository", str(MODEL_REPOSITORY), *FREE_PORTS, "--device", "npu:0")
    assert (status, ok) == (1, False)
    expected = {
        "CANN": "install CANN",
        "driver": "install the driver",
        "device nodes": "--device",
        "device npu:0": "choose another --device",
        "aclruntime, ais_bench": "wheels aclruntime and ais_bench",
        "repvgg_digits/1": "repserve convert onnx2om",
    }
    for name, advice in expected.items():
        assert (checks[name]["status"], advice in checks[name]["advice"]) == ("problem", True), checks[name]


def test_a_simulated_device_is_called_that() -> None:
    status, _, checks = examined("--model-repository", str(MODEL_REPOSITORY), *FREE_PORTS, "--device", "sim:310p")
    assert status == 0
    assert checks["repvgg_digits on sim:310p"]["found"].startswith("SIMULATED, ")


def test_settings_come_from_flags_environment_and_file_as_for_serve(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'model_repository = "{MODEL_REPOSITORY}"\ndevice = "sim:t4"\nmax_queue_size = 7\n')
    arguments = ("--config", str(config), "--no-load", *FREE_PORTS)
    _, _, checks = examined(*arguments, REPSERVE_MODEL="repvgg_digits", REPSERVE_DEVICE="cpu")
    assert "repvgg_a0" not in checks
    assert "repvgg_digits on cpu" not in checks
    assert checks["runtime"]["status"] == "ok"
    assert "max_queue_size 7" in checks["memory"]["found"]


@pytest.mark.parametrize("taken", ["gRPC", "HTTP", "metrics"])
def test_a_taken_port_is_a_problem_that_names_its_flag(taken: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        flag = f"--{taken.lower()}-port"
        arguments = ("--model-repository", str(MODEL_REPOSITORY), "--no-load", "--host", "127.0.0.1", *FREE_PORTS)
        status, _, checks = examined(*arguments, flag, port)
    assert status == 1
    ports = {name: checks[f"{name} port"]["status"] for name in ("gRPC", "HTTP", "metrics")}
    assert ports == {"gRPC": "ok", "HTTP": "ok", "metrics": "ok", taken: "problem"}
    assert f"cannot listen on 127.0.0.1:{port}" in checks[f"{taken} port"]["found"]
    assert flag in checks[f"{taken} port"]["advice"]


def test_the_same_port_twice_is_a_problem() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = ("--model-repository", str(MODEL_REPOSITORY), "--no-load", *FREE_PORTS)
    _, _, checks = examined(*arguments, "--grpc-port", port, "--metrics-port", port)
    assert (checks["gRPC port"]["status"], checks["metrics port"]["status"]) == ("ok", "problem")


def test_a_wrong_setting_is_one_line() -> None:
    done = run("--config", "not-there.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: the configuration file 'not-there.toml' does not exist\n"


def test_an_unknown_flag_is_wrong_usage() -> None:
    assert run("--colour").returncode == 2


@NO_NPU
@pytest.mark.parametrize("kind", ["npu bs1 bs16", "npu gears", "npu aipp"])
def test_over_the_stand_in_packages_are_imported_and_the_model_runs(tmp_path: Path, kind: str) -> None:
    version = compile_digits(kind, tmp_path)
    status, ok, checks = examined(
        *("--model-repository", str(tmp_path), *FREE_PORTS, "--device", "npu:0"), **standin_environment()
    )
    assert checks["aclruntime, ais_bench"]["status"] == "ok", checks["aclruntime, ais_bench"]
    trial = checks["repvgg_digits on npu:0"]
    assert (trial["status"], "loaded with acl" in trial["found"]) == ("ok", True), trial
    assert checks["repvgg_digits/1/compiled.json"]["status"] == "warning"
    # The stand-in needs none of what CANN and the driver bring, and the model runs.
    assert (checks["CANN"]["status"], checks["CANN"]["found"].endswith("models run all the same")) == ("warning", True)
    assert (status, ok) == (0, True)
    assert sorted(version.glob("*.om"))


@NO_NPU
def test_over_the_stand_in_a_model_for_another_chip_does_not_load(tmp_path: Path) -> None:
    compile_digits("npu bs1 bs16", tmp_path)
    status, _, checks = examined(
        *("--model-repository", str(tmp_path), *FREE_PORTS, "--device", "npu:0"),
        **standin_environment(soc_version="Ascend310"),
    )
    trial = checks["repvgg_digits on npu:0"]
    assert (status, trial["status"]) == (1, "problem")
    assert "was compiled for another chip" in trial["found"]
