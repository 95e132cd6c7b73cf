"""Which cluster's model a newcomer without labels is given, by what the models say of its windows.

A model that knows the windows is sure of each and yet tells classes apart: the information between
windows and predictions is large (Bridle, Heading, MacKay, NIPS 1991).
"""

from collections.abc import Mapping

GENERAL = -1
"""The number of the general model among the clusters'."""
MARGIN = 0.1
"""By how much a cluster's model has to be ahead of the general one, in nats."""


def informed(information: Mapping[int, float]) -> int:
    """Return the cluster of most information where it is ahead by the margin, else `GENERAL`.

    `information`, in nats, is of each model, `GENERAL` among them, the entropy of the mean
    prediction less the mean entropy of a prediction.
    """
    clusters = [number for number in information if number != GENERAL]
    best = max(clusters, key=lambda k: information[k], default=GENERAL)
    return best if information[best] > information[GENERAL] + MARGIN else GENERAL
