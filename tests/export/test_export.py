import importlib.util
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from caafp_app import cli
from caafp_app.datasets import source_of
from caafp_app.errors import RunError, SettingsError
from caafp_app.export import FORMATS, Trained, export_cluster, load_cluster, read_sparse
from caafp_app.export.formats import Predict
from caafp_app.export.trained import logits_of, windows_like
from caafp_app.models import build_model
from caafp_app.settings import DataSettings
from caafp_app.training import load_arrays
from tests.export.conftest import SHORT, finished
from tests.tolerance import close, tolerance

ONNX = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in FORMATS["onnx"].needs),
    reason="the extra 'export' is not installed (onnx, onnxscript, onnxruntime)",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def stored(run: Path) -> torch.nn.Module:
    """The full network, read from the run directory without our reader."""
    model = build_model("har-cnn", (64, 6), 5, seed=1)
    (file,) = (run / "models").iterdir()
    load_arrays(model, load_file(file))
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "density", "filters"),
    [("weight", 0.3, 64), ("filter", 1, None), ("efficientfl", 1, 19)],
)
def test_the_network_of_a_cluster_computes_what_was_stored(
    runs: dict[str, Path], kind: str, density: float, filters: int | None
) -> None:
    trained = load_cluster(runs[kind])
    windows = windows_like(trained, 50)
    truth = logits_of(stored(runs[kind]), windows)
    close(logits_of(trained.model, windows), truth)
    assert np.ptp(truth) > 0.1
    assert trained.input_shape == (64, 6)
    assert trained.full_size == 55_493
    assert trained.class_names[0] == "walking"
    assert trained.density == pytest.approx(density, abs=0.001)
    if filters:
        assert trained.arrays["conv2.weight"].shape == (filters, filters, 5)
    for name, mask in trained.mask.items():
        assert not trained.arrays[name][~mask].any()


@pytest.mark.parametrize("granularity", ["weight", "filter"])
def test_a_level_is_exported_as_the_part_that_its_devices_have(
    tmp_path: Path, granularity: str
) -> None:
    run = finished(tmp_path, "run", granularity=granularity, levels="1,0.5,0.25", **SHORT)
    whole, part = load_cluster(run), load_cluster(run, level=0.25)
    assert part.name == "level-0.25-cluster-0"
    active = [sum(int(bits.sum()) for bits in one.mask.values()) for one in (whole, part)]
    if granularity == "weight":
        assert active[1] == pytest.approx(0.25 * active[0], rel=0.01)
    else:
        assert active[1] < 0.25 * active[0]
        filters = [len(one.arrays["conv1.weight"]) for one in (whole, part)]
        assert filters[1] == int(0.25 * filters[0] + 0.5)
        assert part.density == 1.0
    windows = windows_like(part, 50)
    model = stored(run)
    bits = load_file(run / "masks" / "level-0.25-cluster-0.safetensors")["mask"]
    masks = np.split(
        np.unpackbits(bits, bitorder="little"),
        np.cumsum([p.numel() for p in model.parameters() if p.ndim > 1]),
    )
    with torch.no_grad():
        for weights, mask in zip(
            (p for p in model.parameters() if p.ndim > 1), masks, strict=False
        ):
            weights *= torch.from_numpy(mask.reshape(weights.shape).astype(np.float32))
    close(logits_of(part.model, windows), logits_of(model, windows))
    with pytest.raises(RunError, match=r"expected level-0.1-cluster-0.safetensors"):
        load_cluster(run, level=0.1)


