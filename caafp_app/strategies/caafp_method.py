"""What one run of CA-AFP knows and decides: models, evidence and masks by cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from caafp_app.protocol.messages import Action
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.levels import parse_levels
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.pruning.staleness import Ages, older
from caafp_app.runner.health import available
from caafp_app.runner.model import MeanUpdate, SparseModel, combine
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, generator
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.clustered import ClusteredMethod
from caafp_app.strategies.deadline import set_paces
from caafp_app.strategies.election import Election
from caafp_app.strategies.fedsnip import ask_saliency
from caafp_app.strategies.levels import Nested
from caafp_app.strategies.masks import Vector
from caafp_app.strategies.sparsity import Sparsity

if TYPE_CHECKING:
    from caafp_app.strategies.caafp import CAAFP


class CAAFPMethod(ClusteredMethod):
    """One run of CA-AFP; the arguments are `CAAFP`'s.

    `sparsity` says how much of each cluster's model is to go; without it, the plan does.
    """

    def __init__(self, args: "CAAFP", model: SparseModel, sparsity: Sparsity | None = None) -> None:
        args.pruning.check(model)
        pruning = args.pruning
        if pruning.initial_sparsity > 0 and pruning.initial_mask != "snip":
            # The largest initial weights by default: a unit that keeps few inputs then keeps the
            # scale of its output.
            saliency = np.abs(model.flat.weights).astype(np.float64)
            if pruning.initial_mask == "random":
                saliency = generator(args.seed, 0, "mask").random(model.layout.weight_count)
            model = pruning.cut(model, saliency)
        nested = Nested(model, parse_levels(pruning.levels), by_filters=pruning.by_filters)
        super().__init__(model, args.clustering, args.seed, nested)
        self.args = args
        self.sparsity = sparsity or Sparsity()
        self.election = Election(pruning, own=args.one_exchange)
        self.targets: dict[int, float] = {}  # by cluster, of the round that goes on
        # By cluster and level, since the last mask update.
        self.evidence: dict[int, dict[int, Evidence]] = {}
        self.ages: dict[int, Ages] = {}  # how long weights are pruned, where that counts

    def facts(self) -> dict[str, object]:
        facts, sharing = super().facts(), self.args.sharing
        if sharing:
            facts["clusters"] = f"{facts['clusters']}, {sharing:.0%} of a move shared"
        return {**facts, "pruning": str(self.args.pruning)}

    def before(self, runner: Runner, step: RoundPlan, newcomers: Sequence[Client]) -> None:
        """Before round 1, let a round's clients say which initial weights matter (SNIP)."""
        pruning = self.args.pruning
        if step.round == 1 and pruning.initial_sparsity > 0 and pruning.initial_mask == "snip":
            dense = self.models[-1]
            clients = self.args.draw(runner.roster.reachable(), 0)
            saliency = ask_saliency(runner, clients, dense)
            self.models = {-1: pruning.cut(dense, saliency)}
            self.nested.choose(-1, self.models[-1], saliency)
        super().before(runner, step, newcomers)
        for number in self.groups.changed:  # it is of the members of before
            self.evidence.pop(number, None)
        # Before the round: its clients are asked for as many gradients as will be regrown.
        sizes = {number: len(members) for number, members in runner.roster.clusters().items()}
        self.targets = {
            number: self.sparsity.target(number, model, step, sizes.get(number, 0))
            for number, model in self.models.items()
            if step.mask_update
        }
        if step.mask_update:
            known = {n: (m, self._known(n, m), self.targets[n]) for n, m in self.models.items()}
            clients = self.args.draw(available(runner.roster.reachable(), step.round), step.round)
            self.election.hold(runner, self.args.seed, step.round, clients, known)

    def ask(self, action: Action, step: RoundPlan, clients: Sequence[Client]) -> list[Query]:
        """Ask for what the next mask update needs besides the update."""
        queries = super().ask(action, step, clients)
        if action is Action.TRAIN:
            pruning = self.args.pruning
            wants = pruning.sums if step.statistics else frozenset()
            queries = [
                replace(
                    query,
                    config={**query.config, **self.sparsity.config},
                    wants=wants,
                    gradients=pruning.gradients_wanted(query.model, self.targets[query.group])
                    if step.gradients
                    else (),
                )
                if query.adds
                else query
                for query in queries
            ]
        return [part for query in queries for part in self.nested.split(query)]

    def hear(self, answers: Answers) -> dict[int, float]:
        """Let the sparsities go by what clients say; return the figure that is watched."""
        self.sparsity.hear(answers, self.models)
        return self.sparsity.watched

    def apply(self, step: RoundPlan, answers: Answers) -> bool:
        """Move the clusters' models, each in part with all; update the masks when it is time."""
        answers = self.groups.learn(answers)
        means: dict[int, MeanUpdate] = {}
        gradients = {}
        for number, summed in groupby(answers.summed, key=lambda one: one.query.group):
            levels = list(summed)
            for one in levels:
                if step.statistics:
                    # How honest replies to one model agree is known from few as well.
                    known = self.evidence.setdefault(number, {})
                    kept = known.setdefault(one.query.level, Evidence(one.update.size))
                    kept.add_round(one.update, one.sums)
                if one.gradient is not None:
                    gradients[number] = one.gradient.mean()
            mean = self.nested.mean(self.models[number], levels) if answers.enough else None
            if mean is not None:
                means[number] = mean
        if self.args.deadline:
            sizes = {n: self.nested.sizes(n, model) for n, model in self.models.items()}
            set_paces(self.args.deadline, self.nested.shares, answers, sizes)
        for number, mean in shared_updates(self.models, means, self.args.sharing).items():
            self.models[number] = self.models[number].moved(mean)
        if not step.mask_update:
            return False
        for number, model in self.models.items():
            self._evolve(number, model, gradients.get(number), self.targets[number])
        self.evidence = {}  # it is of the weights of one mask
        return True

    def _evolve(
        self, number: int, model: SparseModel, gradient: Vector | None, sparsity: float
    ) -> None:
        """Change a cluster's mask, and choose the parts of its levels anew inside of it."""
        known, pruning = self._known(number, model), self.election.winner(number)
        ages = self.ages.get(number, self.ages.get(-1))
        self.models[number] = pruning.evolve(model, known, gradient, sparsity, ages)
        if self.args.pruning.bonus:
            self.ages[number] = older(ages, self.models[number].mask.bits)
        if self.nested:  # a grown weight has no score yet, and is the last to be in a part
            scores = model.mask.scatter(pruning.scores(model, known))
            self.nested.choose(number, self.models[number], scores)

    def _known(self, number: int, model: SparseModel) -> Evidence:
        return self.nested.pooled(number, model, self.evidence.get(number, {}))

    def state(self) -> State:
        evidence = {
            number: {level: one.state() for level, one in sorted(levels.items())}
            for number, levels in self.evidence.items()
        }
        own = {"ages": self.ages, "sparsity": self.sparsity.state(), "evidence": evidence}
        return super().state() | own

    def restore(self, state: State) -> None:
        super().restore(state)
        self.sparsity.restore(state["sparsity"])
        self.ages = {int(number): one for number, one in state["ages"].items()}
        self.evidence = {
            int(number): {int(level): Evidence.from_state(one) for level, one in levels.items()}
            for number, levels in state["evidence"].items()
        }


def shared_updates(
    models: Mapping[int, SparseModel], means: Mapping[int, MeanUpdate], sharing: float
) -> dict[int, MeanUpdate]:
    """Return ``(1 - sharing)`` of each cluster's mean update plus `sharing` of everybody's.

    Everybody's is the mean of the clusters' own updates by their examples in this round, see
    `combine`: a cluster from which nobody replied goes on with the others. With 0 the models are
    apart, with 1 and equal masks they stay one.
    """
    if not sharing or not means or len(models) < 2:
        return dict(means)
    everybody = combine([means[number] for number in sorted(means)])
    return {
        number: means.get(number, MeanUpdate.nothing(model))
        .times(1 - sharing)
        .plus(everybody, sharing)
        for number, model in models.items()
    }
