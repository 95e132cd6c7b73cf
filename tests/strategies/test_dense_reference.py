"""Packed float32 training is dense training: the whole protocol against a loop on dense arrays."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caafp_app.clustering.agglomerative import cluster
from caafp_app.clustering.sketch import Sketcher
from caafp_app.datasets.resolve import load_client
from caafp_app.models import build_model
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.means import GradientMean, WeightedMean
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.pruning.sums import accumulate, make_sums
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.settings import Settings
from caafp_app.training import LocalTraining, decay, dump_arrays, full_gradient, load_arrays, train
from tests.strategies.support import nodes, run

Vector = NDArray[Any]


def scored(weights: Vector, variance: Vector, agreement: Vector) -> NDArray[np.float64]:
    """The default score of one layer's active weights: half magnitude, a quarter of each other."""
    size = np.abs(weights).astype(np.float64)
    positive = variance[variance > 0]
    coherent = 1 / (1 + variance / (np.median(positive) if positive.size else 1.0))
    total = 0.5 * (size / size.max()) + 0.25 * (coherent / coherent.max()) + 0.25 * agreement
    return np.minimum(total, 1.0)


class DenseCluster:
    """One cluster's model: dense weights and their mask [P], all layers one after another; rest."""

    def __init__(self, weights: Vector, rest: Vector, active: NDArray[np.bool_]) -> None:
        self.weights = np.where(active, weights, weights.dtype.type(0))  # zeros without a sign
        self.rest, self.active = rest, active
        self.evidence: Evidence | None = None
        self.gradients: GradientMean | None = None


