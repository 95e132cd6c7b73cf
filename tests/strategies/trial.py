"""Runs of the numpy app, whose nodes and replies a test can change before they begin."""

from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord
from flwr.clientapp import ClientApp

from caafp_app import CAAFP
from caafp_app.runs.records import RunReport
from tests.local_grid import LocalGrid, Tamper
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, Snapshots, nodes


class Trial:
    """A run of a strategy with somebody else's app, and all that can be seen of it.

    Parameters
    ----------
    tamper, duplicate
        See `LocalGrid`.
    kind : type
        The strategy.
    rounds : int or tuple of int
        In all, or of CA-AFP's three phases.
    configs : int or sequence of mapping
        Of the nodes, or how many there are.
    timeout : float
        Seconds of an exchange.
    app, seen : optional
        Another app than `numpy_app.make_app()`, another recorder.
    **terms
        Arguments of the strategy.
    """

    def __init__(
        self,
        tamper: Tamper | None = None,
        *,
        kind: type[Any] = CAAFP,
        rounds: int | tuple[int, int, int] = (1, 1, 3),
        configs: int | Sequence[Mapping[str, Any]] = 5,
        timeout: float = 5.0,
        duplicate: bool = False,
        app: ClientApp | None = None,
        seen: Recorder | None = None,
        **terms: Any,
    ) -> None:
        self.seen, self.kept = seen or Recorder(), Snapshots()
        usual: dict[str, Any] = {"fraction_evaluate": 0.0, "personalise": False, "spare_below": 0}
        if isinstance(rounds, tuple):
            phases = ("warmup_rounds", "cluster_rounds", "prune_rounds")
            usual |= dict(zip(phases, rounds, strict=True))
        usual |= {"observer": self.seen, "checkpoints": self.kept}
        self.strategy = kind(**{**usual, **terms})
        self.grid = LocalGrid(
            app or numpy_app.make_app(),
            nodes(configs) if isinstance(configs, int) else list(configs),
            serialise=False,
            tamper=tamper,
            duplicate=duplicate,
        )
        self.rounds = sum(rounds) if isinstance(rounds, tuple) else rounds
        self.timeout = timeout

    def start(self, initial: ArrayRecord | None = None, **how: Any) -> "Trial":
        first = initial or numpy_app.initial()
        how = {"timeout": self.timeout, **how}
        self.result = self.strategy.start(self.grid, first, self.rounds, **how)
        return self

    @property
    def report(self) -> RunReport:
        return self.result.report

    def nodes_of(self, part: int) -> list[int]:
        """Nodes of a client, a restarted one among them."""
        return [n for n, c in self.grid.contexts.items() if c.node_config["partition-id"] == part]

    def asked(self, label: str) -> list[int]:
        """Rounds in which a label was asked to train."""
        asked = self.nodes_of(int(label[-4:]))
        return [
            int(p.header["round"])
            for p in self.grid.passages
            if p.direction == "down" and p.node in asked and p.header["action"] == "train"
        ]

    def worked(self) -> set[int]:
        """Nodes that were asked for more than who they are."""
        return {
            message.metadata.dst_node_id
            for message in self.grid.requests
            if message.content.config_records["caafp"]["action"] != "describe"
        }

    def active(self) -> list[list[int]]:
        """Active weights of each layer, by cluster."""
        return [
            [int(mask.sum()) for mask in cluster.mask.values()]
            for cluster in self.result.clusters.values()
        ]
