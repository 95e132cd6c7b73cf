"""Settings of what is learnt: the network, training on a client, clusters and masks."""

from dataclasses import dataclass

from caafp_app.errors import SettingsError
from caafp_app.settings import names
from caafp_app.settings.knob import Group, knob


@dataclass(frozen=True)
class ModelSettings(Group):
    """Which network is trained."""

    model: str = knob("har-cnn", "the network", choices=names.MODELS)


@dataclass(frozen=True)
class TrainSettings(Group):
    """What a client does with a model that it received."""

    batch_size: int = knob(32, "windows per optimiser step", low=1)
    local_epochs: int = knob(3, "epochs per client and round", low=1)
    cluster_epochs: int = knob(1, "epochs before the updates are compared", low=1)
    finetune_epochs: int = knob(3, "epochs of personal fine-tuning inside the mask", low=0)
    learning_rate: float = knob(0.001, "of Adam", above=0.0)
    learning_rate_end: float = knob(
        1.0, "share of it left in the last round, along a half cosine", above=0.0, high=1.0
    )
    finetune_learning_rate: float = knob(0.001, "of Adam in fine-tuning", above=0.0)
    finetune_dense: bool = knob(False, "fine-tune without the mask: dense personal models")
    proximal: float = knob(0.0, "weight of |w - received|^2 / 2; 0: none", low=0.0)
    dual_weight: float = knob(
        1.0, "fedchar: pull of a client's second model to its cluster's", above=0.0
    )
    torch_threads: int = knob(1, "threads per client process", low=1)
    device: str = knob("cpu", "where clients train", choices=names.DEVICES)


@dataclass(frozen=True)
class ClusterSettings(Group):
    """How clients are grouped by their updates, and what the groups' models share."""

    clusters: int = knob(0, "clusters; 0: 1 to 6 by silhouette", low=0)
    linkage: str = knob("average", "of the agglomerative clustering", choices=names.LINKAGES)
    min_cluster_size: int = knob(1, "smaller clusters join their nearest", low=1)
    min_silhouette: float = knob(
        0.05, "with clusters=0: not above it, one cluster", low=-1.0, high=1.0
    )
    cluster_sharing: float = knob(
        0.0, "caafp: how much of all clusters' mean update each follows", low=0.0, high=1.0
    )
    recluster_every: int = knob(5, "clusterfl: rounds between clusterings", low=1)
    admm_alpha: float = knob(0.001, "clusterfl: weight of |W|^2", low=0.0)
    admm_beta: float = knob(0.0005, "clusterfl: pull inside a cluster", low=0.0)
    admm_rho: float = knob(0.002, "clusterfl: penalty, above 2 admm-beta", above=0.0)

    def __post_init__(self) -> None:
        """Check the values, and that clusterfl's penalty keeps its problem convex in Omega."""
        super().__post_init__()
        if self.admm_rho <= 2 * self.admm_beta:
            raise SettingsError(
                f"admm-rho: expected more than 2 admm-beta ({2 * self.admm_beta:g}), "
                f"found {self.admm_rho:g}"
            )


@dataclass(frozen=True)
class PruneSettings(Group):
    """How many weights go, when, and which."""

    sparsity: float = knob(
        0.7, "share of the prunable weights that is gone at the end", low=0.0, below=1.0
    )
    schedule: str = knob("cubic", "of the sparsity over mask updates", choices=names.SCHEDULES)
    prune_every: int = knob(5, "rounds between mask updates", low=1)
    allocation: str = knob("uniform", "of the sparsity over layers", choices=names.ALLOCATIONS)
    regrow: float = knob(
        0.05, "share of a layer's active weights that is exchanged", low=0.0, below=1.0
    )
    granularity: str = knob(
        "weight", "what goes; whole filters do not grow back", choices=names.GRANULARITIES
    )
    initial_sparsity: float = knob(0.0, "sparse from round 1 when above 0", low=0.0, below=1.0)
    initial_mask: str = knob(
        "magnitude", "what decides the mask of round 1", choices=names.INITIAL_MASKS
    )
    score_magnitude: float = knob(0.5, "weight of |w| in the importance", low=0.0)
    score_coherence: float = knob(0.25, "weight of agreement in value", low=0.0)
    score_consistency: float = knob(0.25, "weight of agreement in sign", low=0.0)
    coherence: str = knob(
        "relative", "variance against the layer's, or as published", choices=names.COHERENCES
    )
    spare_first_layer: bool = knob(False, "never prune the first layer")
    spare_last_layer: bool = knob(False, "never prune the last layer")

    def __post_init__(self) -> None:
        """Check the values and what they demand of each other."""
        super().__post_init__()
        if self.initial_sparsity > self.sparsity:
            raise SettingsError(
                f"initial-sparsity: expected at most sparsity ({self.sparsity:g}), "
                f"found {self.initial_sparsity:g}"
            )
        if self.granularity == "filter" and self.allocation != "uniform":
            raise SettingsError(
                "allocation: whole filters (granularity 'filter') go evenly over layers; expected "
                f"uniform, found {self.allocation!r}"
            )
        if self.score_magnitude + self.score_coherence + self.score_consistency <= 0.0:
            raise SettingsError(
                "score-magnitude, score-coherence and score-consistency: expected at least one "
                "above 0, found none"
            )
