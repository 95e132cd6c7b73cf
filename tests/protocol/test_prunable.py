from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.prunable import prunable_names

MODEL: dict[str, NDArray[Any]] = {
    "embedding": np.zeros((5, 3), np.float16),
    "conv1.weight": np.zeros((4, 3, 2), np.float32),
    "conv1.bias": np.zeros(4, np.float32),
    "counter": np.zeros((2, 2), np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "scale": np.zeros((), np.float32),
    "conv2.weight": np.zeros((4, 4), np.float64),
}


def test_default_is_every_floating_array_of_two_or_more_axes() -> None:
    assert prunable_names(MODEL) == {"embedding", "conv1.weight", "conv2.weight"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (["conv1.bias"], {"conv1.bias"}),
        (["conv*.weight"], {"conv1.weight", "conv2.weight"}),
        ("conv*", {"conv1.weight", "conv1.bias", "conv2.weight"}),
        (("scale", "emb*"), {"scale", "embedding"}),
        ("*", {"embedding", "conv1.weight", "conv1.bias", "scale", "conv2.weight"}),
        ([], set()),
        (
            lambda name, shape: name.startswith("conv") and len(shape) != 2,
            {"conv1.weight", "conv1.bias"},
        ),
    ],
)
def test_names_globs_and_functions(rule: object, expected: set[str]) -> None:
    assert prunable_names(MODEL, rule) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (True, False, {"conv1.weight", "conv2.weight"}),
        (False, True, {"embedding", "conv1.weight"}),
        (True, True, {"conv1.weight"}),
    ],
)
def test_first_and_last_can_be_spared(first: bool, last: bool, expected: set[str]) -> None:
    assert prunable_names(MODEL, spare_first=first, spare_last=last) == expected


@pytest.mark.parametrize("pattern", ["conv3*", "counter", "empty"])
def test_a_name_that_matches_no_floating_array_is_refused(pattern: str) -> None:
    with pytest.raises(SettingsError, match=r"matches none .* conv1\.weight"):
        prunable_names(MODEL, ["conv1*", pattern])
