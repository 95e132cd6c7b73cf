"""One round, by Flower's four methods: what clients are asked, and what comes of their replies."""

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from caafp_app.protocol.messages import Action, Answer
from caafp_app.strategies.cluster_model import Update
from caafp_app.strategies.hooks import StrategyHooks
from caafp_app.strategies.replies import Expected, read_update
from caafp_app.strategies.report import ClusterRound
from caafp_app.strategies.roster import Client, generator, sample
from caafp_app.strategies.trust import norm_of


class RoundStrategy(StrategyHooks):
    """Rounds of training and evaluation, which are alike for all; the run is `PhasedStrategy`'s."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample clients and write their requests; `arrays` is not looked at after the start."""
        step, session = self.plan[server_round - 1], self.session
        session.open(str(step.phase), server_round)
        if self.fraction_train == 0.0:
            return []
        chosen = self.sampled(server_round)
        for model in self.models.values():
            model.collect(
                statistics=step.statistics,
                gradients=step.gradients,
                aggregation=self.aggregation,
            )
        counts: dict[int, tuple[int, ...]] = {}
        messages = []
        for client in chosen:
            model = self.sent_to(client)
            if client.cluster not in counts:
                counts[client.cluster] = self.gradient_counts(model, step)
            asked = counts[client.cluster]
            messages.append(session.message(client, model, Action.TRAIN, config, asked))
            self.ledger.add_formula(model.layout.parameter_count, model.mask.density, 2)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add each reply to its cluster's sums as it arrives, then move the models."""
        session = self.session

        def accept(client: Client, answer: Answer, expected: Expected, weight: float) -> None:
            self._take_in(client, read_update(answer, expected), weight)

        session.consume(replies, accept)
        self.end_round(move=session.enough())
        self.update_bound.end_round()
        updated = self.after_round(self.plan[server_round - 1])
        if server_round > len(self.plan) - self.average_last:
            for model in self.models.values():
                model.remember()
        layers = self._layer_densities() if updated or server_round == 1 else None
        session.close(self._densities(), mask_updated=updated, layers=layers)
        members = self.roster.clusters()
        for number, density in self._densities().items():
            row = ClusterRound.of(session.tally, members.get(number, []), density)
            self.history.setdefault(number, []).append(row)
        return None, session.tally.aggregate(self.train_metrics_aggr_fn, self.weighted_by_key)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Write evaluate requests: for all clients every so many rounds, or at FedAvg's rate."""
        session = self.session
        clients = self.available(server_round)
        if self.one_exchange:
            due = self.evaluate_every and server_round % self.evaluate_every == 0
            chosen = clients if due else []
        elif self.fraction_evaluate > 0:
            count = max(int(len(clients) * self.fraction_evaluate), self.min_evaluate_nodes)
            chosen = sample(clients, count, generator(self.seed, server_round, "evaluate"))
        else:
            chosen = []
        session.open("evaluate", server_round)
        return [
            session.message(client, self.model_of(client), Action.EVALUATE, config)
            for client in chosen
        ]

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the metrics of evaluate replies, weighted as FedAvg weighs them."""
        session = self.session
        if not session.tally.asked:
            return None
        session.consume(replies)
        session.close(self._densities())
        return session.tally.aggregate(self.evaluate_metrics_aggr_fn, self.weighted_by_key)

    def _take_in(self, client: Client, update: Update, weight: float) -> None:
        """Add an update to the sums, if it is not too long."""
        model, cluster = self.model_of(client), client.cluster
        norm = norm_of(update.values, update.rest)
        self.update_bound.check(cluster, norm, model.model)
        model.add(client.label, update, weight)
        self.update_bound.note(cluster, norm)

    def _layer_densities(self) -> dict[int, dict[str, float]]:
        return {
            number: {name: float(bits.mean()) for name, bits in model.mask.by_layer().items()}
            for number, model in sorted(self.published().items())
        }

    def _densities(self) -> dict[int, float]:
        return {number: model.density for number, model in sorted(self.published().items())}
