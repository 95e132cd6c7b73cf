"""Figures of one run: its tree of clients, how its masks overlap, how dense its layers are."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caafp_app.bench.figures.style import HEAT, drawing, labelled, look, width
from caafp_app.runs.palette import COLOURS
from caafp_app.runs.reading import RunFiles, jaccard


def draw_dendrogram(run: RunFiles) -> Any | None:
    """Draw the tree of one run; None where its distances were not kept, or there is no tree.

    The tree is built from the distances with the run's own linkage; the colour of a label is the
    cluster that the run put the client into (small clusters may have been merged into others).
    """
    kept = run.distances()
    if kept is None or len(kept[0]) < 2:
        return None
    labels, distances = kept
    from scipy.cluster.hierarchy import dendrogram, linkage
    from scipy.spatial.distance import squareform

    told = str(run.plan.get("facts", {}).get("clusters", ""))  # as `Clustering` says itself
    named = re.search(r"(\w+) linkage", told)
    method = named[1] if named else "average"
    tree = linkage(squareform(distances.astype(float), checks=False), method)
    clusters = {client.label: client.cluster for client in run.clients}
    count = len({clusters[label] for label in labels if label in clusters}) or 1
    figure, axes = drawing(width(len(labels) // 2), 4.2)
    dendrogram(
        tree,
        labels=labels,
        ax=axes,
        color_threshold=0.0,
        above_threshold_color="#444444",
        leaf_rotation=90,
    )
    if 1 < count < len(labels):
        # Between the last merge that was made and the first that was not.
        cut = (tree[-count, 2] + tree[-count + 1, 2]) / 2
        axes.axhline(cut, color=COLOURS[1], linestyle="--", label=f"cut into {count} clusters")
        figure.legend(loc="outside upper right", fontsize=8)
    for text in axes.get_xticklabels():
        cluster = clusters.get(text.get_text(), -1)
        if cluster >= 0:
            text.set_color(COLOURS[cluster % len(COLOURS)])
    axes.set_ylabel(f"cosine distance ({method} linkage)")
    axes.grid(visible=False, axis="x")
    return figure


def draw_masks(run: RunFiles) -> Any | None:
    """Draw the overlap of each two clusters' masks; None with fewer than two, or all dense."""
    masks = run.masks()
    if len(masks) < 2 or len({mask.size for mask in masks.values()}) > 1 or _all_dense(run, masks):
        return None
    overlap = jaccard(list(masks.values()))
    figure, axes = drawing(1.6 + 0.7 * len(masks), max(1.0 + 0.7 * len(masks), 3.0))
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


def draw_density(run: RunFiles) -> Any | None:
    """Draw a step line for each prunable array, the mean over clusters; None where all is dense."""
    layers = layer_densities(run)
    if not any(value < 1.0 for steps in layers.values() for _, value in steps):
        return None
    last = max(int(record["round"]) for record in run.rounds)
    figure, axes = drawing(7.0, 4.0)
    for i, (name, steps) in enumerate(layers.items()):
        numbers = [number for number, _ in steps] + [last]
        values = [value for _, value in steps] + [steps[-1][1]]
        style = look(i)
        # Allocations that are uniform lie on each other: thinner ones on top of wider ones.
        axes.step(
            numbers,
            values,
            where="post",
            color=style["color"],
            linestyle=style["linestyle"],
            linewidth=max(1.0, 4.0 - 0.5 * i),
            label=name,
        )
    axes.set_ylim(0.0, 1.05)
    return labelled(figure, "round", "active share of the layer, mean over clusters")


def layer_densities(run: RunFiles) -> dict[str, list[tuple[int, float]]]:
    """Return (round, density) of each prunable array as it changes, mean over clusters.

    A mask that is made at the end of a round holds from there on.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for record in run.rounds:
        clusters = list((record.get("layer_density") or {}).values())
        for name in clusters[0] if clusters else ():
            values = [float(layers[name]) for layers in clusters if name in layers]
            found.setdefault(name, []).append((int(record["round"]), sum(values) / len(values)))
    return found
