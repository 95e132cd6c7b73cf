"""What a run begins with, made of a strategy's arguments: the model's layout, and the runner."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord
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
    return Layout.of(
        arrays,
        strategy.prunable,
        spare_first=strategy.spare_first,
        spare_last=strategy.spare_last,
        spare_below=0 if strategy.cuts_filters else strategy.spare_below,
    )


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
    options = Options(
        seed=strategy.seed,
        wire=strategy.wire,
        weighted_by_key=strategy.weighted_by_key,
        arrayrecord_key=strategy.arrayrecord_key,
        configrecord_key=strategy.configrecord_key,
        train_config=configs[0],
        evaluate_config=configs[1],
        uniform=strategy.uniform,
        one_exchange=strategy.one_exchange,
        timeout=timeout,
        quorum=Quorum(strategy.min_replies, strategy.grace, strategy.patience),
        rest_after=strategy.rest_after,
        robust=strategy.robust,
        known_devices=strategy.known_devices,
        aggregation=AGGREGATIONS[strategy.aggregation],
        class_names=strategy.class_names,
        stop=strategy.stop,
    )
    return Runner(grid, strategy.observer, options, rounds)
