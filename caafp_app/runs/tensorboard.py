"""Scalars of a run for TensorBoard, written as the rounds end."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path

from caafp_app.errors import RunError
from caafp_app.runs.observer import Observer
from caafp_app.runs.records import BETWEEN_ROUNDS, RoundRecord, RunReport
from caafp_app.runs.summary import spread


def require_tensorboard() -> None:
    """Look for the package before a run is started that will need it, or raise RunError."""
    if importlib.util.find_spec("tensorboard") is None:
        raise RunError(
            "tensorboard=true needs the package tensorboard, found none; install it by `pip "
            'install "caafp-app[tensorboard]"`, or leave the setting out'
        )


class TensorBoardObserver(Observer):
    """Writes ``tensorboard/events.out.tfevents.*``; the step is the number of the round.

    Tags: ``rounds/...`` of the rounds of training (accuracy, loss, density, megabytes, seconds,
    clients), ``evaluate/...`` and so on of what is between them, ``end/...`` of the clients' models
    at the end.
    """

    def __init__(self, run: Path) -> None:
        require_tensorboard()
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(run / "tensorboard"))
        self._rounds = 0

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Write the scalars of one exchange, and wait until they are on the disk."""
        self._rounds = max(self._rounds, min(record.round, total_rounds))
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
        self._write({f"{group}/{name}": value for name, value in scalars.items()}, record.round)

    def on_finish(self, report: RunReport) -> None:
        """Write what came out, and close the file."""
        clients = report.clients
        models = {
            "cluster": spread(client.cluster_accuracy for client in clients),
            "personal": spread(client.personal_accuracy for client in clients),
        }
        scalars: dict[str, float | None] = {
            f"end/{model}-accuracy-{key.replace('_', '-')}": found[key]
            for model, found in models.items()
            for key in ("mean", "std", "min", "worst_tenth")
        }
        scalars["end/megabytes"] = report.ledger.total / 1e6
        self._write(scalars, self._rounds)
        self._writer.close()

    def _write(self, scalars: Mapping[str, float | None], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
            if value is not None and value == value
        ]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()
