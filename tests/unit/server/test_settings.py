"""Settings: which source wins, lists in one value, and errors that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from repserve_server.settings import ENVIRONMENT_PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(ENVIRONMENT_PREFIX + name.upper(), raising=False)


def toml(folder: Path, text: str) -> Path:
    path = folder / "repserve.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_environment_over_the_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, "max_queue_size = 11\ninstance_count = 2\nfrontends = 3\n")
    monkeypatch.setenv("REPSERVE_MAX_QUEUE_SIZE", "12")
    monkeypatch.setenv("REPSERVE_INSTANCE_COUNT", "4")
    settings = load_settings({"max_queue_size": 13}, file)
    assert (settings.max_queue_size, settings.instance_count, settings.frontends) == (13, 4, 3)
    assert settings.grpc_port == Settings.model_fields["grpc_port"].default
    assert load_settings({}, None).max_queue_size == 12
    assert load_settings({}, file).max_queue_size == 12


@pytest.mark.parametrize("text", ["cpu,sim:310p", " cpu , sim:310p ", "cpu,,sim:310p,"])
def test_names_in_one_value_are_separated_by_commas(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, f'device = "{text}"\n')
    assert load_settings({}, file).device == ("cpu", "sim:310p")
    monkeypatch.setenv("REPSERVE_MODEL", text)
    assert load_settings({}, None).model == ("cpu", "sim:310p")


def test_names_may_be_a_list_too(tmp_path: Path) -> None:
    assert load_settings({}, toml(tmp_path, 'model = ["a0", "digits"]\n')).model == ("a0", "digits")
    assert load_settings({"device": ("cpu", "sim:t4")}, None).device == ("cpu", "sim:t4")


def test_a_device_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="cpu"):
        load_settings({"device": ("cpu", "cpu")}, None)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"max_queue_size": 0}, ("max_queue_size", "0")),
        ({"grpc_port": 70000}, ("grpc_port", "70000")),
        ({"precision": "fp8"}, ("precision", "fp8")),
        ({"exit_timeout_seconds": -1.0}, ("exit_timeout_seconds", "-1.0")),
        ({"device": ()}, ("device", "at least one device")),
        ({"colour": "red"}, ("colour", "no such setting", "red")),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(flags: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, None)
    assert all(word in str(caught.value) for word in words)


def test_wrong_settings_from_other_sources_are_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"que_size.*77"):
        load_settings({}, toml(tmp_path, "que_size = 77\n"))
    monkeypatch.setenv("REPSERVE_INSTANCE_COUNT", "many")
    with pytest.raises(SettingsError, match=r"instance_count.*'many'"):
        load_settings({}, None)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml' does not exist"):
        load_settings({}, tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match=r"repserve\.toml is not valid TOML"):
        load_settings({}, toml(tmp_path, "max_queue_size ="))


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "repserve.toml"
    path.write_bytes('host = "ü"'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"repserve\.toml"):
        load_settings({}, path)


def test_process_counts_follow_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repserve_server.settings.available_cpus", lambda: 20)
    settings = load_settings({"device": "sim:310p"}, None)
    assert (settings.frontend_count, settings.decode_thread_count) == (2, 10)
    beside_models = load_settings({"device": "cpu,sim:310p"}, None)
    assert (beside_models.frontend_count, beside_models.decode_thread_count) == (2, 5)
    chosen = load_settings({"frontends": 40, "decode_threads": 3}, None)
    assert (chosen.frontend_count, chosen.decode_thread_count) == (40, 3)
    assert load_settings({"frontends": 40}, None).decode_thread_count == 1
