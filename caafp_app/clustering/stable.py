"""Numbers of clusters that stay what they were from one clustering to the next."""

from collections.abc import Mapping

import numpy as np


def keep_numbers(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Renumber the clusters of `after` by those of `before` that they share most clients with.

    Both give the cluster, from 0, by client; labels that are in one of them only do not count. The
    one-to-one match that the most clients agree with (Kuhn, 1955); a cluster without a match gets
    the lowest number that is free.
    """
    from scipy.optimize import linear_sum_assignment

    if not after:
        return {}
    shared = np.zeros((max(after.values()) + 1, max(before.values(), default=0) + 1))
    for label, number in after.items():
        if label in before:
            shared[number, before[label]] += 1
    matched = {
        int(new): int(old)
        for new, old in zip(*linear_sum_assignment(-shared), strict=True)
        if shared[new, old]
    }
    free = (number for number in range(len(after) + 1) if number not in matched.values())
    for number in sorted(set(after.values()) - matched.keys()):
        matched[number] = next(free)
    return {label: matched[number] for label, number in after.items()}
