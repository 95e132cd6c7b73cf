"""Groups that change in the middle of a run: a numpy app whose clients change their group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from caafp_app.runs.checkpoint import Saved
from caafp_app.runs.records import GroupChange, RoundRecord
from caafp_app.strategies import Clustering, Pruning
from tests.strategies import numpy_app
from tests.strategies.support import Recorder, bits_of
from tests.strategies.trial import Trial

CLIENTS, ROUNDS, DRIFT = 12, 30, 11


class World:
    """The group of each client, which changes as the round before `DRIFT` ends."""

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        self.now, self.after = list(before), list(after)

    def windows(self, part: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        truth = np.random.default_rng([7, self.now[part]])
        rng = np.random.default_rng([8, part])
        x = rng.normal(size=(60 + numpy_app.TEST, numpy_app.FEATURES)).astype(np.float32)
        return x, (x @ truth.normal(size=(numpy_app.FEATURES, numpy_app.CLASSES))).argmax(1)

    def drift(self) -> None:
        self.now = self.after


class Seen(Recorder):
    """Keeps the groups after each round."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[int, dict[str, int]] = {}

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        super().on_round(record, total_rounds)
        self.groups[record.round] = dict(self.labels)

    @property
    def changes(self) -> list[tuple[int, GroupChange]]:
        return [(record.round, one) for record in self.rounds for one in record.changes]


def held(world: World, **clustering: Any) -> Seen:
    """Run CA-AFP over a world, eight of twelve clients a round."""
    seen = Seen()
    seen.at = {(DRIFT - 1, "cluster-warm-up"): world.drift}
    trial(seen, world, **clustering).start()
    return seen


def trial(seen: Seen, world: World, **clustering: Any) -> Trial:
    return Trial(
        app=numpy_app.make_app(data=world.windows),
        seen=seen,
        rounds=(6, 4, ROUNDS - 10),
        configs=CLIENTS,
        clustering=Clustering(clusters="auto", **clustering),
        pruning=Pruning(sparsity=0.3, every=5),
        clients_per_round=8,
    )


def index(groups: Mapping[str, int], truth: Sequence[int]) -> float:
    return float(adjusted_rand_score(truth, [groups[label] for label in sorted(groups)]))


THREE = [part % 3 for part in range(CLIENTS)]


def test_clients_that_change_their_group_are_found_again_within_ten_rounds() -> None:
    after = [1, 1, 0, *THREE[3:]]
    seen = held(World(THREE, after))
    assert index(seen.groups[DRIFT - 1], THREE) == 1.0
    assert all(index(seen.groups[round_], after) == 1.0 for round_ in range(DRIFT + 9, ROUNDS + 1))
    assert {(one.what, one.clients) for _, one in seen.changes} == {
        ("move", (f"part-{part:04d}",)) for part in (0, 2)
    }
    assert all(round_ > DRIFT for round_, _ in seen.changes)


def test_where_nothing_drifts_nobody_moves_and_no_byte_is_spent() -> None:
    seen, off = held(World(THREE, THREE)), held(World(THREE, THREE), change=False)
    assert index(seen.labels, THREE) == 1.0
    assert not seen.changes
    assert not Clustering(clusters="auto", change=False).changing
    assert not Clustering(clusters=3, grouping="rounds").changing
    assert [(r.bytes_down, r.bytes_up) for r in seen.rounds] == [
        (r.bytes_down, r.bytes_up) for r in off.rounds
    ]


def test_a_cluster_splits_when_half_of_it_goes_another_way() -> None:
    before = [part % 2 for part in range(CLIENTS)]
    after = [2 if part in (1, 5, 9) else group for part, group in enumerate(before)]
    seen = held(World(before, after))
    assert index(seen.groups[DRIFT - 1], before) == 1.0
    assert index(seen.labels, after) == 1.0
    assert [one.after for _, one in seen.changes if one.what == "split"] == [2]


def test_clusters_merge_when_they_have_become_alike() -> None:
    after = [min(group, 1) for group in THREE]
    seen = held(World(THREE, after))
    assert index(seen.labels, after) == 1.0


def test_a_run_that_is_resumed_changes_the_same() -> None:
    """Cut when one drifted client has been led away once; the next checkpoint has moved it."""
    after = [1, 1, 0, *THREE[3:]]
    world, whole = World(THREE, after), Seen()
    whole.at = {(DRIFT - 1, "cluster-warm-up"): world.drift}
    expected = trial(whole, world).start()
    first = whole.changes[0][0]
    for round_ in (first - 2, first - 1, first):
        seen = Seen()
        resumed = Saved(round_, expected.kept.states[round_])
        found = trial(seen, World(after, after)).start(resume=resumed)
        assert bits_of(found.result) == bits_of(expected.result)
        assert seen.changes == [one for one in whole.changes if one[0] > round_]
