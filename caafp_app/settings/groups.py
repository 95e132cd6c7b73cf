"""The settings, a frozen dataclass per group.

A field's name is the key of ``[tool.flwr.app.config]`` with ``_`` for ``-``; keys are unique over
all groups. Each group checks its own values when it is built; what concerns two groups is checked
by :class:`caafp_app.settings.Settings`.
"""

import re
from dataclasses import dataclass

from caafp_app.errors import SettingsError
from caafp_app.settings import names
from caafp_app.settings.knob import check_group, knob

# One plain name, so that a run cannot leave the folder of the runs.
_FOLDER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+=@,-]{0,118}[A-Za-z0-9_+=@-])?")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


@dataclass(frozen=True)
class RunSettings:
    """What is run, from which seed, and where its results go."""

    strategy: str = knob("caafp", "the method", choices=names.STRATEGIES)
    seed: int = knob(42, "weights, sampling, local shuffling; fixes a run", low=0)
    output_dir: str = knob("", "results go to runs/ below it; empty: $CAAFP_HOME or ~/.caafp")
    run_name: str = knob("", "folder of the run; empty: <time>-<strategy>-<dataset>-<seed>")
    tensorboard: bool = knob(False, "write scalars for TensorBoard into the folder of the run")
    checkpoint_every: int = knob(1, "rounds between checkpoints; 0: none", low=0)
    keep_checkpoints: int = knob(2, "last checkpoints that are kept until the run ends", low=1)
    resume_from: str = knob("", "run to go on with: its folder, name, or latest; empty: none")

    def __post_init__(self) -> None:
        """Check the values, and that a run name cannot leave the folder of the runs."""
        check_group(self)
        if self.run_name and (not _FOLDER.fullmatch(self.run_name) or self.run_name == "latest"):
            raise SettingsError(
                "run-name: expected a folder's name (letters, digits and . _ - + = @ , inside, at "
                f"most 120) other than 'latest', found {self.run_name!r}"
            )


