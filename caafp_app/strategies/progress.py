"""What a run has come to: whether it has trained, what clients report, what pruning costs."""

from collections.abc import Mapping, Sequence
from logging import INFO
from typing import Any

from flwr.common.logger import log

from caafp_app.errors import RunError
from caafp_app.pruning.schedule import RoundPlan
from caafp_app.runner.runner import Answers
from caafp_app.runner.tally import Tally

PATIENCE = 3
"""Rounds in a row without a usable update after which a run ends."""


class Progress:
    """Ends a run in which nothing works, and tells at its end what pruning has cost and saved.

    `dense_bytes` are those of the whole model, as FedAvg sends it.
    """

    def __init__(self, plan: Sequence[RoundPlan], dense_bytes: int) -> None:
        self.plan, self.dense_bytes = plan, dense_bytes
        self.trained = False
        self.idle_rounds = 0  # in a row, without a usable update
        self.fedavg_bytes = 0
        self.figures: dict[int, tuple[str, float]] = {}

    def state(self) -> dict[str, Any]:
        return {
            "trained": self.trained,
            "fedavg bytes": self.fedavg_bytes,
            "figures": self.figures,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.trained = bool(state["trained"])
        self.fedavg_bytes = int(state["fedavg bytes"])
        self.figures = {
            int(round_): (kind, value) for round_, (kind, value) in state["figures"].items()
        }

    def count_models(self, models: int) -> None:
        """Count models that FedAvg would have sent."""
        self.fedavg_bytes += models * self.dense_bytes

    def note(self, round_: int, tally: Tally) -> None:
        """Keep the accuracy, or else the loss, that clients report of the models of a round."""
        for kind in ("accuracy", "loss"):
            value = tally.mean(kind)
            if value is not None:
                self.figures[round_] = kind, value
                return

    def require(self, round_: int, answers: Answers) -> None:
        """End a run in which nothing works, by RunError with the reasons.

        One bad round is no reason to end; `PATIENCE` of them are. A run ends as failed, too, where
        no round has moved a model: the initial weights are no result.
        """
        tally = answers.tally
        moved = answers.enough and any(summed.replies or summed.kept for summed in answers.summed)
        self.trained = self.trained or moved
        ends_untrained = round_ == len(self.plan) and not self.trained
        useless = bool(tally.asked) and not tally.contents
        self.idle_rounds = self.idle_rounds + 1 if useless else 0
        if self.idle_rounds >= PATIENCE or (useless and ends_untrained):
            raise RunError(
                f"expected an update from somebody, found none in {self.idle_rounds} rounds in a "
                f"row; in round {round_}: {tally.why()}"
            )
        if tally.asked and ends_untrained:  # a rate of 0 asks nobody, as FedAvg's does
            raise RunError(
                f"expected a round that trains the model, found none in {round_} rounds: "
                f"{_why_unmoved(answers)}"
            )

    def require_personal(self, scores: Mapping[str, object]) -> None:
        """End a run as failed if nobody makes a personal model after rounds that found no update.

        Raises
        ------
        RunError
            If it ends.
        """
        if not scores and self.idle_rounds + 1 >= PATIENCE:
            raise RunError(
                f"expected an update from somebody, found none in the last {self.idle_rounds} "
                "rounds, nor a personal model"
            )

    def tell(self, sent: int) -> None:
        """Log the bytes, and the clients' figure before and after pruning."""
        log(
            INFO,
            "FedAvg would have sent %.3g MB of dense models; this run sent %.3g MB",
            self.fedavg_bytes / 1e6,
            sent / 1e6,
        )
        first = next((step.round for step in self.plan if step.mask_update), 0)
        if first and self.figures:
            end = max(self.figures)
            # With pruning from round 1 on, none is known from before.
            start = max((n for n in self.figures if n < first), default=min(self.figures))
            (kind, earlier), (_, later) = self.figures[start], self.figures[end]
            what = "%s when pruning began, after round %d: %.4g; after round %d: %.4g"
            log(INFO, what, kind, start, earlier, end, later)


def _why_unmoved(answers: Answers) -> str:
    """Say why a round left the models as they were."""
    tally = answers.tally
    if len(tally.empty) == len(tally.contents.keys() | tally.empty):
        return f"each of the {len(tally.empty)} clients that answered has 0 examples to train on"
    return (
        f"in the last one {len(tally.contents)} of {len(tally.asked)} clients answered, fewer than "
        "min_replies; lower it, or ask more clients in a round"
    )
