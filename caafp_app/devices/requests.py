"""What a server asks of a device in a run of given settings: one request of each kind.

Weights and masks are drawn at random, which changes no size and no name of what is answered. The
requests of a strategy of somebody's own, which is not imported here, are those of FedAvg.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from caafp_app.datasets.resolve import form_on_device
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import Action, Request, to_record
from caafp_app.protocol.objective import CENTRE_WEIGHT, CUT_FILTERS, DUAL_WEIGHT, OWN
from caafp_app.protocol.packing import encoding_rng, pack_model
from caafp_app.pruning.filters import choose_filters, cut
from caafp_app.settings import Settings


def requests_of(settings: Settings) -> Iterator[tuple[str, RecordDict]]:
    """Yield a name and the records of each request, in the order of a run."""
    yield "describe", Request(Action.DESCRIBE, phase="describe").to_records()
    writer = _Writer(settings)
    strategy, pruning = settings.run.strategy, settings.pruning
    by_snip = pruning.initial_sparsity > 0 and pruning.initial_mask == "snip"
    if strategy == "fedsnip" or (strategy == "caafp" and by_snip):
        yield "saliency of one batch", writer.write(Action.SALIENCY, writer.mask(1.0))
    if strategy == "clusterfl":
        mask, own = writer.mask(1.0), {OWN: to_record(writer.arrays)}
        yield "train, dense, with its own model", writer.write(Action.TRAIN, mask, also=own)
    for density in _densities(settings):
        mask = writer.mask(density)
        name = "train, dense" if mask.is_full else f"train at density {density:.2g}"
        if not mask.is_full:
            new = writer.write(Action.TRAIN, mask, new_mask=True)
            yield f"{name}, with a new mask", new
        yield name, writer.write(Action.TRAIN, mask)
    if strategy == "caafp" and pruning.granularity == "weight" and not mask.is_full:
        grown = tuple(
            round(pruning.regrow * mask.bits[part].sum()) for part in writer.layout.segments
        )
        if settings.rounds.prune_rounds and any(grown):
            yield f"{name}, before a mask update", writer.write(Action.TRAIN, mask, grown)
    yield "personalise", writer.write(Action.PERSONALISE, mask)


def initial_arrays(settings: Settings) -> dict[str, NDArray[Any]]:
    """Return the arrays of a fresh network, for windows as a device of the run has them."""
    from caafp_app.models import build_model
    from caafp_app.training import dump_arrays

    shape, _ = form_on_device(settings.data)
    classes = len(shape.class_names)
    return dump_arrays(build_model(settings.model.model, shape.input_shape, classes, seed=0))


def _densities(settings: Settings) -> list[float]:
    """Return the densities of the first and the last rounds; one where they are the same."""
    last = 1.0 - settings.pruning.final
    if settings.run.strategy == "caafp":
        return list(dict.fromkeys((1.0 - settings.pruning.initial_sparsity, last)))
    return [last if settings.run.strategy == "fedsnip" else 1.0]


def _options(settings: Settings, action: Action) -> dict[str, float]:
    """Return what the strategy asks of the local training; see `protocol.objective`.

    The weights are the strategies' defaults: they change no size and no name of what is answered.
    """
    match settings.run.strategy:
        case "efficientfl" | "heterofl" | "cahfp":
            return {CUT_FILTERS: 1.0}
        case "fedchar":
            return {DUAL_WEIGHT: 1.0}
        case "clusterfl" if action is Action.TRAIN:
            return {CENTRE_WEIGHT: 0.004}
    return {}


class _Writer:
    """Writes requests with one model: the network of the settings, or a cut of it."""

    def __init__(self, settings: Settings) -> None:
        pruning = settings.pruning
        self.settings = settings
        self.arrays = initial_arrays(settings)
        self.layout = Layout.of(
            self.arrays, spare_first=pruning.spares_first, spare_last=pruning.spares_last
        )
        if settings.run.strategy == "efficientfl":
            names = [entry.name for entry in self.layout.weight_entries]
            places = choose_filters(self.arrays, 1 - pruning.final, names)
            self.arrays = cut(self.arrays, places)
            entries = self.layout.entries
            self.layout = Layout(
                tuple(replace(entry, shape=self.arrays[entry.name].shape) for entry in entries)
            )
        self._model = self.layout.flatten(self.arrays)
        self._layout_sent = False

    def mask(self, density: float) -> Mask:
        """Draw a mask."""
        return Mask(
            self.layout, np.random.default_rng(0).random(self.layout.weight_count) < density
        )

    def write(
        self,
        action: Action,
        mask: Mask,
        gradient_counts: tuple[int, ...] = (),
        *,
        new_mask: bool = False,
        also: Mapping[str, ArrayRecord] | None = None,
    ) -> RecordDict:
        """Write a request; the first one brings the layout."""
        wire, seed = self.settings.wire, self.settings.run.seed
        options = _options(self.settings, action)
        request = Request(
            action,
            round=1,
            seed=seed,
            phase="prune" if action is Action.TRAIN else action.value,
            cluster=0,
            mask_digest=mask.digest,
            down=wire.down_dtype,
            up=wire.up_dtype,
            rest=wire.rest_dtype,
            arrays=pack_model(
                self._model, mask, wire.down_dtype, wire.rest_dtype, encoding_rng(seed, 1, "", "")
            ),
            layout=b"" if self._layout_sent else self.layout.to_json(),
            mask=mask.packed if new_mask else None,
            gradient_counts=gradient_counts,
            evaluate=True,
            config_key="" if options else "config",
        )
        self._layout_sent = True
        records = RecordDict({**request.to_records(), **(also or {})})
        if options:
            records["config"] = ConfigRecord({**options, "server-round": 1})
        return records
