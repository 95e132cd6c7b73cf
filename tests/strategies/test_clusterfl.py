"""ClusterFL against ADMM on matrices, with clients whose problem has an exact solution."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from caafp_app.clustering.admm import Penalties
from caafp_app.errors import SettingsError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.messages import from_record, to_record
from caafp_app.protocol.mod import sparse_mod
from caafp_app.protocol.objective import CENTRE_WEIGHT, OWN, option
from caafp_app.runner.model import SparseModel
from caafp_app.runs.checkpoint import Saved
from caafp_app.server_app import initial_arrays
from caafp_app.strategies import Clustering, FedCHAR
from caafp_app.strategies.clusterfl import ClusterFL
from tests.local_grid import LocalGrid
from tests.strategies import numpy_app
from tests.strategies.support import Snapshots, members_of, nodes, prepare
from tests.strategies.trial import Trial

COUNT, WIDTH = 6, 8  # values of which the last three are not prunable
ALPHA, BETA, RHO = 0.3, 0.15, 1.0
KEPT = "kept"


def start() -> dict[str, np.ndarray]:
    values = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    return {"w": values[:5].reshape(1, 5), "b": values[5:]}


def targets() -> np.ndarray:
    """Where each client's own loss is least [COUNT, WIDTH]: clients k and k + 2 are alike."""
    rng = np.random.default_rng(2)
    groups = rng.normal(size=(2, WIDTH)) * 2
    return groups[np.arange(COUNT) % 2] + rng.normal(size=(COUNT, WIDTH)) * 0.3


def flat(arrays: Any) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).ravel() for name in "wb"])


def named(vector: np.ndarray) -> dict[str, np.ndarray]:
    values = vector.astype(np.float32)
    return {"w": values[:5].reshape(1, 5), "b": values[5:]}


