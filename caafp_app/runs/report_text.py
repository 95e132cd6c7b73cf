"""The end of a run as plain lines of text: its clusters, accuracies, bytes and seconds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from caafp_app.runs.classes import ClassCounts
from caafp_app.runs.records import ClientRecord, RunReport
from caafp_app.runs.summary import known, spread
from caafp_app.runs.text import counted, duration, figure, megabytes, render, some

_MOST_CLASSES = 30
"""Of more classes only those that are known worst are in the table."""


def report_lines(report: RunReport) -> list[str]:
    """Render the end of a run: a table of clusters, then accuracies, bytes and seconds."""
    table = Table(box=SIMPLE, pad_edge=False, show_footer=True)
    all_clients = report.clients
    examples = sum(cluster.examples for cluster in report.clusters.values())
    names = ("cluster", "clients", "examples", "density", "cluster model", "personal models")
    for name, footer in zip(names, _row("all", all_clients, examples, ""), strict=True):
        table.add_column(name, footer=footer, justify="right")
    for number, cluster in sorted(report.clusters.items()):
        clients = [client for client in all_clients if client.cluster == number]
        table.add_row(*_row(str(number), clients, cluster.examples, f"{cluster.density:.3f}"))
    ledger, sent = report.ledger, report.ledger.overall()
    return [
        f"clusters; accuracy in % on each client's {report.split} data, mean over clients",
        *render(table),
        *_unscored_line(all_clients),
        _accuracy_line("cluster models", [client.cluster_accuracy for client in all_clients]),
        _accuracy_line("personal models", [client.personal_accuracy for client in all_clients]),
        *_f1_line(all_clients),
        *(_class_lines(report.classes, report.split) if report.classes else []),
        *_epochs_lines([client.finetune_epochs for client in all_clients]),
        f"sent: {megabytes(sent.down)} down, {megabytes(sent.up)} up, "
        f"{megabytes(sent.total)} in all, {ledger.messages} messages "
        f"(papers' formula: {megabytes(ledger.formula_total)})",
        _time_line(report.seconds),
    ]


def _row(
    name: str, clients: Sequence[ClientRecord], examples: int, density: str
) -> tuple[str, ...]:
    accuracies = (
        [client.cluster_accuracy for client in clients],
        [client.personal_accuracy for client in clients],
    )
    shares = (_percent(known(values)) for values in accuracies)
    return name, _counted(clients), str(examples), density, *shares


def _scored(clients: Iterable[ClientRecord]) -> list[ClientRecord]:
    """Return the clients that the means are over."""
    return [one for one in clients if known([one.cluster_accuracy, one.personal_accuracy])]


def _counted(clients: Sequence[ClientRecord]) -> str:
    """Render how many there are; where some were not scored, of how many the means are."""
    scored = len(_scored(clients))
    return f"{scored} of {len(clients)}" if 0 < scored < len(clients) else str(len(clients))


def _unscored_line(clients: Sequence[ClientRecord]) -> list[str]:
    """Name who is in no mean: a device that is lost, or one that has nothing to test by."""
    scored = {one.label for one in _scored(clients)}
    names = [one.label for one in clients if one.label not in scored]
    return [f"not scored in the end: {some(names)}"] if scored and names else []


def _epochs_lines(epochs: Iterable[float | None]) -> list[str]:
    """Say how long clients that found it themselves have fine-tuned; nothing of others."""
    found = sorted(known(epochs))
    if not found:
        return []
    kept, its = found.count(0), "its" if found.count(0) == 1 else "their"
    those = f"; {counted(range(kept), 'client')} kept {its} cluster's model"
    return [
        f"epochs of fine-tuning, found by each client: median {median(found):g}, "
        f"{found[0]:g} to {found[-1]:g}{those if kept else ''}"
    ]


def _f1_line(clients: Sequence[ClientRecord]) -> list[str]:
    """Render macro-F1; nothing where no client reports it."""
    told = []
    for model in ("cluster", "personal"):
        found = spread(getattr(client, f"{model}_f1") for client in clients)
        if found["clients"]:
            mean, worst = figure(found["mean"], 3), figure(found["worst_tenth"], 3)
            told.append(f"{model} models mean {mean}, worst tenth {worst}")
    return [f"macro-F1: {'; '.join(told)}"] if told else []


def _class_lines(classes: ClassCounts, split: str) -> list[str]:
    """Render how well each class is known, and what it is mostly taken for."""
    models = list(classes.counts)
    recalls = {model: classes.recall(model) for model in models}
    confusion = classes.confusion(models[-1])
    windows = confusion.sum(axis=1)
    wrong = confusion - np.diag(np.diag(confusion))
    table = Table(box=SIMPLE, pad_edge=False)
    names = (f"{model} model{'s' * (model == 'personal')}" for model in models)
    for name in ("class", "windows", *names, "taken for"):
        table.add_column(name, justify="left" if name in ("class", "taken for") else "right")
    last = [1.0 if share is None else share for share in recalls[models[-1]]]
    worst = sorted(np.argsort(last, kind="stable")[:_MOST_CLASSES])
    for one in worst:
        other = int(wrong[one].argmax())
        share = wrong[one, other] / max(windows[one], 1)
        shares = (_percent(known([recalls[model][one]])) for model in models)
        taken = f"{classes.names[other]} {100 * share:.1f}" if share else ""
        table.add_row(classes.names[one], str(windows[one]), *shares, taken)
    clients = max(len(told) for told in classes.counts.values())
    return [
        f"classes; recall in % on {split} data, mean over those of "
        f"{counted(range(clients), 'client')} that have the class; what {models[-1]} models "
        "mostly take it for instead, in %",
        *render(table),
    ]


def _time_line(seconds: Mapping[str, float]) -> str:
    """Render the time of a run as a sum that adds up to the digit."""
    after = seconds["total"] - seconds["startup"] - seconds["rounds"]
    names = ("start-up", "rounds", "personal models")
    parts = [round(value, 1) for value in (seconds["startup"], seconds["rounds"], max(after, 0.0))]
    added = " + ".join(f"{name} {part:.1f} s" for name, part in zip(names, parts, strict=True))
    total = sum(parts)
    rough = f" ({duration(total)})" if total >= 119.95 else ""
    return f"time of the server: {added} = {total:.1f} s{rough}"


def _accuracy_line(what: str, values: Iterable[float | None]) -> str:
    found = spread(values)
    if not found["clients"]:
        return f"accuracy of {what}: not reported"
    keys = ("mean", "std", "min", "worst_tenth")
    told = ", ".join(f"{key.replace('_', ' ')} {figure(found[key], 3)}" for key in keys)
    return f"accuracy of {what}: {told}, {found['clients']} clients"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"
