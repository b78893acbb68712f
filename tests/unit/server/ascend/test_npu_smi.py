"""``npu-smi info``: tables of several driver versions are read alike, and what it cannot tell is said."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.ascend.npu_smi import (
    Chip,
    ChipProcess,
    NpuSmiError,
    NpuSmiHangError,
    NpuSmiMissingError,
    find_npu_smi,
    parse_npu_smi,
    read_chips,
    soc_version,
)
from support.doctor_machines import HANG, TABLE_310P, FakeCommands, ended, write
from support.npu_smi_tables import TABLE_310, TABLE_910B

TABLE_TWO_CHIPS = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 3     Ascend910           | OK            | 178.5       36                0    / 0             |
| 0     6                   | 0000:9D:00.0  | 0           0    / 0          3416 / 65536         |
+------------------------------------------------------------------------------------------------+
| 3     Ascend910           | OK            | -           36                0    / 0             |
| 1     7                   | 0000:9F:00.0  | 0           0    / 0          3195 / 65536         |
+===========================+===============+====================================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 3       1                 | 42            | worker                   | 600                     |
"""


def test_a_310p_is_read() -> None:
    assert parse_npu_smi(TABLE_310P) == [Chip(224, 0, 0, "310P3", "OK", "0000:04:00.0", 1263, 44280)]


def test_a_chip_called_310_is_not_taken_for_numbers() -> None:
    assert parse_npu_smi(TABLE_310) == [
        Chip(4, 0, 0, "310", "OK", "0000:06:00.0", 2703, 8192),
        Chip(4, 1, 1, "310", "Warning", "0000:06:00.1", 2703, 8192),
    ]


def test_without_a_device_column_chips_are_counted_and_the_hbm_is_their_memory() -> None:
    users = (ChipProcess(1333928, ""), ChipProcess(77, "python3"))
    assert parse_npu_smi(TABLE_910B) == [
        Chip(2, 0, 0, "910B3", "OK", "0000:81:00.0", 41052, 65536, users),
        Chip(5, 0, 1, "910B3", "Alarm", "0000:02:00.0", 3400, 65536),
    ]


def test_physical_numbers_are_not_taken_for_those_of_acl() -> None:
    first, second = parse_npu_smi(TABLE_TWO_CHIPS)
    assert [(chip.npu, chip.chip, chip.device, chip.processes) for chip in (first, second)] == [
        (3, 0, 0, ()),
        (3, 1, 1, (ChipProcess(42, "worker"),)),
    ]


def test_a_chip_whose_second_row_is_missing_does_not_name_the_next_one() -> None:
    lines = TABLE_310.splitlines()
    lines.remove("| 0       0         | 0000:06:00.0    | 0                 2703 / 8192          |")
    (chip,) = parse_npu_smi("\n".join(lines))
    assert (chip.device, chip.health, chip.bus_id) == (1, "Warning", "0000:06:00.1")


def test_a_bus_that_is_not_shown_is_no_hindrance() -> None:
    (chip,) = parse_npu_smi(TABLE_310P.replace("0000:04:00.0", "NA          "))
    assert (chip.bus_id, chip.memory_total_mb) == ("NA", 44280)


@given(st.integers(0, 6), st.integers(0, 60))
def test_columns_may_have_any_width(left: int, right: int) -> None:
    wide = TABLE_310P.replace("| ", "|" + " " * left).replace(" |", " " * right + "|")
    assert parse_npu_smi(wide) == parse_npu_smi(TABLE_310P)


@given(st.lists(st.sampled_from([*TABLE_310P.splitlines(), *TABLE_910B.splitlines(), "|", "||", "| |x|"]), max_size=30))
def test_torn_output_never_ends_in_an_error(lines: list[str]) -> None:
    for chip in parse_npu_smi("\n".join(lines)):
        assert chip.name


@given(st.text(max_size=300))
def test_other_text_has_no_chips(text: str) -> None:
    assert parse_npu_smi(text.replace(":", "")) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("310P3", "Ascend310P3"), ("310", "Ascend310"), ("Ascend910", "Ascend910")]
)
def test_the_chips_name_is_what_atc_takes(name: str, expected: str) -> None:
    assert soc_version(name) == expected


def read(root: Path, result: CompletedProcess[str] | Exception) -> list[Chip]:
    write(root, "/usr/local/sbin/npu-smi", mode=0o755)
    return read_chips(environment={"PATH": "/usr/bin"}, root=root, run=FakeCommands({"npu-smi": result}))


def test_npu_smi_is_found_outside_a_users_path(tmp_path: Path) -> None:
    assert len(read(tmp_path, ended(0, TABLE_310P))) == 1


def test_the_one_in_path_comes_first(tmp_path: Path) -> None:
    for folder in ("/usr/local/sbin", "/opt/driver/bin"):
        write(tmp_path, f"{folder}/npu-smi", mode=0o755)
    assert find_npu_smi({"PATH": "relative:/opt/driver/bin"}, tmp_path) == "/opt/driver/bin/npu-smi"


def test_a_missing_npu_smi_is_said(tmp_path: Path) -> None:
    with pytest.raises(NpuSmiMissingError, match="npu-smi was not found"):
        read_chips(environment={}, root=tmp_path, run=FakeCommands())


def test_a_hanging_npu_smi_is_said(tmp_path: Path) -> None:
    with pytest.raises(NpuSmiHangError, match="did not finish within 10 s: the driver hangs"):
        read(tmp_path, HANG)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            ended(255, "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005\n"),
            "failed with status 255: dcmi module initialize failed. ret is -8005",
        ),
        (
            ended(127, "", "npu-smi: libdcmi.so: cannot open shared object file\n"),
            "status 127: npu-smi: libdcmi",
        ),
        (ended(0, "+---+\n"), "shows no chip: \\+---\\+"),
        (ended(1, ""), "no output"),
        (ended(1, TABLE_310P, "lost a chip"), "status 1: lost a chip"),
        (PermissionError(13, "Permission denied"), "cannot be started: .*Permission denied"),
    ],
)
def test_why_npu_smi_tells_no_chips_is_said(
    tmp_path: Path, result: CompletedProcess[str] | Exception, message: str
) -> None:
    with pytest.raises(NpuSmiError, match=message):
        read(tmp_path, result)