def solver(seen: list[tuple[int, set[str]]] | None = None) -> ClientApp:
    """Client k minimises |w - t_k|^2 / 2 + mu / 2 |w - z|^2 exactly, and keeps w."""
    app = ClientApp(mods=[sparse_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        if seen is not None:
            seen.append((part, set(message.content.array_records)))
        mu, received = option(message.content, CENTRE_WEIGHT), message.content["arrays"]
        point = flat(from_record(message.content, "arrays"))
        if not mu:  # to personalise
            return answer(message, {name: array.numpy() for name, array in received.items()})
        source = message.content if OWN in message.content else context.state
        own = flat(from_record(source, OWN))
        solved = (targets()[part] + mu * point) / (1 + mu)
        context.state[OWN] = to_record(named(solved))
        return answer(message, named(point + solved - own))

    return app


def answer(message: Message, arrays: dict[str, np.ndarray]) -> Message:
    metrics = MetricRecord({"num-examples": 10, "accuracy": 0.5})
    return Message(RecordDict({"arrays": to_record(arrays), "metrics": metrics}), reply_to=message)


def trial(
    rounds: int, seen: list[tuple[int, set[str]]] | None = None, tamper: Any = None, **terms: Any
) -> Trial:
    usual = {"clustering": Clustering(2), "every": 2, "penalties": Penalties(ALPHA, BETA, RHO)}
    usual |= {"kind": ClusterFL, "configs": COUNT, "one_exchange": True}
    return Trial(tamper, app=solver(seen), rounds=rounds, **{**usual, **terms})


def reference(rounds: int) -> np.ndarray:
    """All clients in each round; one cluster in rounds 1 and 2, the two groups after them."""
    w = np.tile(flat(start()), (COUNT, 1))
    f = np.full((COUNT, 1), COUNT**-0.5)
    omega, u = f.T @ w, -2 * BETA * f.T @ w
    for number in range(1, rounds + 1):
        if number == 3:
            f = (np.arange(COUNT)[:, None] % 2 == np.arange(2)) / np.sqrt(COUNT / 2)
            omega, u = f.T @ w, -2 * BETA * f.T @ w
        elif number > 1:
            omega = (RHO * f.T @ w + u) / (RHO - 2 * BETA)
            u = u + RHO * (f.T @ w - omega)
        joint, new = f.T @ w, w.copy()
        for i in range(COUNT):
            square = ALPHA + RHO / 2 * (f[i] ** 2).sum()
            linear = sum(
                f[i, j] * (u[j] + RHO * (joint[j] - f[i, j] * w[i] - omega[j]))
                for j in range(f.shape[1])
            )
            # |w - t|^2 / 2 + square |w|^2 + <linear, w> is least where its gradient is zero.
            new[i] = (targets()[i] - linear) / (1 + 2 * square)
        w = new
    return w


def models(ended: Trial) -> np.ndarray:
    """Each client's own model after the last round, by label."""
    last = max(ended.kept.states)
    numbers, found = ended.kept.states[last]["method"]["numbers"], ended.kept.models(last)
    rows = [found[numbers[label]] for label in sorted(numbers)]
    return np.stack([np.concatenate([m["weights"], m["rest"]]) for m in rows])


@pytest.mark.parametrize("rounds", [1, 2, 3, 6])
def test_rounds_are_admm_on_the_matrices(rounds: int) -> None:
    ended = trial(rounds).start(to_record(start()))
    np.testing.assert_allclose(models(ended), reference(rounds), atol=2e-5)
    # Numbered by label, for nodes answer in an order that no seed decides.
    numbers = ended.kept.states[rounds]["method"]["numbers"]
    assert numbers == {f"part-{k:04d}": k for k in range(COUNT)}
    clusters = ended.result.clusters
    groups = [set(cluster.members) for cluster in clusters.values()]
    both = [{f"part-{k:04d}" for k in range(g, COUNT, 2)} for g in (0, 1)]
    assert groups == (both if rounds > 2 else [both[0] | both[1]])
    for number, cluster in clusters.items():
        mean = reference(rounds)[number::2] if rounds > 2 else reference(rounds)
        arrays = {name: array.numpy() for name, array in cluster.arrays.items()}
        np.testing.assert_allclose(flat(arrays), mean.mean(axis=0), atol=2e-5)


def test_only_sampled_clients_train_and_a_model_travels_down_once() -> None:
    seen: list[tuple[int, set[str]]] = []
    ended = trial(6, seen, clients_per_round=2, every=100).start(to_record(start()))
    met: set[int] = set()
    for part, records in seen:
        assert (OWN in records) == (part not in met)
        met.add(part)
    assert len(seen) == 12
    assert met < set(range(COUNT)), "a client has to be left out for this to be a test"
    moved = (models(ended) != flat(start()).astype(np.float32)).any(axis=1)
    assert set(np.flatnonzero(moved)) == met


def test_a_client_that_lost_its_state_is_sent_its_model_in_the_same_round() -> None:
    seen: list[tuple[int, set[str]]] = []
    setup = trial(5, seen)
    lost = list(setup.grid.contexts)[1]
    setup.seen.at[3, "train"] = lambda: setup.grid.contexts[lost].state.clear()
    calm = trial(5).start(to_record(start()))
    ended = setup.start(to_record(start()))
    np.testing.assert_allclose(models(ended), models(calm), atol=1e-6)
    assert [part for part, records in seen if OWN in records] == [*range(COUNT), 1]


@pytest.mark.parametrize(("lost", "used"), [(1, True), (3, False)])
def test_lost_replies_leave_the_server_and_the_clients_of_one_mind(lost: int, used: bool) -> None:
    """With too few replies, those who answered in vain are sent what the server has, too."""
    seen: list[tuple[int, set[str]]] = []

    def tamper(request: Message, reply: Message) -> Message | None:
        gone = request.content.config_records["caafp"]["round"] == 2
        gone = gone and request.metadata.dst_node_id in list(setup.grid.contexts)[:lost]
        return None if gone else reply

    setup = trial(3, seen, tamper, min_replies=4, timeout=0.3)
    ended = setup.start(to_record(start()))
    assert [r.used for r in ended.seen.rounds if r.phase == "train"] == [True, used, True]
    again = range(lost if used else COUNT)
    assert [part for part, records in seen if OWN in records] == [*range(COUNT), *again]
    held = [flat(from_record(context.state, OWN)) for context in setup.grid.contexts.values()]
    np.testing.assert_allclose(models(ended), held, atol=1e-6)


def test_a_client_that_comes_only_after_the_last_round_is_known() -> None:
    first = trial(3, configs=nodes(COUNT)[:5]).start(to_record(start()))
    seen: list[tuple[int, set[str]]] = []
    resume = Saved(3, first.kept.states[3])
    ended = trial(3, seen, personalise=True).start(to_record(start()), resume=resume)
    assert sum(len(cluster.members) for cluster in ended.result.clusters.values()) == COUNT
    assert [part for part, _ in seen] == list(range(COUNT))


def test_late_clients_start_from_the_common_weights() -> None:
    setup = trial(4)
    setup.grid.offline.add(list(setup.grid.contexts)[5])
    setup.seen.at[1, "train"] = lambda: setup.grid.offline.clear()
    ended = setup.start(to_record(start()))
    assert len(models(ended)) == COUNT
    assert set(members_of(ended.result).values()) == {0, 1}


def test_an_app_that_keeps_no_model_and_too_many_clusters_are_refused() -> None:
    grid = LocalGrid(numpy_app.make_app(), nodes(4))
    for kind in (ClusterFL, FedCHAR):
        with pytest.raises(SettingsError, match=f"{kind.__name__}: expected a ClientApp"):
            kind().start(grid, numpy_app.initial(), num_rounds=4)
    few = trial(2, configs=4, clustering=Clustering(5))
    with pytest.raises(SettingsError, match=r"at most the 4 clients .* found 5"):
        few.start(to_record(start()))
    assert not few.worked()
    assert {m.content.config_records["caafp"]["action"] for m in grid.requests} == {"describe"}


def test_our_own_app_trains_its_own_model_and_scores_that() -> None:
    setup = prepare({"strategy": "clusterfl", "strategy-args": "every=2", "local-epochs": 2})
    kept = setup.strategy.checkpoints = Snapshots()
    done = setup.start()
    layout = Layout.of(initial_arrays(done.settings))
    numbers = kept.states[8]["method"]["numbers"]
    holding = 0
    for node, label in done.label_of.items():
        state = done.grid.contexts[node].state
        if OWN not in {name.removeprefix("caafp.") for name in state}:
            continue  # never sampled
        holding += 1
        model = SparseModel.from_state(layout, kept.models(8)[numbers[label]])
        own = from_record(state, f"caafp.{OWN}")
        for name, array in model.arrays().items():
            np.testing.assert_allclose(array, own[name], atol=1e-6)
    assert holding > 3
    # What is scored in a round is the client's model: the point it is drawn to is far smaller.
    scores = [r.loss for r in done.seen.rounds if r.phase == "train"]
    assert scores[-1] < scores[0]
    clients = done.result.report.clients
    for model_ in ("cluster", "personal"):
        assert np.mean([getattr(c, f"{model_}_accuracy") for c in clients]) > 0.3
