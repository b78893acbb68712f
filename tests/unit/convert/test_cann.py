from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from repserve_convert.cann import find_cann, find_scripts
from repserve_convert.errors import ConversionError
from repserve_server.ascend import installation

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM_PATH = "/usr/bin:/bin"


@pytest.fixture(autouse=True)
def system_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes the place of root's installation."""
    root = tmp_path / "system"
    monkeypatch.setattr(installation, "ASCEND_FOLDER", str(root))
    return root


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    return {"PATH": SYSTEM_PATH, "HOME": str(tmp_path / "home"), **variables}


def add_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def add_script(path: Path, *, atc: bool = True) -> Path:
    """A set_env.sh that prints something, as some do, and puts a folder with an atc into PATH."""
    binaries = path.parent / "latest" / "bin"
    if atc:
        add_program(binaries / "atc")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'echo "environment set"\nexport ASCEND_TOOLKIT_HOME="{path.parent / "latest"}"\n'
        f'export PATH="{binaries}:$PATH"\nexport WITH_LINES="first\nsecond=2"\n'
    )
    return path


def test_an_atc_in_path_is_used_as_it_is(tmp_path: Path, system_root: Path) -> None:
    add_script(system_root / "ascend-toolkit" / "set_env.sh")
    atc = add_program(tmp_path / "bin" / "atc")
    variables = environment(tmp_path, PATH=f"{atc.parent}:{SYSTEM_PATH}")
    found = find_cann(None, variables)
    assert (found.atc, found.environment, found.script) == (atc, variables, None)


def test_else_set_env_is_sourced_and_its_environment_taken(tmp_path: Path, system_root: Path) -> None:
    script = add_script(system_root / "ascend-toolkit" / "set_env.sh")
    found = find_cann(None, environment(tmp_path, KEPT="yes"))
    assert found.script == script
    assert found.atc == script.parent / "latest" / "bin" / "atc"
    assert found.environment["KEPT"] == "yes"
    assert found.environment["WITH_LINES"] == "first\nsecond=2"


def test_the_version_is_the_installations(tmp_path: Path, system_root: Path) -> None:
    add_script(system_root / "cann" / "set_env.sh")
    found = find_cann(None, environment(tmp_path))
    assert found.version == ""
    info = system_root / "cann" / "latest" / "aarch64-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir()
    info.write_text("package_name=Ascend-cann-toolkit\nversion=7.0.0\ninnerversion=V100\n")
    assert found.version == "7.0.0"


def test_the_usual_places_are_looked_at_in_order(tmp_path: Path, system_root: Path) -> None:
    own = tmp_path / "own" / "ascend-toolkit"
    home = tmp_path / "home"
    expected = [
        add_script(own / "set_env.sh"),
        add_script(system_root / "ascend-toolkit" / "set_env.sh"),
        add_script(system_root / "cann" / "set_env.sh"),
        add_script(home / "Ascend" / "ascend-toolkit" / "set_env.sh"),
        add_script(home / "ascend-toolkit" / "set_env.sh"),
    ]
    variables = environment(tmp_path, ASCEND_TOOLKIT_HOME=str(own / "latest"))
    assert find_scripts(None, variables) == expected
    assert find_cann(None, variables).script == expected[0]


def test_a_folder_that_was_named_is_the_only_one(tmp_path: Path, system_root: Path) -> None:
    add_script(system_root / "ascend-toolkit" / "set_env.sh")
    atc = add_program(tmp_path / "bin" / "atc")
    script = add_script(tmp_path / "named" / "ascend-toolkit" / "set_env.sh")
    variables = environment(tmp_path, PATH=f"{atc.parent}:{SYSTEM_PATH}")
    assert find_cann(tmp_path / "named", variables).script == script
    with pytest.raises(ConversionError, match=r"no set_env\.sh in or below .*/home\)"):
        find_cann(tmp_path / "home", variables)


def test_a_runtime_without_atc_is_passed_over(tmp_path: Path, system_root: Path) -> None:
    useless = add_script(system_root / "ascend-toolkit" / "set_env.sh", atc=False)
    with pytest.raises(ConversionError, match=rf"{useless} exists but provides no atc"):
        find_cann(None, environment(tmp_path))
    script = add_script(tmp_path / "home" / "Ascend" / "cann" / "set_env.sh")
    assert find_cann(None, environment(tmp_path)).script == script


def test_without_cann_the_message_says_where_it_was_looked_for(tmp_path: Path, system_root: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        find_cann(None, environment(tmp_path, ASCEND_HOME_PATH=str(tmp_path / "gone")))
    message = str(caught.value)
    for place in ("not in PATH", str(system_root), "~/Ascend", "ASCEND_HOME_PATH", "--cann", "toolkit"):
        assert place in message
    assert "\n" not in message


def test_a_script_that_ends_the_shell_is_named(tmp_path: Path, system_root: Path) -> None:
    script = system_root / "cann" / "set_env.sh"
    script.parent.mkdir(parents=True)
    script.write_text("echo 'python3 is missing' >&2\nexit 3\n")
    with pytest.raises(ConversionError, match=r"set_env\.sh cannot be sourced in bash: python3 is missing"):
        find_cann(None, environment(tmp_path))
