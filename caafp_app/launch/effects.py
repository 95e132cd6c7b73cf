"""Settings that change nothing in a run: a note for each, so that nobody waits for their effect."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from caafp_app.settings import Settings
from caafp_app.settings.knob import key_of


@dataclass(frozen=True)
class Idle:
    """Settings that have no effect where `holds`, and why, in words."""

    keys: tuple[str, ...]
    why: str
    holds: Callable[[Settings], bool]


IDLE = (
    Idle(
        ("partition-alpha",),
        "partition is not dirichlet",
        lambda s: s.data.partition != "dirichlet",
    ),
    Idle(("shards-per-client",), "partition is not shards", lambda s: s.data.partition != "shards"),
    Idle(
        ("synthetic-users", "synthetic-groups", "synthetic-windows"),
        "dataset is not synthetic",
        lambda s: s.data.dataset != "synthetic",
    ),
    Idle(
        ("input-shape", "classes", "channels", "sampling-rate"),
        "dataset is not folder",
        lambda s: s.data.dataset != "folder",
    ),
    Idle(
        ("data-dir",),
        "dataset does not read it",
        lambda s: s.data.dataset in ("synthetic", "digits", "folder"),
    ),
    Idle(
        ("data-seed",),
        "nothing is made or dealt out by it",
        lambda s: s.data.dataset != "synthetic" and s.data.partition == "natural",
    ),
    Idle(
        ("schedule", "prune-every", "allocation", "score", "regrow", "spare-layers"),
        "sparsity is 0",
        lambda s: s.pruning.sparsity == 0,
    ),
    Idle(
        ("finetune-dense",),
        "no weight is masked",
        lambda s: s.pruning.sparsity == 0 and s.pruning.levels == "1",
    ),
    Idle(("schedule",), "sparsity is auto", lambda s: s.pruning.sparsity == "auto"),
    Idle(
        ("schedule",),
        "initial-sparsity is as high as sparsity",
        lambda s: s.pruning.initial_sparsity == s.pruning.sparsity,
    ),
    Idle(
        ("schedule", "prune-every", "score", "regrow"),
        "prune-rounds is 0: masks do not change",
        lambda s: s.rounds.prune_rounds == 0,
    ),
    Idle(
        ("score",),
        "prune-every is 1, and clients choose by the rounds between two mask updates",
        lambda s: s.pruning.score == "auto" and s.pruning.prune_every == 1,
    ),
    Idle(("tolerance",), "sparsity is not auto", lambda s: s.pruning.sparsity != "auto"),
    Idle(
        ("initial-mask",),
        "initial-sparsity is 0: the first model is dense",
        lambda s: s.pruning.initial_sparsity == 0,
    ),
    Idle(
        ("regrow",), "whole filters do not grow back", lambda s: s.pruning.granularity == "filter"
    ),
    Idle(
        ("finetune-learning-rate", "finetune-dense"),
        "finetune-epochs is 0",
        lambda s: s.train.finetune_epochs == 0,
    ),
    Idle(("cluster-floor",), "there is one cluster", lambda s: s.clustering.clusters == 1),
    Idle(("deadline",), "levels has one level alone", lambda s: "," not in s.pruning.levels),
    Idle(
        ("round-timeout",),
        "engine is batched, whose clients are never late",
        lambda s: s.run.engine == "batched",
    ),
)


def without_effect(
    settings: Settings,
    unused: tuple[str, ...] = (),
    clients: int | None = None,
    given: Collection[str] | None = None,
) -> list[str]:
    """Return a note for each setting that differs from its default and changes nothing.

    `unused` are settings that the strategy has no argument for. Where `given` names what the user
    said, settings of a preset are left out.
    """
    changed = [key for key in settings.changes() if given is None or key in given]
    notes = []
    seen: set[str] = set()
    why = f"strategy {settings.run.strategy!r} has no argument for it"
    for idle in (Idle(unused, why, lambda s: True), *IDLE):
        keys = [key for key in idle.keys if key in changed and key not in seen]
        if keys and idle.holds(settings):
            seen.update(keys)
            verb = "has" if len(keys) == 1 else "have"
            notes.append(f"{', '.join(keys)} {verb} no effect: {idle.why}")
    rounds = settings.rounds
    twice = settings.run.strategy_arguments.keys() & {
        key.replace("-", "_") for key in settings.to_dict()
    }
    notes += [f"{key_of(name)} in strategy-args goes before the setting" for name in sorted(twice)]
    if (
        clients is not None
        and rounds.clients_per_round > clients
        and "clients-per-round" in changed
    ):
        notes.append(
            f"clients-per-round={rounds.clients_per_round} has the effect of {clients}: there are "
            "no more clients"
        )
    if rounds.average_last > rounds.total and "average-last" in changed:
        notes.append(
            f"average-last={rounds.average_last} has the effect of {rounds.total}: there are no "
            "more rounds"
        )
    if 0 < rounds.total < settings.run.checkpoint_every:
        notes.append(
            f"checkpoint-every={settings.run.checkpoint_every} saves after the last of the "
            f"{rounds.total} rounds alone"
        )
    return notes
