"""The formats: how each is written, and how what was written is run.

`write` makes the file; `load` reads it back as a function from windows float32 [n, *input_shape] to
logits [n, classes], through nothing but the file (and, where the format holds arrays alone, an
empty network of the same kind).
"""

import contextlib
import copy
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caafp_app.errors import SettingsError
from caafp_app.export.sparse import read_sparse, write_sparse
from caafp_app.export.trained import Trained, logits_of, windows_like
from caafp_app.runs.files import write_atomic
from caafp_app.runs.tensors import read_tensors, write_tensors
from caafp_app.training import load_arrays

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Format:
    """One way to leave; of `Trained`, `load` uses the kind of network at most.

    `tolerance` is the largest difference of a logit from torch's that is no fault, as a share of
    the largest logit, or of 1 where all are smaller; infinite where numbers are rounded on purpose.
    `needs` are packages that have to be installed.
    """

    suffix: str
    write: Callable[[Trained, Path], None]
    load: Callable[[Trained, Path], Predict]
    tolerance: float = 0.0
    needs: tuple[str, ...] = ()

    def require(self, name: str) -> None:
        """Refuse a format whose packages are not there."""
        missing = [package for package in self.needs if importlib.util.find_spec(package) is None]
        if missing:
            raise SettingsError(
                f"--format {name}: expected {', '.join(self.needs)}, found that "
                f"{', '.join(missing)} is not installed; install the extra 'export' "
                "(pip install caafp-app[export])"
            )


def _metadata(trained: Trained) -> dict[str, str]:
    return {
        "name": trained.name,
        "input-shape": ",".join(map(str, trained.input_shape)),
        "classes": ",".join(trained.class_names),
    }


def _of_arrays(trained: Trained, arrays: Mapping[str, NDArray[Any]]) -> Predict:
    model: nn.Module = copy.deepcopy(trained.model)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    load_arrays(model, arrays)
    return lambda windows: logits_of(model, windows)


def _write_pt2(trained: Trained, path: Path) -> None:
    sample = torch.from_numpy(windows_like(trained, 2))
    buffer = io.BytesIO()
    with _quiet():
        program = torch.export.export(
            trained.model, (sample,), dynamic_shapes=({0: torch.export.Dim("windows")},)
        )
        torch.export.save(program, buffer)
    write_atomic(path, buffer.getvalue())


def _load_pt2(trained: Trained, path: Path) -> Predict:
    model = torch.export.load(path).module()
    return lambda windows: logits_of(model, windows)


def _onnx_model(trained: Trained) -> Any:
    sample = torch.from_numpy(windows_like(trained, 2))
    with _quiet():
        program = torch.onnx.export(
            trained.model,
            (sample,),
            input_names=["windows"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("windows")},),
            dynamo=True,
            verbose=False,
        )
        if program is None:  # only where torch writes the file itself
            raise SettingsError("--format onnx: expected a program of torch.onnx, found none")
        model = program.model_proto
    for key, text in _metadata(trained).items():
        model.metadata_props.add(key=key, value=text)
    return model


def _load_onnx(trained: Trained, path: Path) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"windows": windows})[0]
        return logits

    return predict


def _write_int8(trained: Trained, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        model = _onnx_model(trained)
        # Shapes of what is in between, which do not fit any more once weights are quantised.
        del model.graph.value_info[:]
        whole.write_bytes(model.SerializeToString())
        quantize_dynamic(
            whole, small, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8
        )
        write_atomic(path, small.read_bytes())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch.export, torch.onnx and onnxruntime from telling of their steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


_ONNX = ("onnx", "onnxscript", "onnxruntime")

FORMATS: dict[str, Format] = {
    "safetensors": Format(
        ".safetensors",
        lambda trained, path: write_tensors(path, trained.arrays, _metadata(trained)),
        lambda trained, path: _of_arrays(trained, read_tensors(path).arrays),
    ),
    "sparse": Format(
        ".sparse.safetensors",
        lambda trained, path: write_sparse(path, trained.arrays, trained.mask, _metadata(trained)),
        lambda trained, path: _of_arrays(trained, read_sparse(path)[0]),
    ),
    "pt2": Format(".pt2", _write_pt2, _load_pt2, 1e-5),
    "onnx": Format(
        ".onnx",
        lambda trained, path: write_atomic(path, _onnx_model(trained).SerializeToString()),
        _load_onnx,
        1e-5,
        _ONNX,
    ),
    "onnx-int8": Format(".int8.onnx", _write_int8, _load_onnx, float("inf"), _ONNX),
}
"""``safetensors`` and ``sparse`` hold arrays; the others hold the network too. ``onnx-int8`` has
the weights of dense layers as int8, and quantises what goes into them while it runs."""
