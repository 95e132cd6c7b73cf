"""FedSNIP: one mask for the whole run, cut before the first round by what all clients say.

Bustincio et al., Annals of Telecommunications 80 (2025); SNIP: Lee et al., ICLR 2019.
"""

from collections.abc import Sequence
from typing import Any

from caafp_app.protocol.mask import Mask
from caafp_app.pruning.allocation import layer_counts
from caafp_app.pruning.schedule import RoundPlan, even_plan
from caafp_app.pruning.select import magnitude_mask
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.saliency import ask_saliency


class FedSNIP(PhasedStrategy):
    """Sparse FedAvg inside a mask that never changes.

    Every client sends ``|g w|`` of one batch at the initial weights; the sum over clients, each
    counted alike, is cut once over the whole model. Works with any ClientApp that has
    `sparse_mod`; of an app that reports no gradient the drift of one training stands in.

    Parameters
    ----------
    *args, **kwargs
        FedAvg's own, and those of `PhasedStrategy`.
    sparsity : float
        Share of the prunable weights that is gone, in [0, 1).
    """

    def __init__(self, *args: Any, sparsity: float = 0.7, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sparsity = sparsity

    def make_plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Make all rounds alike, and sparse."""
        return even_plan(num_rounds, sparsity=self.sparsity)

    def facts(self) -> dict[str, object]:
        """Say how sparse the model is."""
        return {"pruning": f"to sparsity {self.sparsity:g} before round 1, by SNIP"}

    def prepare(self) -> None:
        """Ask all clients, and cut; no layer is emptied."""
        dense, clients = self.models[-1], self.roster.reachable()
        layout = dense.layout
        saliency = ask_saliency(self.session, clients, dense, self.train_config, uniform=True)
        sizes = [entry.size for entry in layout.weight_entries]
        scores = [saliency[segment] for segment in layout.segments]
        counts = layer_counts(sizes, 1 - self.sparsity, "global", scores=scores)
        bits = magnitude_mask(saliency, counts, layout.segments)
        self.models = {-1: ClusterModel(dense.model, Mask(layout, bits))}
