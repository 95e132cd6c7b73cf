"""Packed float32 training is dense training: the whole protocol against a loop on dense arrays."""

import zlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caafp_app.clustering.agglomerative import cluster
from caafp_app.clustering.sketch import Sketcher
from caafp_app.datasets.base import ClientData
from caafp_app.datasets.resolve import load_client
from caafp_app.models import build_model
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.means import GradientMean, WeightedMean
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.pruning.sums import accumulate, make_sums
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.settings import Settings
from caafp_app.training import (
    LocalTraining,
    decay,
    dump_arrays,
    full_gradient,
    load_arrays,
    train,
)
from tests.strategies.support import nodes, run

Arrays = dict[str, NDArray[Any]]


def masked(arrays: Arrays, mask: Arrays) -> Arrays:
    """Dense arrays times their masks; zeros without a sign."""
    return {n: np.where(mask[n], a, a.dtype.type(0)) if n in mask else a for n, a in arrays.items()}


def scored(
    weights: NDArray[Any], variance: NDArray[Any], agreement: NDArray[Any]
) -> NDArray[np.float64]:
    """The default score of one layer's active weights: half magnitude, a quarter of each other."""
    size = np.abs(weights).astype(np.float64)
    positive = variance[variance > 0]
    coherent = 1 / (1 + variance / (np.median(positive) if positive.size else 1.0))
    total = 0.5 * (size / size.max()) + 0.25 * (coherent / coherent.max()) + 0.25 * agreement
    return np.minimum(total, 1.0)


class DenseCluster:
    """One cluster's model as dense named arrays, and a dense mask."""

    def __init__(self, arrays: Arrays, mask: Arrays) -> None:
        self.mask = mask
        self.arrays = masked(arrays, mask)
        self.evidence: Evidence | None = None
        self.gradients: GradientMean | None = None


