"""What the page tells of a run's rounds: accuracy, loss, density and bytes as curves."""

from typing import Any

from caafp_app.report.html import figure, section
from caafp_app.report.svg import Line, draw
from caafp_app.runs.reading import RunFiles
from caafp_app.runs.records import BETWEEN_ROUNDS

_MB = 1e-6


def curves(run: RunFiles) -> str:
    """Return accuracy, loss, density and bytes by round."""
    rounds = [record for record in run.rounds if record["phase"] not in BETWEEN_ROUNDS]
    scored = [record for record in run.rounds if record["phase"] == "evaluate"]
    spans = phases(run)

    def by_cluster(records: list[dict[str, Any]], key: str, *, steps: bool) -> list[Line]:
        numbers = sorted({name for record in records for name in record.get(key) or {}}, key=int)
        return [
            Line(
                "all" if name == "-1" else f"cluster {name}",
                [(r["round"], r[key][name]) for r in records if name in (r.get(key) or {})],
                steps=steps,
            )
            for name in numbers
        ]

    accuracies = [accuracy_line("the round's clients", run)]
    accuracies.append(_line("all clients", scored, "accuracy", 100.0))
    losses = [_line("the round's clients", rounds, "loss")]
    densities = by_cluster(rounds, "density", steps=True)
    sent = [_line("down", rounds, "bytes_down", _MB), _line("up", rounds, "bytes_up", _MB)]
    watched = by_cluster(run.rounds, "watched", steps=False)
    return section(
        "Rounds",
        figure(
            draw(accuracies, "accuracy, %", spans=spans),
            "Of the model that was received, before it was trained on: the state before the round.",
        ),
        figure(draw(losses, "loss", low=0.0, spans=spans), "The same."),
        figure(
            draw(densities, "density", low=0.0, high=1.0, spans=spans),
            "Active share of the prunable weights at the end of the round.",
        ),
        figure(
            draw(sent, "MB in a round", low=0.0, spans=spans),
            "All messages of the round itself; what is between rounds is in the table of bytes.",
        ),
        figure(
            draw(watched, "watched figure", spans=spans),
            "What sparsity=auto goes by, of the model that was received, by cluster.",
        ),
    )


def accuracy_line(name: str, run: RunFiles) -> Line:
    """Return the accuracy of the clients of each round, in %."""
    rounds = [record for record in run.rounds if record["phase"] not in BETWEEN_ROUNDS]
    return _line(name, rounds, "accuracy", 100.0)


def _line(name: str, records: list[dict[str, Any]], key: str, times: float = 1.0) -> Line:
    known = [record for record in records if record.get(key) is not None]
    return Line(name, [(record["round"], times * record[key]) for record in known])


def phases(run: RunFiles) -> list[tuple[float, str]]:
    """Return the first round of each phase of the plan."""
    first: dict[str, float] = {}
    for entry in run.plan.get("rounds", []):
        first.setdefault(str(entry["phase"]), float(entry["round"]))
    return [(number, name) for name, number in first.items()] if len(first) > 1 else []
