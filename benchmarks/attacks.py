"""What liars among the clients do to the honest ones' models and masks, by attack and aggregation.

    python -m benchmarks.attacks [--seeds N] [--clients N] [--only TEXT] [--full] [--json PATH]

See README.md for what is measured and how.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from logging import CRITICAL, getLogger
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.echo import EchoGrid
from benchmarks.report import Report, Row, Target, median, parser
from caafp_app import CAAFP, current_mask, sparse_mod
from caafp_app.errors import CaafpError
from caafp_app.protocol.messages import Request, is_ours
from caafp_app.strategies import Clustering, Pruning

ROUNDS, WARMUP, WITHIN = 12, 3, 3
SPARSITY, EVERY = 0.8, 2
HIDDEN, CLASSES = 48, 10
EPOCHS, BATCH, RATE = 3, 16, 0.3
TEST = 500
"""Images that nobody trains on; every client is scored on them."""
IMPORTANT = 0.05
MANY = 10**9

Model = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Scene:
    """What a liar has before it: all it can know in a round.

    Attributes
    ----------
    received, update : dict of ndarray
        The model it was sent, and the update that honest training would give.
    allies : list of dict
        The honest updates of all liars, this one's first: they share what they know.
    round, phase : int, str
        As the server says.
    rng : Generator
    """

    received: Model
    update: Model
    allies: list[Model]
    round: int
    phase: str
    rng: np.random.Generator


@dataclass(frozen=True)
class Attack:
    """What the liars do.

    Attributes
    ----------
    name : str
    lie : callable
        The update that is sent in place of the honest one.
    share : float
        Share of the clients that lie.
    claims : int
        How many examples a liar says it has; 0: the truth.
    flips : bool
        Whether it trains on wrong labels.
    groups : int
        Kinds of clients in the data, and clusters.
    """

    name: str
    lie: Callable[[Scene], Model] = lambda scene: scene.update
    share: float = 0.1
    claims: int = 0
    flips: bool = False
    groups: int = 1


def reverse(times: float) -> Callable[[Scene], Model]:
    """Send the honest update backwards, so many times as long."""
    return lambda scene: _times(scene.update, -times)


def erase_first(scene: Scene) -> Model:
    """Turn the model round in round 1; be honest afterwards."""
    return _times(scene.received, -9.0) if scene.round == 1 else scene.update


def empty_largest(scene: Scene) -> Model:
    """Push the largest weights far beyond zero and the others away from it, to steer the masks."""
    sent = {}
    for name, weights in scene.received.items():
        sent[name] = scene.update[name].copy()
        if weights.ndim == 2:
            large = np.abs(weights) >= np.quantile(np.abs(weights), 0.95)
            sent[name] = np.where(large, -weights, np.sign(weights) * np.abs(weights).max())
    return _as_long(sent, scene.update, 9.0)


def shake(scene: Scene) -> Model:
    """Move back and forth where weights are large: no mean moves, variance and signs do."""
    way = 1.0 if scene.round % 2 else -1.0
    return {
        name: (way * 3.0 * np.abs(scene.update[name]).max() * np.sign(w)).astype(w.dtype)
        if w.ndim == 2
        else scene.update[name]
        for name, w in scene.received.items()
    }


def noise(scene: Scene) -> Model:
    """Send noise, ten times as long as the honest update."""
    sent = {name: scene.rng.normal(size=part.shape) for name, part in scene.update.items()}
    return _as_long(sent, scene.update, 10.0)


def little(scene: Scene) -> Model:
    """Stay within the spread of the honest updates, all to one side (Baruch et al., 2019)."""
    sent = {}
    for name in scene.update:
        stack = np.stack([ally[name] for ally in scene.allies])
        sent[name] = (stack.mean(0) - 1.5 * stack.std(0)).astype(scene.update[name].dtype)
    return sent


def against_inner_product(scene: Scene) -> Model:
    """Send the liars' mean backwards, twice as long as honest updates usually are."""
    mean = {n: np.mean([ally[n] for ally in scene.allies], axis=0) for n in scene.update}
    return _as_long(_times(mean, -1.0), scene.update, 2.0)


