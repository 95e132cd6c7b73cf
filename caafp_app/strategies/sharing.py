"""The models of the clusters learn from one another: each follows, in part, the mean of all."""

from collections.abc import Mapping

from caafp_app.runner.model import MeanUpdate, SparseModel, combine


def shared_updates(
    models: Mapping[int, SparseModel], means: Mapping[int, MeanUpdate], sharing: float
) -> dict[int, MeanUpdate]:
    """Return ``(1 - sharing)`` of each cluster's mean update plus `sharing` of everybody's.

    Everybody's is the mean of the clusters' own updates by their examples in this round, see
    `combine`: a cluster from which nobody replied goes on with the others. With 0 the models are
    apart, with 1 and equal masks they stay one.
    """
    if not sharing or not means or len(models) < 2:
        return dict(means)
    everybody = combine([means[number] for number in sorted(means)])
    return {
        number: means.get(number, MeanUpdate.nothing(model))
        .times(1 - sharing)
        .plus(everybody, sharing)
        for number, model in models.items()
    }