def test_the_only_cluster_need_not_be_named(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["efficientfl"]
    trained, _ = export_cluster(run, None, ["safetensors"], tmp_path)
    assert trained.name == "cluster--1"
    assert trained.arrays.keys() == load_cluster(run, -1).arrays.keys()
    result = CliRunner().invoke(cli.app, ["export", str(run), "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(tmp_path / "cluster--1.safetensors")]
    two = shutil.copytree(runs["weight"], tmp_path / "two")
    for part in ("models", "masks"):
        shutil.copy(two / part / "cluster-0.safetensors", two / part / "cluster-1.safetensors")
    assert load_cluster(two).name == "cluster-0"


def test_filters_go_only_where_the_strategy_cuts_them(tmp_path: Path) -> None:
    """The knob is of caafp alone: fedsnip's mask may empty a filter whose bias still counts."""
    run = finished(tmp_path, "snip", strategy="fedsnip", granularity="filter", **SHORT)
    assert load_cluster(run).arrays["conv2.weight"].shape == (64, 64, 5)


def test_whole_filters_are_gone_and_the_network_is_smaller(runs: dict[str, Path]) -> None:
    full = load_file(runs["filter"] / "models" / "cluster-0.safetensors")
    small = load_cluster(runs["filter"], 0).arrays
    kept = len(small["conv1.weight"])
    assert small["conv2.weight"].shape == (kept, kept, 5)
    assert small["dense.weight"].shape == (32, kept * 16)
    assert small["conv1.bias"].shape == (kept,)
    weights = sum(array.size for array in small.values() if array.ndim >= 2)
    dense = sum(array.size for array in full.values() if array.ndim >= 2)
    assert 0.25 < weights / dense <= 0.3  # sparsity 0.7, by whole filters
    assert load_cluster(runs["filter"], 0).density == 1.0
    clusters = json.loads((runs["filter"] / "clusters.json").read_text())["clusters"]
    assert clusters["0"]["density"] == pytest.approx(weights / dense)


def test_files_of_arrays_hold_the_very_network(runs: dict[str, Path], tmp_path: Path) -> None:
    trained, made = export_cluster(runs["weight"], 0, ["safetensors", "sparse"], tmp_path)
    assert [one.path.name for one in made] == [
        "cluster-0.safetensors",
        "cluster-0.sparse.safetensors",
    ]
    truth = load_file(runs["weight"] / "models" / "cluster-0.safetensors")
    for arrays in (load_file(made[0].path), read_sparse(made[1].path)[0]):
        assert arrays.keys() == truth.keys()
        assert all(np.array_equal(arrays[name], truth[name]) for name in truth)
    assert [(one.difference, one.agreement) for one in made] == [(0.0, 1.0)] * 2
    # 30 % of the weights, and a bit each.
    assert made[1].nbytes / made[0].nbytes == pytest.approx(0.34, abs=0.01)
    assert trained.name == "cluster-0"


def test_pt2_is_a_program_of_any_number_of_windows(runs: dict[str, Path], tmp_path: Path) -> None:
    trained, (made,) = export_cluster(runs["filter"], 0, ["pt2"], tmp_path)
    program = torch.export.load(made.path).module()
    windows = windows_like(trained, 7, seed=3)
    truth = logits_of(trained.model, windows)
    close(logits_of(program, windows), truth)
    assert made.difference <= tolerance(truth)


@ONNX
@pytest.mark.parametrize("granularity", ["weight", "filter"])
def test_onnx_agrees_with_torch_on_a_thousand_windows(
    runs: dict[str, Path], tmp_path: Path, granularity: str
) -> None:
    import onnxruntime

    trained, (made,) = export_cluster(runs[granularity], 0, ["onnx"], tmp_path)
    settings = DataSettings(synthetic_users=20, synthetic_windows=50)
    windows = source_of("synthetic").windows(settings).x
    assert len(windows) == 1000
    session = onnxruntime.InferenceSession(made.path)
    (logits,) = session.run(None, {"windows": windows})
    truth = logits_of(trained.model, windows)
    close(logits, truth)
    assert np.ptp(truth) > 1
    assert made.difference <= tolerance(truth)
    assert [session.get_inputs()[0].name, session.get_outputs()[0].name] == ["windows", "logits"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["classes"] == ",".join(trained.class_names)


@ONNX
def test_int8_is_smaller_and_finds_the_same_classes(runs: dict[str, Path], tmp_path: Path) -> None:
    trained, (small,) = export_cluster(runs["weight"], 0, ["onnx-int8"], tmp_path)
    assert small.nbytes < 0.65 * 4 * trained.full_size
    assert 0 < small.difference < 0.3
    assert small.agreement > 0.97


def test_an_export_that_does_not_agree_is_an_error(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(trained: object, path: Path) -> object:
        return lambda windows: np.full((len(windows), 5), np.nan, np.float32)

    monkeypatch.setitem(FORMATS, "sparse", replace(FORMATS["sparse"], load=wrong))
    with pytest.raises(RunError, match="found a difference of nan"):
        export_cluster(runs["weight"], 0, ["sparse"], tmp_path)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_what_float32_rounds_off_grows_with_the_logits(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    run = shutil.copytree(runs["weight"], tmp_path / "run")
    file = run / "models" / "cluster-0.safetensors"
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    arrays = load_file(file)
    (last,) = (name for name, array in arrays.items() if array.shape == (5, 32))
    save_file({**arrays, last: arrays[last] * np.float32(scale)}, file, metadata)
    trained = load_cluster(run)
    largest = max(1.0, float(np.abs(logits_of(trained.model, windows_like(trained, 1000))).max()))
    assert (largest > 100) == (scale > 1)
    for share, fine in ((0.9e-5, True), (1.2e-5, False)):

        def load(trained: Trained, path: Path, off: float = share * largest) -> Predict:
            return lambda windows: logits_of(trained.model, windows) + np.float32(off)

        monkeypatch.setitem(FORMATS, "pt2", replace(FORMATS["pt2"], write=touch, load=load))
        expected = nullcontext() if fine else pytest.raises(RunError, match="found a difference")
        with expected:
            export_cluster(run, 0, ["pt2"], tmp_path)


def touch(trained: Trained, path: Path) -> None:
    path.touch()


def test_what_cannot_be_exported_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected cluster-7\.safetensors .* has cluster-0"):
        load_cluster(runs["weight"], 7)
    with pytest.raises(SettingsError, match=r"expected one of safetensors.*did you mean 'onnx'"):
        export_cluster(runs["weight"], 0, ["onx"])
    with pytest.raises(RunError, match="expected a run directory"):
        export_cluster(tmp_path, 0, ["sparse"])
    mixed = tmp_path / "mixed"
    shutil.copytree(runs["weight"], mixed)
    shutil.copy(runs["filter"] / "masks" / "cluster-0.safetensors", mixed / "masks")
    with pytest.raises(RunError, match="are not of one run"):
        load_cluster(mixed, 0)
    shutil.copy(mixed / "models" / "cluster-0.safetensors", mixed / "masks")
    with pytest.raises(RunError, match=r"expected the array 'mask' in .*, found conv1\.bias"):
        load_cluster(mixed, 0)


def test_a_format_without_its_packages_names_the_extra(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"onnxruntime is not installed.*caafp-app\[export\]"):
        FORMATS["onnx"].require("onnx")


def test_the_command_prints_paths_and_is_honest(runs: dict[str, Path], tmp_path: Path) -> None:
    words = ["export", str(runs["weight"]), "-f", "safetensors", "-f", "sparse", "-o"]
    result = CliRunner().invoke(cli.app, [*words, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    names = ["cluster-0.safetensors", "cluster-0.sparse.safetensors"]
    assert result.stdout.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert "sparse" in result.stderr
    assert "Zeros do not make dense kernels faster" in result.stderr
    bad = CliRunner().invoke(cli.app, ["export", str(runs["weight"]), "--cluster", "9"])
    assert bad.exit_code == 1
    assert "caafp: expected cluster-9.safetensors" in bad.stderr
