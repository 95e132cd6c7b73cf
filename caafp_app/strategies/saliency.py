"""Asking clients which weights matter before anything is trained (SNIP)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import RunError
from caafp_app.protocol.messages import Action
from caafp_app.pruning.schedule import Phase
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Runner


def ask_saliency(
    runner: Runner, clients: Sequence[Client], model: SparseModel, *, uniform: bool = False
) -> NDArray[np.float64]:
    """Return the clients' mean connection sensitivity of each active weight [mask.count].

    A client's is ``|g w|`` of one batch at the given weights, divided by its mean (Lee, Ajanthan,
    Torr, "SNIP", ICLR 2019, eq. 5 but for the constant factor); `uniform` weighs clients equally.
    Raises RunError if nobody answers.
    """
    query = Query(Action.SALIENCY, model, tuple(clients), uniform=uniform)
    mean = runner.hold([query], Phase.SALIENCY, 0).summed[0].mean()
    if mean is None:
        raise RunError("no client answered with saliencies: there is no mask to begin with")
    return mean.values
