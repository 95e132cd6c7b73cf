"""The numbers of a run under flat names, as trackers take them."""

from collections.abc import Mapping

from caafp_app.runs.records import BETWEEN_ROUNDS, RoundRecord, RunReport
from caafp_app.runs.summary import spread


def round_scalars(record: RoundRecord) -> dict[str, float]:
    """Return the numbers of one exchange; what is not known is left out.

    They are ``rounds/...`` of a round of training (accuracy, loss, densities, megabytes, seconds,
    clients); ``evaluate/...`` and so on of an exchange between rounds.
    """
    between = record.phase in BETWEEN_ROUNDS
    scalars: dict[str, float | None] = {
        "accuracy": record.accuracy,
        "loss": record.loss,
        "megabytes-down": record.bytes_down / 1e6,
        "megabytes-up": record.bytes_up / 1e6,
        "seconds": record.seconds,
        "clients-answered": float(record.answered),
        "clients-refused": float(record.refused),
        "server-memory-mb": record.server_memory_mb,
    }
    if not between:
        for number, density in record.density.items():
            scalars[f"density-{'all' if number < 0 else number}"] = density
    group = record.phase if between else "rounds"
    return _known({f"{group}/{name}": value for name, value in scalars.items()})


def end_scalars(report: RunReport) -> dict[str, float]:
    """Return what came out: ``end/...``, accuracies over clients and bytes."""
    scalars: dict[str, float | None] = {"end/megabytes": report.ledger.total / 1e6}
    for model in ("cluster", "personal"):
        found = spread(getattr(client, f"{model}_accuracy") for client in report.clients)
        for key in ("mean", "std", "min", "worst_tenth"):
            scalars[f"end/{model}-accuracy-{key.replace('_', '-')}"] = found[key]
        f1 = spread(getattr(client, f"{model}_f1") for client in report.clients)
        scalars[f"end/{model}-macro-f1-mean"] = f1["mean"]
    return _known(scalars)


def _known(scalars: Mapping[str, float | None]) -> dict[str, float]:
    """Leave out what is missing or NaN."""
    return {name: value for name, value in scalars.items() if value is not None and value == value}