class DenseReference:
    """CA-AFP on dense arrays: no messages, no packing, no layout.

    Vectors are the prunable arrays (two axes or more) one after another; the others likewise.
    """

    def __init__(self, settings: Settings, count: int) -> None:
        self.settings = settings
        self.data: dict[str, ClientData] = {}
        for config in nodes(count):
            data = load_client(settings.data, config)
            self.data[data.label] = data
        some = next(iter(self.data.values()))
        self.classes, self.shape = len(some.class_names), some.input_shape
        arrays = dump_arrays(self.model(settings.run.seed))
        self.names = [n for n, a in arrays.items() if a.ndim >= 2]
        self.rest = [n for n, a in arrays.items() if a.ndim < 2]
        self.sizes = {n: arrays[n].size for n in self.names}
        mask = {n: np.ones(arrays[n].shape, bool) for n in self.names}
        if initial := settings.pruning.initial_sparsity:
            for name in self.names:
                order = np.argsort(-np.abs(arrays[name].reshape(-1)), kind="stable")
                kept = int(np.floor(order.size * (1 - initial) + 0.5))
                mask[name].reshape(-1)[order[kept:]] = False
        self.clusters = {-1: DenseCluster(arrays, mask)}
        self.clients = [Client(label, 0) for label in sorted(self.data)]
        self.regrown = 0

    def model(self, seed: int) -> torch.nn.Module:
        return build_model(self.settings.model.model, self.shape, self.classes, seed)

    def split(self, vector: NDArray[Any], like: Arrays) -> Arrays:
        pieces = np.split(vector, np.cumsum([like[n].size for n in self.names])[:-1])
        return {n: p.reshape(like[n].shape) for n, p in zip(self.names, pieces, strict=True)}

    def vector(self, arrays: Arrays) -> NDArray[Any]:
        return np.concatenate([arrays[n].reshape(-1) for n in self.names])

    def others(self, arrays: Arrays) -> NDArray[Any]:
        return np.concatenate([arrays[n].reshape(-1) for n in self.rest])

    def local(self, label: str, home: DenseCluster, round_: int, epochs: int) -> torch.nn.Module:
        """Train one client from its cluster's dense model."""
        data, train_ = self.data[label], self.settings.train
        rate = train_.learning_rate * decay(
            round_, self.settings.rounds.total, train_.learning_rate_end
        )
        model = self.model(0)
        load_arrays(model, home.arrays)
        seed = np.random.SeedSequence(
            [self.settings.run.seed, round_, zlib.crc32(label.encode())]
        ).generate_state(1)[0]
        how = LocalTraining(epochs, train_.batch_size, rate, train_.proximal, int(seed))
        dense = all(m.all() for m in home.mask.values())
        train(model, data.train_x, data.train_y, how, None if dense else home.mask)
        return model

    def run(self, plan: list[RoundPlan]) -> None:
        past: list[dict[int, Arrays]] = []
        for step in plan:
            if -1 in self.clusters and step.phase != "warm-up":
                self.cluster(step.round)
            self.round(step)
            if step.mask_update:
                for home in self.clusters.values():
                    self.update_mask(home, 1 - step.sparsity)
            past.append({number: home.arrays for number, home in self.clusters.items()})
        if last := self.settings.rounds.average_last:
            for number, home in self.clusters.items():
                kept = [models[number] for models in past[-last:]]
                sums = {n: sum(m[n].astype(np.float64) for m in kept) for n in home.arrays}
                home.arrays = {n: (s / last).astype(np.float32) for n, s in sums.items()}

    def cluster(self, round_: int) -> None:
        base = self.clusters[-1]
        bits = self.vector(base.mask)
        sketches = []
        for client in self.clients:
            trained = dump_arrays(self.local(client.label, base, round_, epochs=1))
            change = self.vector(trained) - self.vector(base.arrays)
            rest = self.others(trained) - self.others(base.arrays)
            sketches.append(np.concatenate([change[bits], rest]))
        sketcher = Sketcher(sketches[0].size, seed=self.settings.run.seed)
        rows = np.stack([sketcher.sketch(sketch) for sketch in sketches])
        found = cluster(rows, self.settings.clustering.clusters, seed=self.settings.run.seed)
        self.clusters = {k: DenseCluster(base.arrays, base.mask) for k in range(found.k)}
        for client, number in zip(self.clients, found.labels, strict=True):
            client.cluster = int(number)

    def round(self, step: RoundPlan) -> None:
        rng = generator(self.settings.run.seed, step.round, "sample")
        chosen = sample(self.clients, self.settings.rounds.clients_per_round, rng)
        for number, home in self.clusters.items():
            size = sum(self.sizes.values())
            mean, rest_mean = WeightedMean(size), WeightedMean(len(self.others(home.arrays)))
            sums = make_sums(("squares", "signs"), size)
            if step.gradients:
                home.gradients = GradientMean(size)
            for client in chosen:
                if client.cluster != number:
                    continue
                model = self.local(client.label, home, step.round, self.settings.train.local_epochs)
                trained = dump_arrays(model)
                data = self.data[client.label]
                weight = float(len(data.train_y))
                change = self.vector(trained) - self.vector(home.arrays)
                accumulate(change, weight, mean, tuple(sums.values()))
                rest_mean.add(self.others(trained) - self.others(home.arrays), weight)
                if step.gradients:
                    gradient = self.vector(full_gradient(model, data.train_x, data.train_y))
                    self.add_gradient(home, gradient, 1 - step.sparsity, weight)
            if mean.replies:
                if step.statistics:
                    home.evidence = home.evidence or Evidence(size)
                    home.evidence.add_round(mean, sums)
                moved = self.vector(home.arrays) + mean.mean()
                rest = self.others(home.arrays) + rest_mean.mean()
                home.arrays = self.split(moved.astype(np.float32), home.mask) | self.split_rest(
                    rest.astype(np.float32), home.arrays
                )

    def split_rest(self, vector: NDArray[Any], like: Arrays) -> Arrays:
        pieces = np.split(vector, np.cumsum([like[n].size for n in self.rest])[:-1])
        return {n: p.reshape(like[n].shape) for n, p in zip(self.rest, pieces, strict=True)}

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
        self, home: DenseCluster, gradient: NDArray[Any], density: float, weight: float
    ) -> None:
        """What a client sends of its gradient: the largest inactive of each layer, in float16."""
        assert home.gradients is not None
        kept = np.zeros(gradient.size, bool)
        start = 0
        for name in self.names:
            active = home.mask[name].reshape(-1)
            _, grown = self.growth(active, density)
            inactive = start + np.flatnonzero(~active)
            order = np.argsort(-np.abs(gradient[inactive]), kind="stable")
            kept[inactive[order[:grown]]] = True
            start += active.size
        index = np.flatnonzero(kept)
        scale = np.abs(gradient[index]).max()
        shares = (gradient[index] / float(scale)).astype(np.float16).astype(np.float32)
        home.gradients.add_at(index, shares * scale, weight)

    def update_mask(self, home: DenseCluster, density: float) -> None:
        size = sum(self.sizes.values())
        evidence, whole = home.evidence or Evidence(size), slice(0, size)
        variance = self.split(evidence.variance(whole), home.mask)
        agreement = self.split(evidence.sign_agreement(whole), home.mask)
        gradient = home.gradients.mean() if home.gradients else np.zeros(size)
        gradients = self.split(gradient, home.mask)
        after = {}
        for name in self.names:
            old = home.mask[name].reshape(-1)
            active, inactive = np.flatnonzero(old), np.flatnonzero(~old)
            slopes = np.abs(gradients[name].reshape(-1)[inactive])
            target, grown = self.growth(old, density, np.count_nonzero(slopes))
            parts = (home.arrays, variance, agreement)
            scores = scored(*(part[name].reshape(-1)[active] for part in parts))
            new = np.zeros(old.size, bool)
            new[active[np.argsort(-scores, kind="stable")[: target - grown]]] = True
            new[inactive[np.argsort(-slopes, kind="stable")[:grown]]] = True
            self.regrown += grown
            assert new.sum() == target
            after[name] = new.reshape(home.mask[name].shape)
        home.mask = after
        home.arrays = masked(home.arrays, after)
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
        for name, mask in home.mask.items():
            np.testing.assert_array_equal(found.mask[name], mask)
        for name, array in home.arrays.items():
            assert found.arrays[name].numpy().tobytes() == array.tobytes(), name