@dataclass(frozen=True)
class DataSettings:
    """Which data, how it is divided among the clients, and what of it is held out."""

    dataset: str = knob("synthetic", "where the windows come from", choices=names.DATASETS)
    data_dir: str = knob("", "folder or file of the data set; empty: its cache")
    partition: str = knob(
        "natural", "natural: a user is a client; or a split by labels", choices=names.PARTITIONS
    )
    partition_alpha: float = knob(0.5, "dirichlet: concentration, small is uneven", above=0.0)
    shards_per_client: int = knob(2, "shards: label shards that each client gets", low=1)
    num_clients: int = knob(0, "not natural: clients to make; 0: as many as SuperNodes", low=0)
    train_fraction: float = knob(
        0.8, "first part in time, per client and class, to train on", above=0.0, below=1.0
    )
    validation_fraction: float = knob(
        0.0, "last part of the train data, scored instead of test", low=0.0, below=1.0
    )
    window_gap: int = knob(0, "windows dropped at each train/test border", low=0)
    standardise: str = knob("auto", "auto: as the data set's paper does", choices=names.STANDARDISE)
    input_shape: str = knob("", 'folder: window shape that the server builds for, as "128,9"')
    num_classes: int = knob(0, "folder: classes that the server builds for", low=0)
    class_names: str = knob("", 'folder: their names in order, as "walk,sit", for num-classes')
    channels: str = knob("", 'folder: channels that devices have to name, as "acc_x,acc_y"')
    sampling_rate: float = knob(0.0, "folder: Hz that devices have to have; 0: not asked", low=0.0)
    synthetic_users: int = knob(12, "synthetic: users", low=1)
    synthetic_groups: int = knob(3, "synthetic: latent groups of users", low=1)
    synthetic_windows: int = knob(120, "synthetic: windows per user", low=1)
    data_seed: int = knob(0, "synthetic data and partitions, apart from seed", low=0)

    def __post_init__(self) -> None:
        """Check the values and what the data settings demand of each other."""
        check_group(self)
        if self.input_shape and self.shape is None:
            raise SettingsError(
                'input-shape: expected positive whole numbers as "128,9" (time, channels), '
                f"found {self.input_shape!r}"
            )
        self._check_names()
        told = self.shape is not None and (self.num_classes or self.class_names)
        if self.dataset == "folder" and not told:
            raise SettingsError(
                "dataset 'folder' leaves the windows on the devices, so the server has to be told "
                'their form: expected input-shape="time,channels" and num-classes or class-names, '
                f"found input-shape={self.input_shape!r} and num-classes={self.num_classes}"
            )
        if self.dataset == "folder" and self.partition != "natural":
            raise SettingsError(
                "partition: dataset 'folder' is one client's own data and cannot be divided; "
                f"expected natural, found {self.partition!r}"
            )
        if self.dataset == "npz" and not self.data_dir:
            raise SettingsError(
                "data-dir: dataset 'npz' needs the path of the .npz file with X, y and user, "
                "found nothing"
            )
        if self.partition == "natural" and self.num_clients:
            raise SettingsError(
                "num-clients: a natural partition has one client per user; expected 0, found "
                f"{self.num_clients}; set partition to dirichlet, shards or iid, or leave it out"
            )
        if self.synthetic_groups > self.synthetic_users:
            raise SettingsError(
                f"synthetic-groups: expected at most synthetic-users ({self.synthetic_users}), "
                f"found {self.synthetic_groups}"
            )

    def _check_names(self) -> None:
        for key, found in (
            ("class-names", self.names_of_classes),
            ("channels", self.names_of_channels),
        ):
            if len(set(found)) != len(found) or not all(found):
                raise SettingsError(
                    f"{key}: expected different names with commas between, found {', '.join(found)}"
                )
        if self.class_names and self.num_classes not in (0, len(self.names_of_classes)):
            raise SettingsError(
                f"num-classes: expected the {len(self.names_of_classes)} of class-names, or 0, "
                f"found {self.num_classes}"
            )
        if self.channels and self.shape and self.shape[-1] != len(self.names_of_channels):
            raise SettingsError(
                f"channels: expected the {self.shape[-1]} of input-shape, "
                f"found {len(self.names_of_channels)}"
            )

    @property
    def names_of_classes(self) -> tuple[str, ...]:
        """``class-names`` apart; empty where there are none."""
        return _names(self.class_names)

    @property
    def names_of_channels(self) -> tuple[str, ...]:
        """``channels`` apart; empty where there are none."""
        return _names(self.channels)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """``input-shape`` as numbers; None where it is empty (or not a shape)."""
        if not re.fullmatch(r"\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*", self.input_shape):
            return None
        return tuple(int(part) for part in self.input_shape.split(","))

    @property
    def known_clients(self) -> int | None:
        """How many clients there will be, where the settings alone say it."""
        if self.partition != "natural":
            return self.num_clients or None
        return self.synthetic_users if self.dataset == "synthetic" else None


@dataclass(frozen=True)
class ModelSettings:
    """Which network is trained."""

    model: str = knob("har-cnn", "the network", choices=names.MODELS)

    def __post_init__(self) -> None:
        """Check the values."""
        check_group(self)


@dataclass(frozen=True)
class TrainSettings:
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
    proximal: float = knob(0.0, "weight of |w - received|^2 / 2; 0: none", low=0.0)
    dual_weight: float = knob(
        1.0, "fedchar: pull of a client's second model to its cluster's", above=0.0
    )
    torch_threads: int = knob(1, "threads per client process", low=1)
    device: str = knob("cpu", "where clients train", choices=names.DEVICES)

    def __post_init__(self) -> None:
        """Check the values."""
        check_group(self)


