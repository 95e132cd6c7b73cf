"""The models of the clusters learn from one another: each follows, in part, the mean of all."""

from collections.abc import Mapping

import numpy as np

from caafp_app.strategies.cluster_model import ClusterModel


def end_round_together(
    models: Mapping[int, ClusterModel], sharing: float, *, move: bool = True
) -> None:
    """Move each model by ``(1 - sharing)`` of its own mean update and ``sharing`` of everybody's.

    Everybody's is the mean of the clusters' own moves by their examples in this round; for a
    weight, of the clusters that have it. So a cluster of which few clients, or none, were sampled
    goes on with the others. With 0 the models are apart, with 1 and equal masks they stay one.

    Parameters
    ----------
    models : mapping of int to ClusterModel
        By cluster, of one layout; their sums hold the updates of the round.
    sharing : float
        In [0, 1].
    move : bool
        As of `ClusterModel.end_round`.
    """
    examples = {number: model.weight for number, model in models.items()}
    total = sum(examples.values())
    if not (sharing and move and total and len(models) > 1):
        for model in models.values():
            model.end_round(move=move)
        return
    before = {number: model.model.copy() for number, model in models.items()}
    shape = next(iter(before.values())).weights.shape
    moved, having = np.zeros(shape), np.zeros(shape)
    rest = np.zeros(next(iter(before.values())).rest.shape)
    for number, model in sorted(models.items()):
        model.end_round()
        share = examples[number] / total
        moved += share * (model.model.weights - before[number].weights)
        having += share * model.mask.bits
        rest += share * (model.model.rest - before[number].rest)
    np.divide(moved, having, out=moved, where=having > 0)
    for number, model in models.items():
        own, old = model.model, before[number]
        own.weights += sharing * (old.weights + moved * model.mask.bits - own.weights)
        own.rest += sharing * (old.rest + rest - own.rest)
