"""FedCHAR: clusters of clients, and on each client a model of its own beside its cluster's.

Li, Wang, An: "Hierarchical Clustering-based Personalized Federated Learning for Robust
and Fair Human Activity Recognition", Proc. ACM IMWUT 7(1):20, 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from caafp_app.errors import SettingsError
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import DUAL_WEIGHT
from caafp_app.pruning.schedule import Phase, RoundPlan, even_plan
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.strategies.clustered import ClusteredMethod
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy


@dataclass(eq=False, kw_only=True)
class FedCHAR(MethodStrategy):
    """FedAvg, one exchange that groups the clients, then two models on each client.

    In a round inside the clusters a client trains a copy of its cluster's model w by cross-entropy
    and returns its change; and it trains v, which never leaves it, by ``CE(v) + lambda / 2 |v -
    w|^2`` for as many epochs. The first v, or one lost with a simulated client's memory, is w.

    Scores: the *cluster* model is w, the *personal* one v after ``finetune-epochs`` more near the
    last w. Needs a ClientApp that keeps v and follows `protocol.objective.DUAL_WEIGHT` in its
    config; ours does.

    Parameters
    ----------
    warmup_rounds : int, optional
        Rounds of FedAvg; by default 30 % of all.
    dual_weight : float
        lambda, above 0.
    clustering : Clustering
        The paper recommends complete linkage. The other parameters: see `MethodStrategy`.
    """

    warmup_rounds: int | None = None
    dual_weight: float = 1.0
    clustering: Clustering = field(default_factory=lambda: Clustering(linkage="complete"))

    needs_own_app: ClassVar[str] = DUAL_WEIGHT

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Divide the rounds among the warm-up and the clusters."""
        warmup = int(0.3 * num_rounds + 0.5) if self.warmup_rounds is None else self.warmup_rounds
        if not 0 <= warmup < num_rounds:
            raise SettingsError(
                f"warm-up rounds: expected fewer than all {num_rounds}, found {warmup}: fedchar "
                "needs rounds inside the clusters"
            )
        within = even_plan(num_rounds - warmup, phase=Phase.CLUSTER_WARM_UP, first=warmup + 1)
        return (*even_plan(warmup, phase=Phase.WARM_UP), *within)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Group the clients, and ask each for two models."""
        return _FedCHAR(self, model)


class _FedCHAR(ClusteredMethod):
    def __init__(self, args: FedCHAR, model: SparseModel) -> None:
        super().__init__(model, args.clustering, args.seed)
        self.dual_weight = args.dual_weight

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "dual models": f"lambda {self.dual_weight:g}"}

    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        """Ask for the second model inside clusters, and when all is personalised."""
        dual = {DUAL_WEIGHT: self.dual_weight}
        trains = action in (Action.TRAIN, Action.PERSONALISE)
        return [
            replace(query, config=dual) if trains and query.group >= 0 else query
            for query in super().ask(action, step, clients)
        ]
