"""Least squares with two ways: what is the client's, and what is the round's."""

import numpy as np

from caafp_app.clustering.effects import Effects, unit
from caafp_app.runs.checkpoint import Checkpoints


def seen(rng, clients, rounds, drawn):
    return [sorted(rng.choice(clients, drawn, replace=False).tolist()) for _ in range(rounds)]


def test_parts_are_those_of_least_squares():
    rng = np.random.default_rng(1)
    design, updates = seen(rng, 7, 6, 4), []
    effects = Effects(9)
    for members in design:
        updates.append({f"c{k}": rng.standard_normal(9).astype(np.float32) for k in members})
        effects.add(updates[-1])
    labels, parts, last = effects.fit()
    rows, wanted = [], []
    for number, one in enumerate(updates):
        for label, update in one.items():
            row = np.zeros(len(labels) + len(updates))
            row[labels.index(label)] = row[len(labels) + number] = 1
            rows.append(row)
            wanted.append(unit(update))
    expected = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    middle = expected[: len(labels)].mean(axis=0)
    np.testing.assert_allclose(parts, expected[: len(labels)] - middle, atol=1e-5)
    np.testing.assert_allclose(last, expected[-1] + middle, atol=1e-5)


def test_what_a_round_has_in_common_is_no_clients():
    rng = np.random.default_rng(2)
    true = 0.05 * rng.standard_normal((6, 40))
    effects = Effects(40)
    for members in seen(rng, 6, 12, 3):
        way = unit(rng.standard_normal(40))
        effects.add({f"c{k}": way + true[k] for k in members})
    _, parts, _ = effects.fit()
    for part, own in zip(parts, true - true.mean(axis=0), strict=True):
        assert part @ own > 0.7 * np.linalg.norm(part) * np.linalg.norm(own)


def test_sums_are_taken_up_again_to_the_bit(tmp_path):
    rng = np.random.default_rng(3)
    effects = Effects(5)
    for members in seen(rng, 5, 4, 3):
        effects.add({f"c{k}": rng.standard_normal(5) for k in members})
    kept = Checkpoints(tmp_path)
    kept.save(4, vars(effects))
    again = Effects(**kept.load().state)
    later = {f"c{k}": rng.standard_normal(5) for k in (0, 3)}
    effects.add(later)
    again.add(later)
    for one, other in zip(effects.fit(), again.fit(), strict=True):
        np.testing.assert_array_equal(one, other)