def unnoticed(scene: Scene) -> Model:
    """Go as far against the others as the rule lets pass; all liars add the same noise."""
    own = [np.concatenate([part.ravel() for part in ally.values()]) for ally in scene.allies]
    units = [part / max(float(np.linalg.norm(part)), 1e-12) for part in own]
    together = np.mean(units, axis=0)
    long = float(np.linalg.norm(together))
    # The mean of the units has the mean cosine as its square; an honest update agrees with it by
    # about `agree` / `long`, and half of `agree` is noticed.
    agree = (len(units) * long**2 - 1) / max(len(units) - 1, 1)
    against = 0.3 * long if agree > 0 else 1.0
    noise = np.random.default_rng(scene.round).normal(size=together.size)
    noise *= math.sqrt(1 - against**2) / np.linalg.norm(noise)
    sent = noise - against * together / max(long, 1e-12)
    cuts = np.cumsum([part.size for part in scene.update.values()])[:-1]
    parts = zip(scene.update, np.split(sent, cuts), strict=True)
    return _as_long({n: part.reshape(scene.update[n].shape) for n, part in parts}, scene.update, 9)


def only_clustering(scene: Scene) -> Model:
    """Lie only where clients are compared."""
    return _times(scene.update, -9.0) if scene.phase == "cluster" else scene.update


def fail(scene: Scene) -> Model:
    """Send an error in place of an update; the honest ones are then simply one fewer."""
    raise RuntimeError("this client does not work")


ATTACKS = (
    Attack("1 of 10 always fails", fail),
    Attack("1 of 10 reversed, x 9", reverse(9.0)),
    Attack("1 of 10 reversed, x 9, claims 10^9 examples", reverse(9.0), claims=MANY),
    Attack("1 of 10, round 1 only: -9 x the model", erase_first),
    Attack("3 of 10 reversed, x 9", reverse(9.0), share=0.3),
    Attack("1 of 10 empties the largest weights, claims 10^9", empty_largest, claims=MANY),
    Attack("1 of 10 shakes variance and signs", shake),
    Attack("1 of 10 reversed, x 2", reverse(2.0)),
    Attack("1 of 10 reversed, x 1000", reverse(1000.0)),
    Attack("1 of 10 sends noise", noise),
    Attack("3 of 10 train on wrong labels", flips=True, share=0.3),
    Attack("3 of 10 train on wrong labels, x 9", reverse(-9.0), flips=True, share=0.3),
    Attack("3 of 10 against the inner product", against_inner_product, share=0.3),
    Attack("3 of 10 within the spread", little, share=0.3),
    Attack("3 of 10 unnoticed, claim 10^9", unnoticed, share=0.3, claims=MANY),
    Attack("2 of 10 lie in the clustering only", only_clustering, share=0.2, groups=2),
)

