"""Asking clients which weights matter before anything is trained (SNIP)."""

from collections.abc import Sequence

import numpy as np
from flwr.app import ConfigRecord
from numpy.typing import NDArray

from caafp_app.errors import ProtocolError, RunError
from caafp_app.protocol.messages import Action, Answer
from caafp_app.pruning.schedule import Phase
from caafp_app.pruning.statistics import RoundSums
from caafp_app.strategies.cluster_model import ClusterModel
from caafp_app.strategies.replies import Expected, read_saliency
from caafp_app.strategies.roster import Client
from caafp_app.strategies.session import Session

LARGEST_MEAN = 2.0
"""A client's saliencies have a mean of 1, which a lossy codec changes: by at most 0.04, int4 by
0.4, seen of heavy-tailed saliencies of 10 to 89 088 weights. A smaller mean harms nobody else."""


def ask_saliency(
    session: Session,
    clients: Sequence[Client],
    model: ClusterModel,
    config: ConfigRecord,
    *,
    uniform: bool = False,
) -> NDArray[np.float64]:
    """Return the clients' mean connection sensitivity of each active weight [mask.count].

    A client's is ``|g w|`` of one batch at the given weights, at a scale of its own: divided by
    its mean (Lee, Ajanthan, Torr, "SNIP", ICLR 2019, eq. 5 but for the constant factor). Whose
    mean is above `LARGEST_MEAN` is refused, or one client would decide the mask.

    Parameters
    ----------
    session : Session
    clients : sequence of Client
    model : ClusterModel
        The initial model.
    config : ConfigRecord
        The user's own.
    uniform : bool
        Weigh clients equally, whatever their examples.

    Raises
    ------
    RunError
        If nobody answers.
    """
    sums = RoundSums(model.mask.count)

    def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
        values = read_saliency(answer, expected)
        with np.errstate(over="ignore"):
            mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
        if mean > LARGEST_MEAN:
            raise ProtocolError(
                f"saliency: expected a mean of 1, found {mean:.3g}: refused, or one client "
                "would decide the mask"
            )
        sums.add(values, 1.0 if uniform else weight)

    session.ask(clients, lambda _: model, Action.SALIENCY, Phase.SALIENCY, 0, config, accept)
    if not sums.replies:
        raise RunError("no client answered with saliencies: there is no mask to begin with")
    return sums.mean()
