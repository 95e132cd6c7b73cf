"""The evaluation of a round: clients score their cluster's model, where that is due."""

from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from caafp_app.protocol.messages import Action
from caafp_app.runner.opened import Opened, Replies
from caafp_app.runner.tally import Tally

if TYPE_CHECKING:
    from caafp_app.strategies.run import Run


class Evaluation:
    """Evaluations of one run, one after another; `config` is the caller's."""

    def __init__(self, run: "Run", config: ConfigRecord) -> None:
        self.run, self.config = run, config
        self._opened: Opened | None = None

    def hold(self, round_: int) -> None:
        """Write the messages, send them and aggregate the replies, as Flower's loop does."""
        run = self.run
        strategy, runner = run.strategy, run.runner
        messages = list(
            strategy.configure_evaluate(round_, run.handed.arrays, self.config, runner.grid)
        )
        if self._opened is not None:
            self._opened.keep(message.metadata.dst_node_id for message in messages)
            if strategy.overrides("configure_evaluate"):
                runner.writer.note(messages)
        # An override may write messages of its own, which are no queries of ours.
        opened = self._opened or Opened(Tally(Action.EVALUATE, round_))
        replies: Iterable[Message] = runner.send(messages, opened)
        if strategy.overrides("aggregate_evaluate"):
            replies = Replies(replies)
        metrics = strategy.aggregate_evaluate(round_, replies)
        if metrics is not None:
            run.result.evaluate_metrics_clientapp[round_] = metrics

    def configure(self, round_: int, arrays: ArrayRecord, config: ConfigRecord) -> list[Message]:
        """Write the messages of a round's evaluation; none where none is due."""
        run = self.run
        self._opened = None
        clients = run.strategy.draw_to_evaluate(run.available(round_), round_)
        if not clients:
            return []
        run.runner.writer.options = replace(run.runner.writer.options, evaluate_config=config)
        # Other arrays than the model's, such as a mean over rounds, are evaluated, not trained on.
        models, handed = dict(run.method.models), copy(run.handed)
        run.adopt(arrays)
        queries = run.method.ask(Action.EVALUATE, run.step(round_), clients)
        run.method.models.update(models)
        run.handed = handed
        self._opened = run.runner.open(queries, Action.EVALUATE, round_)
        run.progress.count_models(len(clients))
        return self._opened.messages

    def aggregate(self, round_: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return the mean of what the clients report."""
        run = self.run
        strategy, runner = run.strategy, run.runner
        aggregate = strategy.evaluate_metrics_aggr_fn or aggregate_metricrecords
        if self._opened is None:
            contents = [reply.content for reply in replies if reply.has_content()]
            return aggregate(contents, strategy.weighted_by_key) if contents else None
        opened, self._opened = self._opened, None
        answers = runner.read(opened, replies)
        run.progress.note(round_, answers.tally)
        watched = run.method.hear(answers)
        published = sorted(run.method.published().items())
        runner.close(answers, {n: model.density for n, model in published}, watched=watched)
        return answers.tally.aggregate(aggregate, strategy.weighted_by_key, robust=strategy.robust)
