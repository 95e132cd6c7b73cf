"""The tree of the clients by the angle between their updates, and where it was cut."""

from typing import Any

from caafp_app.bench.figures.style import plotting, width
from caafp_app.runs.palette import COLOURS
from caafp_app.runs.reading import RunFiles

LINKAGES = ("average", "complete")


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
    method = next((name for name in LINKAGES if f"{name} linkage" in told), LINKAGES[0])
    tree = linkage(squareform(distances.astype(float), checks=False), method)
    clusters = {client.label: client.cluster for client in run.clients}
    count = len({clusters[label] for label in labels if label in clusters}) or 1
    plt = plotting()
    figure, axes = plt.subplots(figsize=(width(len(labels) // 2), 4.2))
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
