"""The ServerApp: settings -> strategy -> start -> results."""

from logging import INFO
from typing import Any

from flwr.app import ArrayRecord, Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from caafp_app.datasets.resolve import data_shape
from caafp_app.errors import CaafpError, SettingsError
from caafp_app.protocol.budget import MOST_CLASSES
from caafp_app.protocol.messages import to_record
from caafp_app.runs.checkpoint import FOLDER, Checkpoints, Saved
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.ending import told_to_end
from caafp_app.runs.live import LiveLog
from caafp_app.runs.lock import sole_writer
from caafp_app.runs.observer import CompositeObserver, DirectoryObserver, LogObserver, Observer
from caafp_app.runs.place import find_run
from caafp_app.runs.trackers import make_trackers, require_trackers
from caafp_app.settings import Scalar, Settings
from caafp_app.strategies.factory import check_strategy, make_strategy

app = ServerApp()

MAY_CHANGE = frozenset(
    {
        *("output-dir", "run-name", "data-dir", "track", "resume-from", "strategy-args"),
        *("checkpoint-every", "device", "engine"),
        *("min-available-nodes", "round-timeout", "min-replies"),
        *("grace", "patience", "rest_after", "known-devices"),
    }
)
"""Settings, and arguments of the strategy, that a resumed run may have otherwise than the one that
it goes on with: where things are, and what is done about clients that fail."""


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
    require_trackers(settings.run.trackers)
    check_strategy(settings)  # before a run leaves anything
    told_classes(settings)
    arrays = initial_arrays(settings)
    directory = _place(settings)
    busy = f"another run writes in {directory.path}; wait for its end, or resume from another run"
    with sole_writer(directory.path, busy):
        _run_in(directory, grid, settings, to_record(arrays))


def _run_in(directory: RunDirectory, grid: Grid, settings: Settings, arrays: ArrayRecord) -> None:
    checkpoints, saved = _checkpoints(directory, settings)
    data = settings.data
    log(INFO, "data set %s, %s clients; files in %s", data.dataset, data.partition, directory.path)
    live = LiveLog(directory.path)
    observers: list[Observer] = [
        DirectoryObserver(directory, settings.to_dict()),
        live,
        LogObserver(),
        *make_trackers(settings.run.trackers, directory.path, settings.to_dict()),
    ]
    with told_to_end() as stop:
        strategy = make_strategy(
            settings, CompositeObserver(observers), checkpoints, stop, told_classes(settings)
        )
        # Flower says that a run has ended only when its last client has stopped training.
        try:
            strategy.start(
                grid,
                arrays,
                num_rounds=settings.rounds.total,
                timeout=settings.rounds.round_timeout,
                resume=saved,
            )
        except Exception as error:
            live.ended(str(error) or type(error).__name__)
            raise
        live.ended()
    log(INFO, "results: %s", directory.path)


def told_classes(settings: Settings) -> tuple[str, ...]:
    """Return the classes that clients tell counts of; none without ``share-class-counts``."""
    if not settings.data.share_class_counts:
        return ()
    names = data_shape(settings.data).class_names
    if len(names) > MOST_CLASSES:
        raise SettingsError(
            f"share-class-counts: expected a data set of at most {MOST_CLASSES} classes, found "
            f"{len(names)}; leave it out"
        )
    return names


def _place(settings: Settings) -> RunDirectory:
    """Make the run directory, or find that of the run to resume."""
    run = settings.run
    if run.resume_from:
        return RunDirectory(find_run(run.resume_from, run.output_dir))
    return RunDirectory.create(
        run.output_dir,
        run.run_name,
        strategy=run.strategy_name,
        dataset=settings.data.dataset_name,
        seed=run.seed,
    )


def terms_of(settings: Settings) -> dict[str, Scalar]:
    """Return the settings, and arguments of the strategy, that a resumed run has to have alike."""
    terms = {**settings.to_dict(), **settings.run.strategy_arguments}
    return {key: value for key, value in terms.items() if key not in MAY_CHANGE}


def _checkpoints(directory: RunDirectory, settings: Settings) -> tuple[Checkpoints, Saved | None]:
    """Say where checkpoints go; load the last one of a run to resume, and cut the rest off it."""
    run = settings.run
    checkpoints = Checkpoints(
        directory.path / FOLDER, every=run.checkpoint_every, terms=terms_of(settings)
    )
    if not run.resume_from:
        return checkpoints, None
    saved = checkpoints.load()
    directory.cut_rounds(saved.round)
    return checkpoints, saved


def initial_arrays(settings: Settings) -> dict[str, NDArray[Any]]:
    """Build the model's initial weights from the seed; torch is needed for nothing else here."""
    from caafp_app.models import build_model
    from caafp_app.training import dump_arrays

    shape = data_shape(settings.data)
    model = build_model(
        settings.model.model, shape.input_shape, len(shape.class_names), settings.run.seed
    )
    return dump_arrays(model)
