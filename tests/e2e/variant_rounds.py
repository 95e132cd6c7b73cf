"""A ServerApp that times a round of ours and one of Flower's own. See test_devices.py."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from caafp_app.protocol.arrays import to_record
from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RoundRecord
from caafp_app.server_app import initial_arrays
from caafp_app.settings import Settings
from caafp_app.strategies.caafp import CAAFP

NODES = {"min_available_nodes": 3, "min_train_nodes": 3, "min_evaluate_nodes": 3}

server = ServerApp()


class Turns(Observer):
    """Notes a round of ours, and then lets Flower's loop have its turn."""

    def __init__(self, other: Callable[[], dict[str, Any]]) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self._other = other

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Note one, have the other."""
        found = {"seconds": record.seconds, "replies": [record.answered]}
        self.told = {"ours": found | {"accuracy": record.accuracy}, "stock": self._other()}


class Counted(FedAvg):
    """FedAvg that counts the replies of each exchange."""

    def __init__(self) -> None:
        super().__init__(**NODES)
        self.replies: list[int] = []

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Count."""
        return super().aggregate_train(server_round, self._counted(replies))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Count."""
        return super().aggregate_evaluate(server_round, self._counted(replies))

    def _counted(self, replies: Iterable[Message]) -> list[Message]:
        found = list(replies)
        self.replies.append(len(found))
        return found


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Time one round of each."""
    settings = Settings.from_run_config(context.run_config)
    arrays = initial_arrays(settings)

    def stock_round() -> dict[str, Any]:
        strategy = Counted()
        began = time.monotonic()
        result = strategy.start(grid, to_record(arrays), num_rounds=1)
        seconds = time.monotonic() - began
        accuracy = result.evaluate_metrics_clientapp[1]["cluster-accuracy"]
        return {"seconds": seconds, "replies": strategy.replies, "accuracy": accuracy}

    turns = Turns(stock_round)
    strategy = CAAFP(
        **NODES,
        one_exchange=True,
        warmup_rounds=1,
        cluster_rounds=0,
        prune_rounds=0,
        personalise=False,
        observer=turns,
    )
    strategy.start(grid, to_record(arrays), num_rounds=1)
    Path(settings.run.output_dir, "rounds.json").write_text(json.dumps(turns.told), "utf-8")
