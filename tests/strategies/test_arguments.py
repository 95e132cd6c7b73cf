"""An argument of another kind is refused where it is given, and numpy's numbers are taken."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from caafp_app.errors import SettingsError
from caafp_app.protocol.prunable import prunable_names
from caafp_app.strategies import CAAFP, Clustering, FedSNIP, Pruning
from tests.foreign.apps import App, arrays_of, grid_of, record_of


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: CAAFP(seed=-1), "seed: expected a whole number of at least 0, found -1"),
        (lambda: CAAFP(seed=1.5), "seed: expected a whole number of at least 0, found 1.5"),
        (lambda: FedSNIP(grace=math.nan), "grace: expected a number of at least 0, found nan"),
        (lambda: CAAFP(fraction_train=-0.5), "fraction_train: expected a number of at least 0"),
        (lambda: CAAFP(fraction_train="1"), "fraction_train: expected a number, found '1'"),
        (lambda: CAAFP(clients_per_round=2.5), "expected a whole number or None"),
        (lambda: CAAFP(rest_after=True), "rest_after: expected a whole number, found True"),
        (lambda: CAAFP(personalise="no"), "personalise: expected true or false or None"),
        (lambda: CAAFP(aggregation=np.median), "aggregation: expected a string, found <function"),
        (lambda: CAAFP(pruning={"sparsity": 0.5}), "pruning: expected a Pruning, found {'spar"),
        (lambda: CAAFP(clustering=3), "clustering: expected a Clustering, found 3"),
        (lambda: CAAFP(wire="int8"), "wire: expected a WireFormat, found 'int8'"),
        (lambda: Clustering(clusters=2.5), "clusters: expected a whole number or a string"),
        (lambda: Clustering(min_cluster_size=0), "min_cluster_size: expected at least 1, found 0"),
        (lambda: Pruning(every=1.5), "every: expected a whole number, found 1.5"),
        (lambda: Pruning(sparsity=math.nan), "sparsity: expected a number or a string, found nan"),
        (lambda: prunable_names(arrays_of(), 5), "names, globs, or a function .* found 5"),
    ],
)
def test_what_is_none_is_told_when_it_is_given(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        make()


def test_numbers_of_numpy_are_numbers() -> None:
    pruning = Pruning(sparsity=np.float32(0.5), every=np.int64(1))  # type: ignore[arg-type]
    strategy = CAAFP(seed=np.int64(7), pruning=pruning)  # type: ignore[arg-type]
    assert (type(strategy.seed), type(pruning.every)) == (int, int)


def test_an_argument_of_ones_own_may_be_anything() -> None:
    @dataclass(eq=False, kw_only=True)
    class Own(CAAFP):
        table: Any = None
        share: float = 0.5

    assert Own(table=[1], share=-1.0).table == [1]


@pytest.mark.parametrize("rounds", [1.5, "3"])
def test_rounds_are_a_whole_number(rounds: Any) -> None:
    with pytest.raises(SettingsError, match="num_rounds: expected a whole number of at least 1"):
        CAAFP().start(grid_of(App().make()), record_of(arrays_of()), num_rounds=rounds)
