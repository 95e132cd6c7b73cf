"""Scalars of a run for TensorBoard, written as the rounds end."""

import time
from collections.abc import Mapping
from pathlib import Path

from caafp_app.runs.observer import Observer
from caafp_app.runs.records import RoundRecord, RunReport
from caafp_app.runs.scalars import end_scalars, round_scalars


class TensorBoardObserver(Observer):
    """Writes ``tensorboard/events.out.tfevents.*``; the step is the number of the round.

    The tags are those of `caafp_app.runs.scalars`; the settings are not used.
    """

    package = "tensorboard"

    def __init__(self, run: Path, settings: Mapping[str, object]) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(run / "tensorboard"))
        self._rounds = 0

    def on_round(self, record: RoundRecord, total_rounds: int) -> None:
        """Write the scalars of one exchange, and wait until they are on the disk."""
        self._rounds = max(self._rounds, min(record.round, total_rounds))
        self._write(round_scalars(record), record.round)

    def on_finish(self, report: RunReport) -> None:
        """Write what came out, and close the file."""
        self._write(end_scalars(report), self._rounds)
        self._writer.close()

    def _write(self, scalars: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()
