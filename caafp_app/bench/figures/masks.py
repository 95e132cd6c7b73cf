"""How much the masks of different clusters have in common."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.bench.figures.style import HEAT, plotting
from caafp_app.runs.reading import RunFiles, jaccard


def draw_masks(run: RunFiles) -> Any | None:
    """Draw the overlap of each two clusters' masks; None with fewer than two, or all dense."""
    masks = run.masks()
    if len(masks) < 2 or len({mask.size for mask in masks.values()}) > 1 or _all_dense(run, masks):
        return None
    overlap = jaccard(list(masks.values()))
    plt = plotting()
    figure, axes = plt.subplots(figsize=(1.6 + 0.7 * len(masks), 1.0 + 0.7 * len(masks)))
    image = axes.imshow(overlap, vmin=0.0, vmax=1.0, cmap=HEAT)
    names = [str(number) for number in masks]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(overlap):
        for j, value in enumerate(row):
            colour = "black" if value > 0.6 else "white"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.grid(visible=False)
    axes.set_xlabel("cluster")
    axes.set_ylabel("cluster")
    figure.colorbar(image, label="active in both / active in either")
    return figure


def _all_dense(run: RunFiles, masks: Mapping[int, NDArray[np.uint8]]) -> bool:
    clusters = run.clusters.get("clusters", {})
    return all(
        float(clusters.get(str(number), {}).get("density") or 1.0) >= 1.0 for number in masks
    )
