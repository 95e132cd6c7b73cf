"""Which score a cluster's mask is made by, where the settings leave it to the clients.

Before the round at whose end masks change, each score says which weights it would keep. Some of the
round's clients evaluate the model cut in each of these ways, and the score by which they lose the
least makes the cluster's next mask. Clients of this package evaluate on train windows: test windows
must not decide a mask, and windows held out of all training would cost more than a choice gains.
"""

from collections.abc import Mapping, Sequence
from logging import INFO

import numpy as np
from flwr.app import MetricRecord
from flwr.common.logger import log

from caafp_app.protocol.messages import Action
from caafp_app.protocol.objective import HELD_OUT
from caafp_app.pruning.evidence import Evidence
from caafp_app.pruning.schedule import Phase
from caafp_app.runner.model import SparseModel
from caafp_app.runner.query import Query
from caafp_app.runner.roster import Client, generator, sample
from caafp_app.runner.runner import Runner
from caafp_app.runner.tally import pick
from caafp_app.runs.records import MOST_LOSS
from caafp_app.strategies.masks import Pruning
from caafp_app.strategies.method import by_cluster

FEWEST = 2
"""At least so many of each cluster are among the half of a round's clients that is asked."""

SCORED = 0.5
"""Share of its train windows, the last of each class, that a client of ours scores trials on."""

_SMALLEST = 1e-9


class Election:
    """The choice of one round; without rivals there is none, and nothing is asked.

    `own` clients run the app of this package.
    """

    def __init__(self, pruning: Pruning, *, own: bool) -> None:
        self.rivals = pruning.rivals
        self._config = {HELD_OUT: SCORED} if own else {}
        self._elected: dict[int, Pruning] = {}

    def winner(self, number: int) -> Pruning:
        """Return how the mask of a cluster is made; by the first rival where nobody chose."""
        return self._elected.get(number, self.rivals[0])

    def hold(
        self,
        runner: Runner,
        seed: int,
        round_: int,
        clients: Sequence[Client],
        known: Mapping[int, tuple[SparseModel, Evidence, float]],
    ) -> None:
        """Let some of a round's clients choose for each cluster; it holds until the next choice.

        `known` has, by cluster, the model, what is known of its weights, and its next sparsity.
        """
        self._elected = {}
        if len(self.rivals) < 2:
            return
        if not any(evidence.replies for _, evidence, _ in known.values()):
            what = (
                "round %d: no client chooses a score, for no round has trained inside these masks; "
                "%r makes the next. Clients choose where there are 2 or more rounds between updates"
            )
            log(INFO, what, round_, self.rivals[0].score)
            return
        half = -(-len(clients) // 2)
        asked = sample(clients, half, generator(seed, round_, "election"), FEWEST)
        queries = []
        for number, members in by_cluster(asked).items():
            model, evidence, sparsity = known[number]
            trials = np.stack([one.proposed(model, evidence, sparsity) for one in self.rivals])
            if evidence.replies and (trials != trials[0]).any():
                queries.append(
                    Query(
                        Action.EVALUATE, model, members, number, config=self._config, trials=trials
                    )
                )
        if not queries:
            return
        answers = runner.ask(queries, Phase.ELECTION, round_, needed=False)
        said, metrics = {}, answers.tally.metrics()
        for query in queries:
            replies = [metrics[one.label] for one in query.clients if one.label in metrics]
            votes = [vote for reply in replies if (vote := vote_of(reply, len(self.rivals)))]
            if not votes:
                continue
            middle = np.median(votes, axis=0)
            self._elected[query.group] = winner = self.rivals[int(middle.argmin())]
            said[query.group] = {
                one.score: float(vote) for one, vote in zip(self.rivals, middle, strict=True)
            }
            log(INFO, "cluster %d: %d clients chose %r", query.group, len(votes), winner.score)
        density = {query.group: query.model.density for query in queries}
        runner.close(answers, density, elected=said)


def vote_of(metrics: MetricRecord, rivals: int) -> list[float] | None:
    """Return what a client says of each rival: by which share of its least loss it is worse.

    At most 1, and of each rival the median counts, so that no client of three or more decides
    alone; and a rival that is far behind does not hide how the others differ. None where a loss is
    missing or larger than `MOST_LOSS`. `metrics` has lists of the trials' figures, or one number
    where these are alike.
    """
    losses: list[float] = []
    for place in range(rivals):
        one: dict[str, int | float | list[int] | list[float]] = {}
        for name, value in metrics.items():
            if isinstance(value, list) and len(value) == rivals:
                one[name] = value[place]
            elif not isinstance(value, list):
                one[name] = value
        held = one.get("held-loss")
        loss = held if isinstance(held, int | float) else pick(MetricRecord(one), "loss")
        if loss is None or not abs(loss) <= MOST_LOSS:  # so that no difference overflows
            return None
        losses.append(float(loss))
    least = min(losses)
    return [min((loss - least) / max(abs(least), _SMALLEST), 1.0) for loss in losses]
