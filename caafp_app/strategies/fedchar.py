"""FedCHAR: clusters of clients, and on each client a model of its own beside its cluster's.

Li, Wang, An: "Hierarchical Clustering-based Personalized Federated Learning for Robust
and Fair Human Activity Recognition", Proc. ACM IMWUT 7(1):20, 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from caafp_app.errors import SettingsError
from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import DUAL_WEIGHT
from caafp_app.pruning.schedule import Phase, RoundPlan, even_plan
from caafp_app.strategies.clustered import ClusteredStrategy
from caafp_app.strategies.roster import Client, Roster
from caafp_app.strategies.rules import Clustering, check_own_app


class FedCHAR(ClusteredStrategy):
    """FedAvg, one exchange that groups the clients, then two models on each client.

    In a round inside the clusters a client that is sent its cluster's model w trains a copy of it
    by cross-entropy and returns its change; and it trains v, which never leaves it, by
    ``CE(v) + lambda / 2 |v - w|^2``, by the same number of epochs. The first v, or one that is
    lost with a SuperNode, is w.

    Scores: the *cluster* model is w, the *personal* one v, after the personalise phase has trained
    it for ``finetune-epochs`` more near the last w. With 0 of them it is v as the rounds left it.

    Needs a ClientApp that keeps v and follows `protocol.objective.DUAL_WEIGHT` in its config; ours
    does.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `ClusteredStrategy`; complete linkage unless told otherwise.
    warmup_rounds : int, optional
        Rounds of FedAvg; by default 30 % of all.
    dual_weight : float
        lambda, above 0.
    """

    def __init__(
        self,
        *args: Any,
        warmup_rounds: int | None = None,
        dual_weight: float = 1.0,
        clustering: Clustering | None = None,
        **kwargs: Any,
    ) -> None:
        clustering = clustering or Clustering(linkage="complete")
        super().__init__(*args, clustering=clustering, **kwargs)
        self.warmup_rounds = warmup_rounds
        self.dual_weight = dual_weight

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Divide the rounds among the warm-up and the clusters."""
        warmup = int(0.3 * num_rounds + 0.5) if self.warmup_rounds is None else self.warmup_rounds
        if not 0 <= warmup < num_rounds:
            raise SettingsError(
                f"warm-up rounds: expected fewer than all {num_rounds}, found {warmup}: fedchar "
                "needs rounds inside the clusters"
            )
        within = even_plan(num_rounds - warmup, phase=Phase.CLUSTER_WARM_UP, first=warmup + 1)
        return (*even_plan(warmup, phase=Phase.WARM_UP), *within)

    def check(self, roster: Roster) -> None:
        """Refuse an app that knows nothing of a second model."""
        super().check(roster)
        check_own_app(self, DUAL_WEIGHT)

    def facts(self) -> dict[str, object]:
        """Say how many clusters there will be, and lambda."""
        return {**super().facts(), "dual models": f"lambda {self.dual_weight:g}"}

    def instructions(self, client: Client, action: Action) -> Mapping[str, float]:
        """Ask for the second model inside of clusters, and when all is personalised."""
        # Who is being placed is in cluster 0 only for want of its own.
        placing = self.session.tally.phase == Phase.CLUSTER
        inside = client.cluster >= 0 and not placing
        dual = inside and action in (Action.TRAIN, Action.PERSONALISE)
        return {DUAL_WEIGHT: self.dual_weight} if dual else {}
