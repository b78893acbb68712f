from __future__ import annotations

from pathlib import Path

import pytest

from repserve_bench.offline import model as model_module
from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.model import ModelSettings, choose_device, find_preprocessing, load_model, loaded_model
from repserve_server.backends.base import BackendOptions, DeviceError
from repserve_server.errors import RepositoryError
from repserve_server.imaging.preprocessing import Preprocessing
from support.fakes import FakeBackend

OM, ONNX = Path("RepVGG_bs1.om"), Path("RepVGG.onnx")


class Loader:
    """Takes the place of ``create_backend``: keeps its options."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, any_size: bool = False) -> None:
        self.closed = 0
        self.backend = FakeBackend(batch_sizes=(1, 16))
        self.backend.any_size = any_size
        self.backend.close = self._close  # type: ignore[method-assign]
        monkeypatch.setattr(model_module, "create_backend", self)

    def __call__(self, options: BackendOptions) -> FakeBackend:
        self.options = options
        return self.backend

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ModelSettings(OM), ("npu:0", 0)),
        (ModelSettings(OM, device_id=2), ("npu:2", 2)),
        (ModelSettings(OM, device="npu:3"), ("npu:3", 3)),
        (ModelSettings(OM, device="npu:3", device_id=3), ("npu:3", 3)),
        (ModelSettings(OM, device="sim:310p"), ("sim:310p", 0)),
        (ModelSettings(ONNX), ("cpu", 0)),
        (ModelSettings(ONNX, device_id=1), ("cpu", 1)),
        (ModelSettings(ONNX, device="sim:t4", device_id=1), ("sim:t4", 1)),
    ],
)
def test_the_device_follows_from_the_model_unless_it_is_given(
    settings: ModelSettings, expected: tuple[str, int]
) -> None:
    assert choose_device(settings) == expected


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (ModelSettings(OM, device="cpu"), r"RepVGG_bs1\.om: the device cpu runs \.onnx models"),
        (ModelSettings(ONNX, device="npu:0"), r"RepVGG\.onnx: the device npu:0 runs \.om models"),
        (ModelSettings(OM, device="npu:1", device_id=0), "npu:1 and the device id 0 contradict each other"),
        (ModelSettings(OM, device="npu:first"), "unknown device 'npu:first'; NPUs are npu:0"),
        (ModelSettings(Path("model.pth")), r"expected a model whose name ends in \.om or \.onnx"),
    ],
)
def test_a_device_that_does_not_fit_is_refused(settings: ModelSettings, problem: str) -> None:
    with pytest.raises(OfflineError, match=problem):
        choose_device(settings)


def test_a_cpu_runs_float32_and_the_given_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(monkeypatch, any_size=True)
    model = load_model(ModelSettings(ONNX, batch_size=7))
    assert (loader.options.precision, loader.options.input, loader.options.path) == ("f32", "tensor", ONNX)
    assert (loader.options.max_batch_size, loader.options.compiled_sizes) == (7, (7,))
    assert model.describe() == "cpu (fake, f32), batch size 7"


def test_an_npu_knows_the_sizes_that_an_om_was_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(monkeypatch)
    assert load_model(ModelSettings(OM, batch_size=16)).batch_size == 16
    assert (loader.options.device, loader.options.precision) == ("npu:0", "auto")
    assert loader.options.compiled_sizes is None
    with pytest.raises(OfflineError, match="was compiled for a batch size of 1 or 16, not 4; use a size it has"):
        load_model(ModelSettings(OM, batch_size=4))
    assert loader.closed == 1


def test_errors_of_a_runtime_take_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: BackendOptions) -> FakeBackend:
        raise RuntimeError("bad node")

    monkeypatch.setattr(model_module, "create_backend", fail)
    with pytest.raises(OfflineError, match=r"RepVGG\.onnx cannot be loaded on cpu: bad node"):
        load_model(ModelSettings(ONNX))


def test_a_model_is_given_back_unless_its_device_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(monkeypatch)
    with loaded_model(ModelSettings(OM)):
        pass
    assert loader.closed == 1
    with pytest.raises(OfflineError), loaded_model(ModelSettings(OM)):
        raise OfflineError("a file is missing")
    assert loader.closed == 2
    with pytest.raises(DeviceError), loaded_model(ModelSettings(OM)):
        raise DeviceError("the device was lost")
    assert loader.closed == 2


def test_a_simulated_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(monkeypatch)
    loader.backend.simulated = True
    model = load_model(ModelSettings(OM, device="sim:310p"))
    assert model.simulated == "sim:310p"
    assert model.describe().startswith("SIMULATED sim:310p")


def version_folder(root: Path, version: str, config: str) -> Path:
    folder = root / "repvgg" / version
    folder.mkdir(parents=True)
    (root / "repvgg" / "model.toml").write_text(config)
    return folder / "model.onnx"


def test_a_model_in_a_repository_has_the_preprocessing_of_its_model_toml(tmp_path: Path) -> None:
    model = version_folder(tmp_path, "3", "[preprocessing]\nresize = 232\n")
    assert find_preprocessing(model) == (Preprocessing(resize=232), str(tmp_path / "repvgg" / "model.toml"))


def test_any_other_model_has_the_guides_preprocessing(tmp_path: Path) -> None:
    model = version_folder(tmp_path, "latest", "[preprocessing]\nresize = 232\n")
    assert find_preprocessing(model) == (Preprocessing(), "the guide")
    assert find_preprocessing(Path("RepVGG.onnx")) == (Preprocessing(), "the guide")


def test_a_bad_model_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"model\.toml: key 'resise'"):
        find_preprocessing(version_folder(tmp_path, "3", "resise = 232\n"))


def test_a_note_beside_the_model_is_its_caution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Loader(monkeypatch, any_size=True)
    (tmp_path / "WEIGHTS.txt").write_text("RANDOM WEIGHTS (RepVGG-A0).\nMore.\n")
    assert load_model(ModelSettings(tmp_path / "model.onnx")).caution == "RANDOM WEIGHTS (RepVGG-A0)."
    assert load_model(ModelSettings(ONNX)).caution == ""
