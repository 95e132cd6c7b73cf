"""The density of each layer over the rounds."""

from typing import Any

from caafp_app.bench.figures.style import look, plotting
from caafp_app.runs.reading import RunFiles


def draw_density(run: RunFiles) -> Any | None:
    """Draw a step line for each prunable array, the mean over clusters; None where all is dense."""
    layers = layer_densities(run)
    if not any(value < 1.0 for steps in layers.values() for _, value in steps):
        return None
    last = max(int(record["round"]) for record in run.rounds)
    plt = plotting()
    figure, axes = plt.subplots(figsize=(7.0, 4.0))
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
    axes.set_xlabel("round")
    axes.set_ylabel("active share of the layer, mean over clusters")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


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
