"""CA-AFP: cluster the clients, keep one sparse model per cluster, let its mask evolve.

Jha, Shukla, Lone: arXiv 2603.01739 (2026).
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from caafp_app.errors import SettingsError
from caafp_app.protocol.messages import Action
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.levels import parse_levels
from caafp_app.pruning.schedule import RoundPlan, build_plan
from caafp_app.pruning.staleness import Ages, older
from caafp_app.pruning.tuning import at_most
from caafp_app.runner.health import available
from caafp_app.runner.model import MeanUpdate, SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, generator
from caafp_app.runner.runner import Answers, Runner
from caafp_app.runs.checkpoint import State
from caafp_app.strategies.clustered import ClusteredMethod
from caafp_app.strategies.deadline import Deadline
from caafp_app.strategies.election import Election
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.levels import Levels, Nested
from caafp_app.strategies.masks import Pruning, Vector
from caafp_app.strategies.method import Method
from caafp_app.strategies.rounds import (
    SHORT,
    check_room,
    check_updates,
    default_sparsity,
    divide_rounds,
    early_rounds,
)
from caafp_app.strategies.saliency import ask_saliency
from caafp_app.strategies.sharing import shared_updates
from caafp_app.strategies.sparsity import Sparsity, sparsity_of
from caafp_app.strategies.strategy import MethodStrategy

USUAL_CLUSTERING, USUAL_PRUNING = Clustering(), Pruning()
"""What an argument is if it is left out."""


@dataclass(eq=False, kw_only=True)
class CAAFP(MethodStrategy):
    """Clustered, sparse, personalised federated learning, in place of ``FedAvg(...)``.

    Parameters
    ----------
    warmup_rounds, cluster_rounds, prune_rounds : int, optional
        Rounds of each phase; together `num_rounds`. All left out: see `early_rounds`. Some: the
        others share what is left as 30 : 30 : 40.
    clustering : Clustering
        Number of clusters, linkage, least size. Left out, and no rounds given either: in a run of
        fewer than 10 rounds one cluster, else as the silhouette says.
    pruning : Pruning
        How much is pruned, when, and which weights. Left out, and no rounds given either: less the
        fewer rounds there are, see `default_sparsity`.
    sharing : float
        How much of all clusters' mean update each follows, in [0, 1]; 0: its own alone.
    deadline : float
        Seconds that a round may take a device, which is given a smaller part where it takes longer
        (`Pruning.levels`); 0: none. The other parameters: see `MethodStrategy`.

    Raises
    ------
    SettingsError
        If `sharing` is outside of that.

    Examples
    --------
    >>> strategy = CAAFP(fraction_train=0.5, seed=42)
    >>> result = strategy.start(grid, initial_arrays, num_rounds=50)  # doctest: +SKIP
    """

    warmup_rounds: int | None = None
    cluster_rounds: int | None = None
    prune_rounds: int | None = None
    clustering: Clustering = USUAL_CLUSTERING
    pruning: Pruning = USUAL_PRUNING
    sharing: float = 0.0
    deadline: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0.0 <= self.sharing <= 1.0:
            raise SettingsError(f"sharing: expected a number from 0 to 1, found {self.sharing}")
        if self.clustering.by_rounds and len(parse_levels(self.pruning.levels)) > 1:
            raise SettingsError(
                "clusters: 'auto' compares updates of whole models; expected a number with levels, "
                f"found levels {self.pruning.levels!r}"
            )
        if self.pruning.sparsity == "auto" and len(parse_levels(self.pruning.levels)) > 1:
            raise SettingsError(
                "sparsity: 'auto' compares what clients say of one model; expected a number with "
                f"levels, found levels {self.pruning.levels!r}"
            )
        if len(self.pruning.rivals) > 1 and len(parse_levels(self.pruning.levels)) > 1:
            raise SettingsError(
                "score: 'auto' lets clients try the whole model; expected a sum of scores with "
                f"levels, found levels {self.pruning.levels!r}"
            )
        if self.pruning.sparsity == "entropy" and not self.one_exchange:
            raise SettingsError(
                "sparsity: 'entropy' goes by what the ClientApp of caafp_app says of its labels "
                "(one_exchange=True); expected a number or 'auto' for another app"
            )

    @property
    def cuts_filters(self) -> bool:
        """Whether masks remove whole filters."""
        return self.pruning.by_filters

    def plan(self, num_rounds: int) -> Sequence[RoundPlan]:
        """Divide the rounds among warm-up, cluster warm-up and pruning."""
        given = (self.warmup_rounds, self.cluster_rounds, self.prune_rounds)
        _, pruning = self._fitted(num_rounds)
        if given == (None, None, None):
            parts, every = early_rounds(num_rounds, pruning.every)
            check_updates(parts, pruning)
            return _build(parts, replace(pruning, every=every))
        parts = divide_rounds(num_rounds, *given)
        if self.prune_rounds is None and pruning.final > 0:
            check_room(num_rounds, parts)
        return _build(parts, pruning)

    def method(self, model: SparseModel, plan: Sequence[RoundPlan]) -> Method:
        """Group the clients; prune and regrow each group's model."""
        fitted = copy(self)
        fitted.clustering, fitted.pruning = self._fitted(len(plan))
        return CAAFPMethod(fitted, model, sparsity_of(fitted.pruning, plan, own=self.one_exchange))

    def ends_personal(self, num_rounds: int) -> bool:
        """Not in a short run, unless it is asked for."""
        return super().ends_personal(num_rounds) and not (
            self.personalise is None and self._short(num_rounds)
        )

    def _short(self, num_rounds: int) -> bool:
        given = (self.warmup_rounds, self.cluster_rounds, self.prune_rounds)
        return given == (None, None, None) and num_rounds < SHORT

    def _fitted(self, num_rounds: int) -> tuple[Clustering, Pruning]:
        """Return what was asked for, or what suits so many rounds if nothing was."""
        clustering, pruning = self.clustering, self.pruning
        if (self.warmup_rounds, self.cluster_rounds, self.prune_rounds) != (None, None, None):
            return clustering, pruning
        if clustering is USUAL_CLUSTERING and self._short(num_rounds):
            clustering = replace(clustering, clusters=1)
        if pruning is USUAL_PRUNING:
            pruning = replace(pruning, sparsity=default_sparsity(num_rounds, pruning.final))
        return clustering, pruning


