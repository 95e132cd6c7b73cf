"""The search itself: Optuna proposes, a run answers, and a file remembers."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caafp_app.errors import CaafpError, RunError, SettingsError, reading
from caafp_app.launch.presets import combined, to_toml
from caafp_app.runs.files import write_atomic, write_json
from caafp_app.runs.lock import sole_writer
from caafp_app.settings import Scalar, Settings
from caafp_app.tune.space import Range, Space, contains

if TYPE_CHECKING:
    from optuna import Study, Trial

VALIDATION = 0.2
"""Share of the training data that scores a trial, unless the settings say another."""

_CARD, _STORAGE = "tune.json", "study.log"
_FAILURES = 3

Score = Callable[[Settings, str], float]
"""Runs settings under a name and returns what is to be as large as possible."""


@dataclass(frozen=True)
class Search:
    """What is searched: a space, from a preset's values and fixed settings over them."""

    preset: str
    base: Mapping[str, object]
    fixed: Mapping[str, object]
    space: Space

    def settings(self, chosen: Mapping[str, object]) -> Settings:
        """Return the settings of one trial. Scores are of validation data, never of test data."""
        given = {"validation-fraction": VALIDATION} | dict(self.fixed) | dict(chosen)
        settings = combined(self.base, given)[0]
        if not settings.data.validation_fraction:
            raise SettingsError(
                "validation-fraction: expected more than 0, because a search that looks at test "
                "data makes its accuracy worthless, found 0"
            )
        return settings

    @property
    def start(self) -> dict[str, Scalar]:
        """The values that the preset has of what is searched."""
        values = self.settings({}).to_dict()
        return {key: values[key] for key in self.space}

    def card(self) -> dict[str, Any]:
        """Return what makes this search that one and no other, JSON-able."""
        space = {
            key: [part.low, part.high, "range"] if isinstance(part, Range) else list(part)
            for key, part in self.space.items()
        }
        settings = self.settings({}).to_dict()
        return {"preset": self.preset, "space": space, "settings": settings}


@dataclass(frozen=True)
class Tried:
    """One trial that has ended; without a score its run has failed."""

    number: int
    values: Mapping[str, Scalar]
    score: float | None
    complaint: str = ""


def search(
    what: Search,
    folder: Path,
    trials: int,
    score: Score,
    tell: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Try settings until there are so many trials in the folder, those of earlier calls included.

    `score` runs one, `tell` takes each as it ends. Returns all, the best first, failed ones last.
    Raises SettingsError if the folder has another search, RunError if Optuna is not installed or
    the first runs have all failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder, f"another search writes in {folder}; wait for its end"):
        study = _study(what, folder)
        while len(found := _tried(study, what)) < trials:
            failed = [tried for tried in found if tried.score is None]
            if len(failed) == len(found) >= _FAILURES:
                raise RunError(f"the first {len(failed)} runs have failed: {failed[-1].complaint}")
            _try_one(study, what, score)
            tell(_tried(study, what)[-1])
            _write(what, folder, ranked(_tried(study, what)))
        best_first = ranked(found)
        _write(what, folder, best_first)
    return best_first


def ranked(tried: list[Tried]) -> list[Tried]:
    """Return trials with the best first and failed ones last."""
    return sorted(tried, key=lambda one: (one.score is None, -(one.score or 0.0), one.number))


def table(tried: list[Tried]) -> str:
    """Return trials as a Markdown table; the preset's own values are marked."""
    keys = list(tried[0].values) if tried else []
    lines = [
        "| rank | trial | validation accuracy, % | " + " | ".join(keys) + " |",
        "|---" * (3 + len(keys)) + "|",
    ]
    for rank, one in enumerate(tried, 1):
        name = f"{one.number} (the preset)" if one.number == 0 else str(one.number)
        found = f"{100 * one.score:.2f}" if one.score is not None else "failed"
        values = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in one.values.values())
        lines.append(f"| {rank} | {name} | {found} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def _study(what: Search, folder: Path) -> "Study":
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise RunError(
            'a search needs Optuna, found none; install it by `pip install "caafp-app[tune]"`'
        ) from error
    optuna.logging.set_verbosity(logging.WARNING)
    card = folder / _CARD
    mine = json.loads(json.dumps(what.card()))
    if card.is_file():
        with reading(card, RunError):
            there = dict(json.loads(card.read_text(encoding="utf-8")))
        other = [key for key in mine if there.get(key) != mine[key]]
        if other:
            raise SettingsError(
                f"--output: expected an empty folder, or one of this search, found another one in "
                f"{folder} (its {', '.join(other)} differ); name another"
            )
    else:
        write_json(card, mine)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / _STORAGE)))
    study = optuna.create_study(
        study_name="caafp", storage=storage, direction="maximize", load_if_exists=True
    )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        # Cut off when an earlier search was stopped: the same values again.
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if not study.trials and contains(what.space, what.start):
        # The preset is the first, so that what is found can be compared with it.
        study.enqueue_trial(what.start)
    return study


def _try_one(study: "Study", what: Search, score: Score) -> None:
    import optuna

    # A generator for each trial: a search that was interrupted proposes what it would have.
    seed = int(what.settings({}).run.seed) + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=5)
    trial = study.ask()
    chosen = _chosen(trial, what.space)
    try:
        reached = score(what.settings(chosen), f"trial-{trial.number:04d}")
    except CaafpError as error:
        trial.set_user_attr("complaint", str(error)[:1000])
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    study.tell(trial, reached)


def _chosen(trial: "Trial", space: Space) -> dict[str, Scalar]:
    chosen: dict[str, Scalar] = {}
    for key, part in space.items():
        if not isinstance(part, Range):
            # What Optuna hands back is one of ours.
            chosen[key] = part[part.index(trial.suggest_categorical(key, part))]
        elif isinstance(part.low, int) and isinstance(part.high, int):
            chosen[key] = trial.suggest_int(key, part.low, part.high, log=part.logarithmic)
        else:
            chosen[key] = trial.suggest_float(key, part.low, part.high, log=part.logarithmic)
    return chosen


def _tried(study: "Study", what: Search) -> list[Tried]:
    """Return the trials that have ended, in their order; not those cut off and done again."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        complaint = str(trial.user_attrs.get("complaint", ""))
        if trial.params and (trial.value is not None or complaint):
            values = {key: trial.params[key] for key in what.space}
            found.append(Tried(trial.number, values, trial.value, complaint))
    return found


def _write(what: Search, folder: Path, tried: list[Tried]) -> None:
    """Write the table, and the best settings as a file that ``caafp run`` takes."""
    write_atomic(folder / "table.md", table(tried).encode())
    if not tried or tried[0].score is None:
        return
    best = tried[0]
    head = f"# Found by `caafp tune`: trial {best.number}, validation accuracy {best.score:.4f}\n"
    preset = Path(what.preset).expanduser()
    start = str(preset.resolve()) if preset.suffix == ".toml" else what.preset
    fixed = {k: v for k, v in what.fixed.items() if isinstance(v, bool | int | float | str)}
    values: dict[str, Scalar] = {"preset": start, **fixed, **best.values}
    write_atomic(folder / "best.toml", (head + to_toml(values)).encode())
