"""What a run begins with, made of a strategy's arguments: the model's layout, and the runner."""

from collections.abc import Mapping
from dataclasses import fields, replace
from logging import WARNING
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from numpy.typing import NDArray

from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import RESERVED
from caafp_app.registry import AGGREGATIONS
from caafp_app.runner.exchange import Quorum
from caafp_app.runner.options import Options
from caafp_app.runner.runner import Runner

if TYPE_CHECKING:
    from caafp_app.strategies.strategy import MethodStrategy


def layout_of(strategy: "MethodStrategy", arrays: Mapping[str, NDArray[Any]]) -> Layout:
    """Return which of a model's arrays are pruned, by the strategy's arguments."""
    layout = Layout.of(
        arrays,
        strategy.prunable,
        spare_first=strategy.spare_first,
        spare_last=strategy.spare_last,
        spare_below=0 if strategy.cuts_filters else strategy.spare_below,
    )
    of_pairs = [entry.name for entry in layout.other_entries if entry.dtype.startswith("complex")]
    if of_pairs:
        what = (
            "complex numbers are not averaged, they only travel along: %s. What is trained has to "
            "be sent as real and imaginary parts, as by torch.view_as_real"
        )
        log(WARNING, what, ", ".join(of_pairs))
    return layout


def runner_of(
    strategy: "MethodStrategy",
    grid: Grid,
    rounds: int,
    timeout: float,
    configs: tuple[ConfigRecord, ConfigRecord],
) -> Runner:
    """Make the runner of a run of so many rounds, with the configs of training and of evaluation.

    Raises SettingsError if two records of a message would have the same name.
    """
    keys = strategy.arrayrecord_key, strategy.configrecord_key
    if len({*keys, *RESERVED}) < len(keys) + len(RESERVED):
        raise SettingsError(
            "arrayrecord_key, configrecord_key: expected two names that differ, none of "
            f"{', '.join(RESERVED)}, found {keys}"
        )
    shared = {one.name for one in fields(Options) if hasattr(strategy, one.name)}
    options = replace(
        Options(**{name: getattr(strategy, name) for name in shared - {"aggregation"}}),
        train_config=configs[0],
        evaluate_config=configs[1],
        timeout=timeout,
        quorum=Quorum(strategy.min_replies, strategy.grace, strategy.patience),
        aggregation=AGGREGATIONS[strategy.aggregation],
    )
    return Runner(grid, strategy.observer, options, rounds)
