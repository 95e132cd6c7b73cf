"""The ServerApp: settings -> strategy -> start -> results."""

from logging import INFO
from typing import Any

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from caafp_app.datasets.resolve import data_shape
from caafp_app.errors import CaafpError
from caafp_app.protocol.messages import to_record
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.observer import CompositeObserver, DirectoryObserver, LogObserver, Observer
from caafp_app.runs.tensorboard import TensorBoardObserver, require_tensorboard
from caafp_app.settings import Settings
from caafp_app.strategies.factory import make_strategy

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what the settings say and leave a run directory."""
    try:
        run(grid, Settings.from_run_config(context.run_config))
    except CaafpError as error:
        # Flower logs the whole traceback of what ends a run; these errors explain themselves.
        raise error.with_traceback(None) from None


def run(grid: Grid, settings: Settings) -> None:
    """Train with the clients of `grid`."""
    if settings.run.tensorboard:
        require_tensorboard()
    arrays = initial_arrays(settings)
    directory = RunDirectory.create(
        settings.run.output_dir,
        settings.run.run_name,
        strategy=settings.run.strategy,
        dataset=settings.data.dataset,
        seed=settings.run.seed,
    )
    data = settings.data
    log(INFO, "data set %s, %s clients; files in %s", data.dataset, data.partition, directory.path)
    observers: list[Observer] = [
        DirectoryObserver(directory, settings.to_dict()),
        LogObserver(),
    ]
    if settings.run.tensorboard:
        observers.append(TensorBoardObserver(directory.path))
    strategy = make_strategy(settings, CompositeObserver(observers))
    strategy.start(
        grid,
        to_record(arrays),
        num_rounds=settings.rounds.total,
        timeout=settings.rounds.round_timeout,
    )
    log(INFO, "results: %s", directory.path)


def initial_arrays(settings: Settings) -> dict[str, NDArray[Any]]:
    """Build the model's initial weights from the seed; torch is needed for nothing else here."""
    from caafp_app.models import build_model
    from caafp_app.training import dump_arrays

    shape = data_shape(settings.data)
    model = build_model(
        settings.model.model, shape.input_shape, len(shape.class_names), settings.run.seed
    )
    return dump_arrays(model)
