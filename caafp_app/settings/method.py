"""Settings of what is learnt: the network, training on a client, clusters and masks."""

from dataclasses import dataclass

from caafp_app import registry
from caafp_app.errors import SettingsError
from caafp_app.pruning.levels import parse_levels
from caafp_app.pruning.score_text import DEFAULT_SCORE, parse_score, rivals_of
from caafp_app.pruning.tuning import SPARSITY_RULES, final_sparsity
from caafp_app.settings.knob import Group, knob

AUTO = "auto"
"""In place of a number: to be found from the data."""


@dataclass(frozen=True)
class ModelSettings(Group):
    """Which network is trained."""

    model: str = knob("har-cnn", "the network", choices=registry.NETWORKS)


@dataclass(frozen=True)
class TrainSettings(Group):
    """What a client does with a model that it received."""

    batch_size: int = knob(32, "windows per optimiser step", low=1)
    local_epochs: int = knob(3, "epochs per client and round", low=1)
    personal: str = knob(
        "finetune",
        "dual: fine-tune a second model, trained near the cluster's in each of its rounds",
        choices=("finetune", "dual"),
    )
    finetune_epochs: int | str = knob(
        3,
        "epochs of personal fine-tuning inside the mask; auto: by windows each client holds out",
        low=0,
        words=(AUTO,),
    )
    optimizer: str = knob("adam", "of the local training", choices=registry.OPTIMISERS)
    learning_rate: float = knob(0.001, "of the optimizer", above=0.0)
    learning_rate_end: float = knob(
        1.0, "share of it left in the last round, along a half cosine", above=0.0, high=1.0
    )
    finetune_learning_rate: float = knob(0.001, "of the optimizer in fine-tuning", above=0.0)
    finetune_dense: bool = knob(False, "fine-tune without the mask: dense personal models")
    proximal: float = knob(0.0, "weight of |w - received|^2 / 2; 0: none", low=0.0)
    device: str = knob("cpu", "where clients train", choices=("cpu", "cuda", "mps"))


@dataclass(frozen=True)
class ClusterSettings(Group):
    """How clients are grouped by their updates."""

    clusters: int | str = knob(
        0,
        "0: 1 to 6 by silhouette; auto: one unless the warm-up shows more",
        low=0,
        words=(AUTO,),
    )

    @property
    def fixed(self) -> int:
        """The number of clusters asked for; 0 where it is to be found."""
        return self.clusters if isinstance(self.clusters, int) else 0


@dataclass(frozen=True)
class PruneSettings(Group):
    """How many weights go, when, and which."""

    sparsity: float | str = knob(
        0.7,
        "share of the prunable weights gone at the end; auto: what each cluster bears",
        low=0.0,
        below=1.0,
        words=SPARSITY_RULES,
    )
    tolerance: float = knob(
        0.5, "sparsity auto: points of held-out accuracy that it may cost", low=0.0, high=100.0
    )
    schedule: str = knob("cubic", "of the sparsity over mask updates", choices=registry.SCHEDULES)
    prune_every: int = knob(5, "rounds between mask updates", low=1)
    allocation: str = knob("uniform", "of the sparsity over layers", choices=registry.ALLOCATIONS)
    regrow: float = knob(
        0.05, "share of a layer's active weights that is exchanged", low=0.0, below=1.0
    )
    granularity: str = knob(
        "weight", "what goes; whole filters do not grow back", choices=("weight", "filter")
    )
    initial_sparsity: float = knob(0.0, "sparse from round 1 when above 0", low=0.0, below=1.0)
    initial_mask: str = knob(
        "magnitude", "what decides the mask of round 1", choices=("magnitude", "random", "snip")
    )
    score: str = knob(
        DEFAULT_SCORE,
        "what makes a weight important: a weighted sum of scores, or one name; auto: whichever "
        "loses clients the least",
    )
    levels: str = knob(
        "1", 'shares of the network that devices of different strength train, as "1,0.5,0.25"'
    )
    spare_layers: str = knob(
        "none", "layers that are never pruned", choices=("none", "first", "last", "both")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial_sparsity > self.final:
            raise SettingsError(
                f"initial-sparsity: expected at most sparsity ({self.final:g}), "
                f"found {self.initial_sparsity:g}"
            )
        if self.sparsity == "entropy" and self.initial_sparsity:
            raise SettingsError(
                "initial-sparsity: the rule of sparsity 'entropy' starts dense; expected 0, found "
                f"{self.initial_sparsity:g}"
            )
        if self.granularity == "filter" and self.allocation != "uniform":
            raise SettingsError(
                "allocation: whole filters (granularity 'filter') go evenly over layers; expected "
                f"uniform, found {self.allocation!r}"
            )
        for score in rivals_of(self.score):
            parse_score(score)
        parse_levels(self.levels)

    @property
    def level_shares(self) -> tuple[float, ...]:
        """The shares in ``levels``."""
        return parse_levels(self.levels)

    @property
    def final(self) -> float:
        """The sparsity at the end, or the largest that it can be."""
        return final_sparsity(self.sparsity)

    @property
    def spares_first(self) -> bool:
        """Whether the first layer is never pruned."""
        return self.spare_layers in ("first", "both")

    @property
    def spares_last(self) -> bool:
        """Whether the last layer is never pruned."""
        return self.spare_layers in ("last", "both")