def _build(parts: tuple[int, int, int], pruning: Pruning) -> Sequence[RoundPlan]:
    plan = build_plan(
        *parts,
        every=pruning.every,
        initial=pruning.initial_sparsity,
        final=pruning.final,
        kind=pruning.schedule,
    )
    return at_most(plan, 1 - pruning.initial_sparsity) if pruning.sparsity == "auto" else plan


class CAAFPMethod(ClusteredMethod):
    """One run of CA-AFP; the arguments are `CAAFP`'s.

    Parameters
    ----------
    args : CAAFP
    model : SparseModel
        What the run starts from.
    sparsity : Sparsity, optional
        How much of each cluster's model is to go; by default what the plan says.
    """

    def __init__(self, args: CAAFP, model: SparseModel, sparsity: Sparsity | None = None) -> None:
        args.pruning.check(model)
        pruning = args.pruning
        if pruning.initial_sparsity > 0 and pruning.initial_mask != "snip":
            # The largest initial weights by default: a unit that keeps few inputs then keeps the
            # scale of its output.
            saliency = np.abs(model.flat.weights).astype(np.float64)
            if pruning.initial_mask == "random":
                saliency = generator(args.seed, 0, "mask").random(model.layout.weight_count)
            model = pruning.cut(model, saliency)
        levels = Levels(parse_levels(pruning.levels), pruning.by_filters)
        super().__init__(model, args.clustering, args.seed, Nested(levels, model))
        self.args = args
        self.sparsity = sparsity or Sparsity()
        self.election = Election(pruning, own=args.one_exchange)
        self.targets: dict[int, float] = {}  # by cluster, of the round that goes on
        self.deadline = Deadline(args.deadline, levels.shares)
        # By cluster and level, since the last mask update.
        self.evidence: dict[int, dict[int, Evidence]] = {}
        self.ages: dict[int, Ages] = {}  # how long weights are pruned, where that counts

    def facts(self) -> dict[str, object]:
        """Say how many clusters there will be, and how sparse they end."""
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
                    config={**query.config, **self.sparsity.config, **self.election.config},
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
        self.sparsity.hear(answers)
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
        if self.deadline.seconds:
            clients = {c.label: c for one in answers.summed for c in one.query.clients}
            sizes = {n: self.nested.sizes(n, model) for n, model in self.models.items()}
            self.deadline.apply(answers, clients, sizes)
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
        """Return the evidence besides what every clustered method saves."""
        state = super().state()
        ages = {str(number): one for number, one in self.ages.items()}
        state.put("ages", State({"clusters": sorted(self.ages)}, ages))
        state.put("sparsity", self.sparsity.state())
        state.facts["evidence"] = {str(n): sorted(known) for n, known in self.evidence.items()}
        for number, known in self.evidence.items():
            for level, evidence in known.items():
                state.put(f"evidence {number} {level}", State({}, evidence.state()))
        return state

    def restore(self, state: State) -> None:
        """Take it up."""
        super().restore(state)
        self.sparsity.restore(state.part("sparsity"))
        ages = state.part("ages")
        self.ages = {int(n): ages.array(str(n)) for n in ages.fact("clusters")}
        self.evidence = {
            int(number): {
                int(level): Evidence.from_state(state.part(f"evidence {number} {level}").arrays)
                for level in levels
            }
            for number, levels in state.fact("evidence").items()
        }
