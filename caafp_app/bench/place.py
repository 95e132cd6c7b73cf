"""The folder of a bench: where each run lies, which are there already, and who writes to it.

::

    <output>/
        bench.json                      what the bench is: cases and settings
        runs/<case>/<seed>/             finished runs, each a run directory
        unfinished/<case>/runs/<seed>/  a run that goes on, failed or was interrupted
        logs/<case>-<seed>.log          what it said
        results.csv  table.md  table.tex  paired.md  figures/
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caafp_app.bench.file import BenchPlan, Case
from caafp_app.errors import RunError, SettingsError, reading
from caafp_app.runs.files import write_json
from caafp_app.runs.lock import sole_writer
from caafp_app.runs.place import default_home
from caafp_app.settings import Scalar, Settings

NO_MATTER = ("output-dir", "run-name", "track", "checkpoint-every")
"""Settings that change nothing of what is measured."""

_CARD = "bench.json"


@dataclass(frozen=True)
class BenchFolder:
    """Where the results of a bench go."""

    path: Path

    @classmethod
    def of(cls, plan: BenchPlan, output: str) -> "BenchFolder":
        """Return the folder that was asked for, else ``bench/<name>`` in the app's home.

        Raises SettingsError if it has files of another bench, or of something else.
        """
        path = Path(output).expanduser() if output else default_home() / "bench" / plan.name
        path = path.resolve()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            name = _name_on(path / _CARD)
            if name != plan.name:
                found = f"those of the bench {name!r}" if name else "other files"
                raise SettingsError(
                    f"--output: expected an empty folder, or one of the bench {plan.name!r}, found "
                    f"{found} in {path}; name another"
                )
        return cls(path)

    def finished(self, case: Case, seed: int) -> Path:
        """Return where the finished run lies, or will."""
        return self.path / "runs" / case.name / str(seed)

    def unfinished(self, case: Case, seed: int) -> Path:
        """Return where the run lies while it goes on."""
        return self.path / "unfinished" / case.name / "runs" / str(seed)

    def log(self, case: Case, seed: int) -> Path:
        """Return the file of what the run says."""
        return self.path / "logs" / f"{case.name}-{seed}.log"

    def settings(self, case: Case, seed: int) -> dict[str, Scalar]:
        """Return the settings of the run, with its place."""
        place = self.unfinished(case, seed)
        return case.at(seed).to_dict() | {
            "output-dir": str(place.parent.parent),
            "run-name": place.name,
        }

    def has(self, case: Case, seed: int) -> bool:
        """Tell whether the run is there, to its end and with these settings."""
        path = self.finished(case, seed)
        return (path / "summary.json").is_file() and not self.differences(case, seed)

    def differences(self, case: Case, seed: int) -> list[str]:
        """Say in which settings the finished run that is there differs; empty if in none."""
        path = self.finished(case, seed) / "settings.json"
        if not path.is_file():
            return []
        wanted = case.at(seed).to_dict()
        with reading(path, RunError):
            # A setting that came later had its default then.
            found = Settings().to_dict() | dict(json.loads(path.read_text(encoding="utf-8")))
        return [
            f"{key} is {found.get(key)!r} there, {wanted.get(key)!r} here"
            for key in sorted(wanted.keys() | found.keys())
            if key not in NO_MATTER and found.get(key) != wanted.get(key)
        ]

    def progress(self, case: Case, seed: int) -> float:
        """Return how far a run that goes on is, from 0 to 1, by its rounds."""
        try:
            ended = (self.unfinished(case, seed) / "rounds.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0.0
        # Besides the rounds there are describe, cluster and personalise.
        return min(ended / (case.settings.rounds.total + 3), 0.99)

    def check(self, runs: list[tuple[Case, int]]) -> None:
        """Refuse to repeat a finished run that has other settings, unless forced."""
        for case, seed in runs:
            if different := self.differences(case, seed):
                raise SettingsError(
                    f"{self.finished(case, seed)} has a finished run of other settings: "
                    f"{'; '.join(different[:5])}. Repeat it by --force, or name another --output"
                )

    def clear(self, case: Case, seed: int) -> None:
        """Remove what an earlier attempt at the run has left unfinished."""
        shutil.rmtree(self.unfinished(case, seed), ignore_errors=True)
        self.log(case, seed).parent.mkdir(parents=True, exist_ok=True)

    def keep(self, case: Case, seed: int) -> None:
        """Move a run that has just ended to the finished ones, in place of an older one."""
        source, target = self.unfinished(case, seed), self.finished(case, seed)
        if not (source / "summary.json").is_file():
            raise RunError(f"expected {source / 'summary.json'}, found nothing")
        old = target.with_name(f".{target.name}.old")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                target.rename(old)
            source.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise RunError(f"cannot move {source} to {target}: {error}") from error
        for link in ("latest", "latest.txt"):
            (source.parent / link).unlink(missing_ok=True)
        _remove_empty(source.parent, self.path)

    @contextlib.contextmanager
    def opened(self, plan: BenchPlan) -> Iterator[None]:
        """Make the folder and keep other benches out of it, or raise SettingsError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            busy = (
                f"another `caafp bench` works in {self.path}; wait for it, or name another --output"
            )
            with sole_writer(self.path, busy):
                cases = [
                    {"name": one.name, "against": one.against, "settings": one.settings.changes()}
                    for one in plan.cases
                ]
                card = {"name": plan.name, "seeds": plan.all_seeds, "cases": cases}
                write_json(self.path / _CARD, card)
                yield
        except PermissionError as error:
            raise SettingsError(
                f"--output: expected a folder that can be written, found {self.path}: {error}"
            ) from error


def _name_on(card: Path) -> str:
    """Return the name of the bench whose folder this is, empty if it is none's."""
    try:
        return str(json.loads(card.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _remove_empty(folder: Path, top: Path) -> None:
    with contextlib.suppress(OSError):
        while folder != top:
            folder.rmdir()
            folder = folder.parent