@dataclass(frozen=True)
class RoundSettings:
    """How many rounds each phase has, and who takes part in one."""

    warmup_rounds: int = knob(15, "rounds of one dense model, before clustering", low=0)
    cluster_rounds: int = knob(15, "dense rounds inside the clusters", low=0)
    prune_rounds: int = knob(20, "rounds in which the masks evolve", low=0)
    clients_per_round: int = knob(10, "clients sampled for a round", low=1)
    cluster_floor: int = knob(0, "at least so many of each cluster in a round", low=0)
    evaluate_every: int = knob(0, "rounds between evaluations of all clients; 0: none", low=0)
    min_available_nodes: int = knob(1, "SuperNodes to wait for", low=1)
    round_timeout: float = knob(600.0, "seconds to wait for a reply", above=0.0)
    weighting: str = knob("examples", "weights of the mean", choices=names.WEIGHTINGS)
    average_last: int = knob(0, "rounds whose models are averaged at the end; 0: none", low=0)
    min_replies: int = knob(0, "replies that a round needs to move the models; 0: any", low=0)
    grace: float = knob(0.0, "seconds that min-replies are waited for beyond the timeout", low=0.0)
    rest_after: int = knob(3, "failures in a row before a client rests; 0: never", low=0)
    aggregation: str = knob("mean", "of the updates in a cluster", choices=names.AGGREGATIONS)
    max_update_norm: float = knob(
        0.0, "longest update taken; 0: 10 times the median of the cluster's last rounds", low=0.0
    )
    max_weight: float = knob(
        10.0, "a client weighs at most so many times the median one; 0: no bound", low=0.0
    )

    def __post_init__(self) -> None:
        """Check the values, and that there is a round at all."""
        check_group(self)
        if self.total == 0:
            raise SettingsError(
                "warmup-rounds + cluster-rounds + prune-rounds: expected at least 1, found 0"
            )
        if self.min_replies > self.clients_per_round:
            raise SettingsError(
                f"min-replies: expected at most clients-per-round ({self.clients_per_round}), "
                f"found {self.min_replies}"
            )

    @property
    def total(self) -> int:
        """Rounds of training in the whole run."""
        return self.warmup_rounds + self.cluster_rounds + self.prune_rounds


@dataclass(frozen=True)
class ClusterSettings:
    """How clients are grouped by their updates, and what the groups' models share."""

    clusters: int = knob(0, "clusters; 0: 2 to 6 by silhouette", low=0)
    linkage: str = knob("average", "of the agglomerative clustering", choices=names.LINKAGES)
    min_cluster_size: int = knob(1, "smaller clusters join their nearest", low=1)
    recluster_every: int = knob(5, "clusterfl: rounds between clusterings", low=1)
    admm_alpha: float = knob(0.001, "clusterfl: weight of |W|^2", low=0.0)
    admm_beta: float = knob(0.0005, "clusterfl: pull inside a cluster", low=0.0)
    admm_rho: float = knob(0.002, "clusterfl: penalty, above 2 admm-beta", above=0.0)

    def __post_init__(self) -> None:
        """Check the values, and that clusterfl's penalty keeps its problem convex in Omega."""
        check_group(self)
        if self.admm_rho <= 2 * self.admm_beta:
            raise SettingsError(
                f"admm-rho: expected more than 2 admm-beta ({2 * self.admm_beta:g}), "
                f"found {self.admm_rho:g}"
            )


@dataclass(frozen=True)
class PruneSettings:
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
        check_group(self)
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


@dataclass(frozen=True)
class WireSettings:
    """In which number format the arrays travel."""

    down_dtype: str = knob("float32", "weights to the clients", choices=names.CODECS)
    up_dtype: str = knob("float32", "updates from the clients", choices=names.CODECS)
    rest_dtype: str = knob("float32", "biases and norms, both ways", choices=names.REST_CODECS)

    def __post_init__(self) -> None:
        """Check the values."""
        check_group(self)