HONEST = Attack("honest", share=0.0)


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    accuracy : float
        Mean over the honest clients of their cluster's model.
    models, masks : dict
        By the label of each honest client.
    failed : str
        Why the run ended early; empty if it did not.
    """

    accuracy: float
    models: dict[str, Model]
    masks: dict[str, Model]
    failed: str = ""


class Client:
    """The data of one client, and its training: a small network in numpy.

    All of one kind of clients are scored on the same images.
    """

    def __init__(self, part: int, clients: int, seed: int, groups: int) -> None:
        images, digits = _digits()
        order = np.random.default_rng([seed, 1]).permutation(len(digits))
        if groups > 1:  # the kinds of clients call the same digits by other names
            digits = np.random.default_rng([seed, 2, part % groups]).permutation(CLASSES)[digits]
        self.test = images[order[:TEST]], digits[order[:TEST]]
        # Unequal amounts, as among real people.
        own = order[TEST:][part::clients]
        own = own[: int(len(own) * (0.4 + 0.6 * ((7 * part) % clients) / clients))]
        self.train = images[own], digits[own]
        self.words = [seed, part]

    def update(self, model: Model, round_: int, masks: Model | None, *, flips: bool) -> Model:
        """Train inside the masks and return what that changed."""
        images, digits = self.train
        if flips:
            digits = (digits + 1) % CLASSES
        now = {name: part.astype(np.float64) for name, part in model.items()}
        rng = np.random.default_rng([*self.words, round_])
        for _ in range(EPOCHS):
            order = rng.permutation(len(digits))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                for name, slope in _slopes(now, images[batch], digits[batch]).items():
                    kept = slope if masks is None or name not in masks else slope * masks[name]
                    now[name] -= RATE * kept
        return {name: (now[name] - part).astype(part.dtype) for name, part in model.items()}

    def accuracy(self, model: Model) -> float:
        """Score a model on the images that nobody trains on."""
        images, digits = self.test
        return float((_logits(model, images)[0].argmax(1) == digits).mean())


def make_app(attack: Attack, liars: Sequence[int], clients: Sequence[Client]) -> ClientApp:
    """Build the app that all nodes run; a node lies if its part is among `liars`."""
    phase = ""

    def note_phase(message: Message, context: Context, call: ClientAppCallable) -> Message:
        nonlocal phase
        if message.has_content() and is_ours(message.content):
            phase = Request.from_records(message.content).phase
        return call(message, context)

    app = ClientApp(mods=[note_phase, sparse_mod])

    def received(message: Message) -> Model:
        record = next(iter(message.content.array_records.values()))
        return {name: array.numpy() for name, array in record.items()}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        part = int(context.node_config["partition-id"])
        model, masks = received(message), current_mask(context)
        round_ = int(message.content.config_records["config"].get("server-round", 0))  # type: ignore[arg-type]

        def honest(who: int) -> Model:
            lies = who in liars and attack.flips
            return clients[who].update(model, round_, masks, flips=lies)

        update, examples = honest(part), len(clients[part].train[1])
        if part in liars:
            allies = [update, *(honest(who) for who in liars if who != part)]
            rng = np.random.default_rng([part, round_])
            update = attack.lie(Scene(model, update, allies, round_, phase, rng))
            examples = attack.claims or examples
        trained = {n: (w + update[n]).astype(w.dtype) for n, w in model.items()}
        metrics = MetricRecord({"num-examples": examples, "train_loss": 0.0})
        content = RecordDict({"arrays": ArrayRecord(_torchless(trained)), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client = clients[int(context.node_config["partition-id"])]
        score = client.accuracy(received(message))
        metrics = MetricRecord({"num-examples": len(client.test[1]), "accuracy": score})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def hold(attack: Attack, aggregation: str, seed: int, count: int, robust: bool) -> Outcome:
    """Run once; who lies is drawn by the seed."""
    clients = [Client(part, count, seed, attack.groups) for part in range(count)]
    drawn = np.random.default_rng([seed, 3]).permutation(count)
    liars = sorted(int(part) for part in drawn[: round(attack.share * count)])
    strategy = CAAFP(
        seed=seed,
        fraction_evaluate=0.0,
        warmup_rounds=WARMUP,
        cluster_rounds=WITHIN,
        prune_rounds=ROUNDS - WARMUP - WITHIN,
        clustering=Clustering(clusters=attack.groups),
        pruning=Pruning(sparsity=SPARSITY, every=EVERY),
        personalise=False,
        aggregation=aggregation,
        **_bounds(robust),
    )
    grid = EchoGrid(make_app(attack, liars, clients), count)
    try:
        result = strategy.start(grid, ArrayRecord(_torchless(initial(seed))), num_rounds=ROUNDS)
    except CaafpError as error:
        return Outcome(0.0, {}, {}, str(error))
    honest = {f"part-{part:04d}": clients[part] for part in range(count) if part not in liars}
    models, masks, scores = {}, {}, []
    for cluster in result.clusters.values():
        model = {name: array.numpy() for name, array in cluster.arrays.items()}
        for label in cluster.members:
            if label in honest:
                models[label], masks[label] = model, dict(cluster.mask)
                scores.append(honest[label].accuracy(model))
    return Outcome(float(np.mean(scores)), models, masks)


def compare(honest: Outcome, attacked: Outcome, absent: Outcome) -> tuple[float, float, float]:
    """Return what became of the honest run's most important weights, and the masks' overlap.

    Important are the `IMPORTANT` largest weights of a client's cluster in the honest run: the share
    of them that is pruned; the share that is pruned, and would be kept if the liars sent nothing
    (`absent`); overlap with the honest run's masks. Means over the clients that are honest in the
    attacked run; NaN for a run that failed.
    """
    found = []
    for label, masks in attacked.masks.items():
        size, *bits = (
            np.concatenate([part[name].ravel() for name in masks])
            for part in (honest.models[label], masks, absent.masks[label], honest.masks[label])
        )
        kept, without, usual = (part.astype(bool) for part in bits)
        important = np.abs(size) >= np.quantile(np.abs(size), 1 - IMPORTANT)
        pruned = important & ~kept
        overlap = (kept & usual).sum() / max((kept | usual).sum(), 1)
        found.append((*(x.sum() / important.sum() for x in (pruned, pruned & without)), overlap))
    if not found:
        return float("nan"), float("nan"), float("nan")
    pruned, blamed, overlap = np.mean(found, axis=0)
    return float(pruned), float(blamed), float(overlap)


def measure(
    attacks: Sequence[Attack],
    aggregations: Sequence[str],
    seeds: Sequence[int],
    count: int,
    robust: bool = True,
) -> Report:
    """Run every attack under every aggregation with every seed, beside the honest runs."""
    report = Report(
        "attacks",
        f"{count} clients, {ROUNDS} rounds, digits, sparsity {SPARSITY}; medians of {len(seeds)} "
        "seeds",
        {
            "attack": "attack",
            "aggregation": "aggregation",
            "accuracy": "accuracy, %",
            "below": "below honest",
            "worst": "worst seed",
            "pruned": f"of the top {IMPORTANT:.0%} pruned, %",
            "blamed": "because of the liars, %",
            "overlap": "masks' overlap",
            "failed": "runs that failed",
        },
    )

    @cache
    def without(share: float, groups: int, aggregation: str, seed: int) -> Outcome:
        """Run while this share of the clients fails; none: the honest run."""
        failing = Attack("some fail", fail, share=share, groups=groups)
        return hold(failing, aggregation, seed, count, robust)

    for attack in (HONEST, *attacks):
        for aggregation in aggregations:
            usual, absent = (
                [without(share, attack.groups, aggregation, seed) for seed in seeds]
                for share in (0.0, attack.share)
            )
            if attack is HONEST or attack.lie is fail:
                found = absent
            else:
                found = [hold(attack, aggregation, seed, count, robust) for seed in seeds]
            report.rows.append(_row(attack, aggregation, usual, found, absent))
    report.notes = [
        "accuracy: of the honest clients' cluster models on images that nobody trains on; below "
        "honest: points lost against the same run without liars, aggregation and seed alike",
        f"pruned: of the largest {IMPORTANT:.0%} of the honest run's weights; by chance "
        f"{SPARSITY:.0%} of them would be; because of the liars: those that would be kept if the "
        "liars sent nothing",
    ]
    if aggregations[0] == "mean":
        one = [row for row in report.rows if row["aggregation"] == "mean" and row["one"]]
        if one:
            blamed = max(row["blamed"] for row in one)
            report.targets = [
                Target("points lost to one liar of ten, mean", max(r["worst"] for r in one), 3.0),
                Target("of the most important weights pruned by it", blamed, 10.0, "%"),
            ]
        if three := [row["worst"] for row in report.rows if row["three"]]:
            most = Target("points lost to three liars of ten, mean", max(three), 12.0)
            report.targets.append(most)
    return report


def _row(
    attack: Attack,
    aggregation: str,
    usual: Sequence[Outcome],
    found: Sequence[Outcome],
    absent: Sequence[Outcome],
) -> Row:
    losses = [
        100 * (before.accuracy - after.accuracy) for before, after in zip(usual, found, strict=True)
    ]
    compared = [compare(*runs) for runs in zip(usual, found, absent, strict=True)]
    pruned, blamed, overlap = (
        median([value for value in part if not np.isnan(value)])
        for part in zip(*compared, strict=True)
    )
    return {
        "attack": attack.name,
        "aggregation": aggregation,
        "accuracy": round(100 * median([after.accuracy for after in found]), 1),
        "below": round(median(losses), 1),
        "worst": round(max(losses), 1),
        "pruned": round(100 * pruned, 1),
        "blamed": round(100 * blamed, 1),
        "overlap": round(overlap, 2),
        "failed": sum(bool(after.failed) for after in found),
        "one": 0 < attack.share <= 0.1,
        "three": attack.share > 0.2 and aggregation == "mean",
        "losses": losses,
        "reasons": sorted({after.failed for after in found if after.failed}),
    }


def initial(seed: int) -> Model:
    """Draw the initial weights."""
    rng = np.random.default_rng([seed, 4])
    first = rng.normal(0, np.sqrt(2 / 64), (64, HIDDEN))
    second = rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, CLASSES))
    return {
        "hidden.weight": first.astype(np.float32),
        "hidden.bias": np.zeros(HIDDEN, np.float32),
        "out.weight": second.astype(np.float32),
        "out.bias": np.zeros(CLASSES, np.float32),
    }


@cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    data = load_digits()
    return data.data / 16.0, data.target


def _logits(model: Model, images: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    hidden = np.maximum(images @ model["hidden.weight"] + model["hidden.bias"], 0)
    return hidden @ model["out.weight"] + model["out.bias"], hidden


def _slopes(model: Model, images: NDArray[Any], digits: NDArray[Any]) -> Model:
    logits, hidden = _logits(model, images)
    wrong = np.exp(logits - logits.max(1, keepdims=True))
    wrong /= wrong.sum(1, keepdims=True)
    wrong[np.arange(len(digits)), digits] -= 1
    wrong /= len(digits)
    back = (wrong @ model["out.weight"].T) * (hidden > 0)
    return {
        "hidden.weight": images.T @ back,
        "hidden.bias": back.sum(0),
        "out.weight": hidden.T @ wrong,
        "out.bias": wrong.sum(0),
    }


def _times(update: Model, factor: float) -> Model:
    return {name: (factor * part).astype(part.dtype) for name, part in update.items()}


def _as_long(sent: Model, update: Model, times: float) -> Model:
    """Make `sent` so many times as long as `update`."""
    long = np.sqrt(sum(float((part.astype(float) ** 2).sum()) for part in sent.values()))
    wanted = times * np.sqrt(
        sum(float((part.astype(float) ** 2).sum()) for part in update.values())
    )
    scale = wanted / long if long else 0.0
    return {n: (scale * part).astype(update[n].dtype) for n, part in sent.items()}


def _torchless(model: Model) -> Any:
    from caafp_app.protocol.arrays import to_array

    return {name: to_array(name, part) for name, part in model.items()}


def _bounds(robust: bool) -> dict[str, Any]:
    """Return the strategy's argument that bounds a client's influence."""
    return {"robust": robust}


def main() -> None:
    """Measure and print."""
    made = parser("Run attacks on the aggregation, in this process.", full="five seeds, not two")
    made.add_argument("--seeds", type=int, help="how many seeds, from 1")
    made.add_argument("--clients", type=int, default=10, help="how many clients")
    made.add_argument("--only", default="", help="attacks with this text in their names")
    made.add_argument("--aggregations", default="mean,trimmed-mean,median", help="by commas")
    made.add_argument("--no-bounds", action="store_true", help="without the rule of influence")
    asked = made.parse_args()
    for name in ("flwr", "caafp_app"):
        getLogger(name).setLevel(CRITICAL)
    report = measure(
        [attack for attack in ATTACKS if asked.only in attack.name],
        asked.aggregations.split(","),
        range(1, 1 + (asked.seeds or (5 if asked.full else 2))),
        asked.clients,
        not asked.no_bounds,
    )
    report.finish(asked.json)


if __name__ == "__main__":
    main()
