"""What a run has really done, read from the folder that was made for it."""

from dataclasses import dataclass
from pathlib import Path

from caafp_app.runs.checkpoint import FOLDER, last_round
from caafp_app.runs.place import is_reserved


@dataclass(frozen=True)
class End:
    """How a run ended.

    `results` is the run directory, where there is one. `complaint` is empty for a success. `saved`
    is the round of the last checkpoint of a run that can go on; 0 where none can.
    """

    results: str | None = None
    complaint: str = ""
    saved: int = 0


def has_begun(results: Path) -> bool:
    """Tell whether a client has answered, or the server has given up waiting for one."""
    try:
        return (results / "rounds.jsonl").stat().st_size > 0
    except OSError:
        return False


def end_of(results: Path, complaint: str) -> End:
    """Return how a run on this machine ended.

    `complaint` is what Flower says went wrong. A run that says it has ended well and left no
    summary has failed all the same.
    """
    if not results.is_dir() or is_reserved(results):
        return End(None, complaint or f"the run ended, but has left nothing in {results}")
    saved = last_round(results / FOLDER)
    if not complaint and not (results / "summary.json").is_file():
        complaint = f"the run ended, but expected {results / 'summary.json'}, found nothing"
    return End(str(results), complaint, saved)
