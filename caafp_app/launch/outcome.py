"""What a run has really done, read from the folder that was made for it."""

from dataclasses import dataclass
from pathlib import Path

from caafp_app.errors import RunError
from caafp_app.runs.checkpoint import FOLDER, last_round
from caafp_app.runs.place import is_reserved
from caafp_app.runs.reading import RunFiles, read_run

_FEW = 3


@dataclass(frozen=True)
class End:
    """How a run ended.

    Attributes
    ----------
    results : str | None
        The run directory, where there is one.
    complaint : str
        What went wrong; empty for a success.
    saved : int
        The round of the last checkpoint of a run that can go on; 0 where none can.
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

    Parameters
    ----------
    results : Path
        Its folder.
    complaint : str
        What Flower says went wrong; empty if nothing did. A run that says it has ended well and
        left no summary, or in which no client ever trained, has failed all the same.
    """
    if not results.is_dir() or is_reserved(results):
        return End(None, complaint or f"the run ended, but has left nothing in {results}")
    saved = last_round(results / FOLDER)
    if not complaint and not (results / "summary.json").is_file():
        complaint = f"the run ended, but expected {results / 'summary.json'}, found nothing"
    try:
        complaint = complaint or unanswered(read_run(results))
    except RunError as error:
        complaint = complaint or str(error)
    return End(str(results), complaint, saved)


def unanswered(run: RunFiles) -> str:
    """Say that no client ever trained, where that is so; else nothing."""
    rounds = [line for line in run.rounds if line.get("phase") != "describe"]
    if not rounds or any(line.get("answered") for line in rounds):
        return ""
    asked = sum(int(line.get("asked") or 0) for line in rounds)
    reasons = list(dict.fromkeys(why for line in rounds for why in line.get("reasons") or {}))
    missing = sum(len(line.get("missing") or ()) for line in rounds)
    why = "; ".join(reasons[:_FEW]) or (
        f"{missing} messages had no answer within round-timeout ("
        f"{run.settings.get('round-timeout', '?')} s); a longer one, or less work in a round "
        "(local-epochs), gives clients the time"
    )
    return (
        f"no client ever trained: expected answers to {asked} messages in {len(rounds)} rounds, "
        f"found none ({why}). The models in {run.path} are as they were at the start"
    )