class DenseReference:
    """CA-AFP on dense arrays: no messages, no packing, no layout.

    Prunable are arrays of two axes or more.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        loaded = [load_client(settings.data, config) for config in nodes(count)]
        self.data = {data.label: data for data in loaded}
        self.classes, self.shape = len(loaded[0].class_names), loaded[0].input_shape
        arrays = dump_arrays(self.model(settings.run.seed))
        self.shapes = {name: array.shape for name, array in arrays.items()}
        self.names = [n for n, shape in self.shapes.items() if len(shape) >= 2]
        self.others = [n for n in self.shapes if n not in self.names]
        sizes = [arrays[name].size for name in self.names]
        stops = np.cumsum(sizes).tolist()
        self.layers = [slice(stop - n, stop) for n, stop in zip(sizes, stops, strict=True)]
        self.size = stops[-1]
        weights, rest = self.join(arrays)
        active = np.ones(self.size, bool)
        if initial := settings.pruning.initial_sparsity:
            for layer in self.layers:
                order = np.argsort(-np.abs(weights[layer]), kind="stable")
                kept = int(np.floor(order.size * (1 - initial) + 0.5))
                active[layer.start + order[kept:]] = False
        self.clusters = {-1: DenseCluster(weights, rest, active)}
        self.clients = [Client(label, 0) for label in sorted(self.data)]
        self.regrown = 0

    def model(self, seed: int) -> torch.nn.Module:
        return build_model(self.settings.model.model, self.shape, self.classes, seed)

    def join(self, arrays: Mapping[str, Vector]) -> tuple[Vector, Vector]:
        """The prunable arrays as one vector, and the others."""
        weights, rest = (
            np.concatenate([arrays[name].reshape(-1) for name in names])
            for names in (self.names, self.others)
        )
        return weights, rest

    def split(self, vector: Vector, names: list[str]) -> dict[str, Vector]:
        shapes = [self.shapes[name] for name in names]
        pieces = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
        return {n: p.reshape(shape) for n, p, shape in zip(names, pieces, shapes, strict=True)}

    def arrays(self, home: DenseCluster) -> dict[str, Vector]:
        return self.split(home.weights, self.names) | self.split(home.rest, self.others)

    def local(self, label: str, home: DenseCluster, round_: int, epochs: int) -> torch.nn.Module:
        """Train one client from its cluster's dense model."""
        data, train_ = self.data[label], self.settings.train
        rate = train_.learning_rate * decay(
            round_, self.settings.rounds.total, train_.learning_rate_end
        )
        model = self.model(0)
        load_arrays(model, self.arrays(home))
        seed = np.random.SeedSequence(
            [self.settings.run.seed, round_, zlib.crc32(label.encode())]
        ).generate_state(1)[0]
        how = LocalTraining(epochs, train_.batch_size, rate, train_.proximal, int(seed))
        mask = None if home.active.all() else self.split(home.active, self.names)
        train(model, data.train_x, data.train_y, how, mask)
        return model

    def moved(self, model: torch.nn.Module, home: DenseCluster) -> tuple[Vector, Vector]:
        weights, rest = self.join(dump_arrays(model))
        return weights - home.weights, rest - home.rest

    def run(self, plan: list[RoundPlan]) -> None:
        past: list[dict[int, tuple[Vector, Vector]]] = []
        for step in plan:
            if -1 in self.clusters and step.phase != "warm-up":
                self.cluster(step.round)
            self.round(step)
            if step.mask_update:
                for home in self.clusters.values():
                    self.update_mask(home, 1 - step.sparsity)
            past.append({n: (home.weights, home.rest) for n, home in self.clusters.items()})
        if last := self.settings.rounds.average_last:
            for number, home in self.clusters.items():
                kept = zip(*(models[number] for models in past[-last:]), strict=True)
                home.weights, home.rest = (
                    (sum(part.astype(np.float64) for part in parts) / last).astype(np.float32)
                    for parts in kept
                )

    def cluster(self, round_: int) -> None:
        base, sketches = self.clusters[-1], []
        for client in self.clients:
            change, rest = self.moved(self.local(client.label, base, round_, epochs=1), base)
            sketches.append(np.concatenate([change[base.active], rest]))
        sketcher = Sketcher(sketches[0].size, seed=self.settings.run.seed)
        rows = np.stack([sketcher.sketch(sketch) for sketch in sketches])
        found = cluster(rows, self.settings.clustering.clusters, seed=self.settings.run.seed)
        parts = base.weights, base.rest, base.active
        self.clusters = {k: DenseCluster(*parts) for k in range(found.k)}
        for client, number in zip(self.clients, found.labels, strict=True):
            client.cluster = int(number)

    def round(self, step: RoundPlan) -> None:
        rng = generator(self.settings.run.seed, step.round, "sample")
        chosen = sample(self.clients, self.settings.rounds.clients_per_round, rng)
        for number, home in self.clusters.items():
            mean, rest_mean = WeightedMean(self.size), WeightedMean(home.rest.size)
            sums = make_sums(("squares", "signs"), self.size)
            if step.gradients:
                home.gradients = GradientMean(self.size)
            for client in chosen:
                if client.cluster != number:
                    continue
                model = self.local(client.label, home, step.round, self.settings.train.local_epochs)
                data = self.data[client.label]
                weight = float(len(data.train_y))
                change, rest = self.moved(model, home)
                accumulate(change, weight, mean, tuple(sums.values()))
                rest_mean.add(rest, weight)
                if step.gradients:
                    slopes = full_gradient(model, data.train_x, data.train_y)
                    self.add_gradient(home, self.join(slopes)[0], 1 - step.sparsity, weight)
            if mean.replies:
                if step.statistics:
                    home.evidence = home.evidence or Evidence(self.size)
                    home.evidence.add_round(mean, sums)
                home.weights = (home.weights + mean.mean()).astype(np.float32)
                home.rest = (home.rest + rest_mean.mean()).astype(np.float32)

    def growth(
        self, active: NDArray[np.bool_], density: float, told: int | None = None
    ) -> tuple[int, int]:
        """Active weights to be, and how many of them grow: no more than clients `told` of."""
        target = max(int(np.floor(active.size * density + 0.5)), 1)
        grown = int(np.floor(self.settings.pruning.regrow * target + 0.5))
        now = int(active.sum())
        room = active.size - now if told is None else told
        return target, max(min(grown, room), target - now)

    def add_gradient(
        self, home: DenseCluster, gradient: Vector, density: float, weight: float
    ) -> None:
        """What a client sends of its gradient: the largest inactive of each layer, in float16."""
        kept = np.zeros(self.size, bool)
        for layer in self.layers:
            active = home.active[layer]
            _, grown = self.growth(active, density)
            inactive = layer.start + np.flatnonzero(~active)
            order = np.argsort(-np.abs(gradient[inactive]), kind="stable")
            kept[inactive[order[:grown]]] = True
        index = np.flatnonzero(kept)
        scale = np.abs(gradient[index]).max()
        shares = (gradient[index] / float(scale)).astype(np.float16).astype(np.float32)
        home.gradients.add_at(index, shares * scale, weight)

    def update_mask(self, home: DenseCluster, density: float) -> None:
        evidence = home.evidence or Evidence(self.size)
        whole = slice(0, self.size)
        parts = home.weights, evidence.variance(whole), evidence.sign_agreement(whole)
        gradient = home.gradients.mean() if home.gradients else np.zeros(self.size)
        new = np.zeros(self.size, bool)
        for layer in self.layers:
            old = home.active[layer]
            active, inactive = (layer.start + np.flatnonzero(part) for part in (old, ~old))
            slopes = np.abs(gradient[inactive])
            target, grown = self.growth(old, density, np.count_nonzero(slopes))
            scores = scored(*(part[active] for part in parts))
            new[active[np.argsort(-scores, kind="stable")[: target - grown]]] = True
            new[inactive[np.argsort(-slopes, kind="stable")[:grown]]] = True
            self.regrown += grown
            assert new[layer].sum() == target
        home.active = new
        home.weights = np.where(new, home.weights, np.float32(0))
        home.evidence, home.gradients = None, None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"initial-sparsity": 0.3, "sparsity": 0.9, "schedule": "linear", "clusters": 3}
        | {"proximal": 0.1, "learning-rate-end": 0.2, "average-last": 2, "seed": 6},
    ],
    ids=["dense-first", "sparse-from-the-start"],
)
def test_packed_training_is_dense_training_bit_for_bit(changes: dict[str, Any]) -> None:
    # The rule of influence has a truth of its own, in tests of `pruning.influence`.
    packed = run({**changes, "strategy-args": "robust=false"})
    updates = [step for step in packed.seen.plan if step.mask_update]
    assert len(updates) >= 3

    dense = DenseReference(packed.settings, count=6)
    dense.run(list(packed.seen.plan))

    assert {client.label: client.cluster for client in dense.clients} == packed.seen.labels
    assert dense.regrown > 100
    assert packed.result.clusters.keys() == dense.clusters.keys()
    for number, home in dense.clusters.items():
        found = packed.result.clusters[number]
        assert found.density == pytest.approx(1 - packed.settings.pruning.sparsity, abs=1e-3)
        for name, mask in dense.split(home.active, dense.names).items():
            np.testing.assert_array_equal(found.mask[name], mask)
        for name, array in dense.arrays(home).items():
            assert found.arrays[name].numpy().tobytes() == array.tobytes(), name
