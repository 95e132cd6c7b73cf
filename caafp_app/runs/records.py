"""What is known of a round, a client, a cluster and a run once it has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.runs.classes import ClassCounts
from caafp_app.runs.ledger import Ledger

MOST_EXAMPLES = 10**9
"""No client has more; a larger count is a lie."""

MOST_LOSS = 1e6
"""No loss is larger in size; beyond it a client has made it up, or its training has diverged."""

BETWEEN_ROUNDS = (
    *("describe", "saliency", "cluster", "election"),
    *("evaluate", "personalise", "unseen"),
)
"""Phases of records that are no rounds of training, whatever their number."""

_SHARES = (
    *("accuracy", "cluster_accuracy", "personal_accuracy", "personal_sparsity"),
    *("cluster_f1", "personal_f1"),
)
_LOSSES = ("loss", "cluster_loss", "personal_loss")
_COUNTS = ("examples", "test_examples")


@dataclass(frozen=True, kw_only=True)
class GroupChange:
    """Clients that have another cluster from the beginning of a round on.

    `what` is ``move``, ``split`` or ``merge``; `why` are the figures behind it, in words.
    """

    what: str
    clients: tuple[str, ...]
    before: int
    after: int
    why: str


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One exchange with the clients: one line of ``rounds.jsonl``.

    Clients are named by their labels, and what belongs to a cluster is by its number.

    Attributes
    ----------
    seconds
        Wall time from the first message sent to the model updated.
    asked
        Clients that got a message.
    answered, refused, missing
        Whose answer entered the model; was refused; did not come in time.
    accuracy, loss
        Of the *received* cluster model on the held-out data of each client that answered, mean
        over those; None if none reported it.
    density, layer_density
        Share of active weights among the prunable ones; of each array in the first round, and where
        `mask_updated`.
    bytes_down, bytes_up, bytes_by_kind
        From the messages of this round, refused ones as well; see `Traffic`.
    reasons, refusals
        Why answers were refused: how often, and of whom.
    clipped, opposed
        Whose vector was much longer than most and scaled down, or pointed against most others' and
        was left out.
    used
        Whether as many answered as the exchange needs (``min-replies``); else the models stayed.
    watched, elected
        The figure that ``sparsity=auto`` goes by, a mean over the clients that answered; and what
        clients said of the scores of ``score=auto``, of which the least wins.
    changes
        Clients that changed their cluster before the round.
    server_memory_mb, server_memory_peak_mb
        Resident memory of the server at the end of the round, and its peak so far.
    """

    round: int
    phase: str
    seconds: float
    asked: int
    answered: int
    refused: int = 0
    missing: tuple[str, ...] = ()
    accuracy: float | None = None
    loss: float | None = None
    density: Mapping[int, float] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    bytes_by_kind: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    clipped: tuple[str, ...] = ()
    opposed: tuple[str, ...] = ()
    used: bool = True
    mask_updated: bool = False
    layer_density: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    watched: Mapping[int, float] = field(default_factory=dict)
    elected: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    changes: tuple[GroupChange, ...] = ()
    server_memory_mb: float | None = None
    server_memory_peak_mb: float | None = None

    def __post_init__(self) -> None:
        _take_possible(self)


@dataclass(frozen=True, kw_only=True)
class ClientRecord:
    """One client at the end of a run: one row of ``clients.csv``.

    The cluster is -1 if it has none. ``cluster_...`` are figures of its cluster's model on its
    `test_examples` held-out examples, ``personal_...`` of its fine-tuned one; macro-F1 is over the
    classes that occur or are predicted there, the sparsity the share of inactive weights among the
    prunable ones. `finetune_epochs` are those that it has found best (0: its cluster's model is its
    personal one; None: the settings say how many).
    """

    label: str
    cluster: int
    examples: int
    test_examples: int = 0
    cluster_accuracy: float | None = None
    cluster_loss: float | None = None
    personal_accuracy: float | None = None
    personal_loss: float | None = None
    personal_sparsity: float | None = None
    cluster_f1: float | None = None
    personal_f1: float | None = None
    finetune_epochs: float | None = None

    def __post_init__(self) -> None:
        _take_possible(self)


@dataclass(frozen=True, kw_only=True)
class UnseenRecord:
    """A user that was kept out of training, scored on its held-out data.

    `accuracies` are of each cluster's model (-1: of the general one), `chosen` is the model that
    each rule gives the user, `rule` the rule in use.
    """

    label: str
    accuracies: Mapping[int, float]
    chosen: Mapping[str, int]
    rule: str

    def given(self, rule: str) -> float:
        """Return the accuracy of the model that a rule gives; ``oracle`` knows the best."""
        if rule == "oracle":
            return max(self.accuracies.values())
        return self.accuracies[self.chosen[rule]]


@dataclass(frozen=True, kw_only=True)
class ClusterReport:
    """One cluster at the end of a run.

    `examples` are the training examples of all its clients, `density` the share of active weights
    among the prunable ones. `arrays` are the dense model, zero at inactive weights; `mask_bits` its
    mask in packed bits (None, with an empty digest, for a dense model), and `parts` those of
    smaller levels, by their share of the model, as "0.25".
    """

    members: tuple[str, ...]
    examples: int
    density: float
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    mask_bits: NDArray[np.uint8] | None = field(default=None, repr=False)
    mask_digest: str = ""
    parts: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A whole run at its end.

    `seconds` are wall time: ``total``, ``rounds`` and ``startup`` (until the first reply). `split`
    says which held-out part the accuracies are of: ``test`` or ``validation``. `unseen` are users
    that were kept out of training. `classes` is None where clients tell nothing of single classes.
    """

    clients: tuple[ClientRecord, ...]
    clusters: Mapping[int, ClusterReport]
    ledger: Ledger
    seconds: Mapping[str, float]
    split: str = "test"
    unseen: tuple[UnseenRecord, ...] = ()
    classes: ClassCounts | None = None


def _take_possible(record: object) -> None:
    """Take for unknown, or cut, what a client made up: the one place where that is done."""
    for names, low, high in ((_SHARES, 0.0, 1.0), (_LOSSES, -MOST_LOSS, MOST_LOSS)):
        for name in names:
            value = getattr(record, name, None)
            if value is not None and not low <= value <= high and value == value:
                object.__setattr__(record, name, None)
    for name in _COUNTS:
        if hasattr(record, name):
            count = min(max(getattr(record, name), 0), MOST_EXAMPLES)
            object.__setattr__(record, name, int(count))
