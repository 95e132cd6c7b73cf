"""The log as a report: plan, rounds and clusters as plain lines of text."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from io import StringIO
from itertools import groupby, pairwise
from statistics import median

from rich.box import SIMPLE
from rich.console import Console, RenderableType
from rich.table import Table
from rich.tree import Tree

from caafp_app.runs.records import ClientRecord, RoundRecord, RunReport
from caafp_app.runs.summary import known, spread
from caafp_app.runs.timeleft import RoundPlanLike
from caafp_app.safe_text import printable

_WIDTH = 110
_LISTED = 8
"""So many labels or clusters are named in a line, the rest counted."""
_UPDATES = 6
"""So many mask updates of a phase are listed in the plan; more are summed up."""


def plan_lines(plan: Sequence[RoundPlanLike], facts: Mapping[str, object]) -> list[str]:
    """Render the plan as a tree: first the facts in their order, then the phases.

    Consecutive rounds of one phase become one branch.
    """
    tree = Tree(f"plan: {len(plan)} rounds")
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        tree.add(printable(f"{name:<{width}}  {value}"))
    phases = [(phase, list(group)) for phase, group in groupby(plan, key=lambda e: str(e.phase))]
    spans = [_span(entries) for _, entries in phases]
    branch = tree.add("phases") if phases else tree
    for span, (phase, entries) in zip(spans, phases, strict=True):
        node = branch.add(printable(f"{span:<{max(map(len, spans))}}  {phase}"))
        updates = [entry for entry in entries if entry.mask_update]
        if len(updates) > _UPDATES:
            node.add(_update_span(updates))
            continue
        for entry in updates:
            node.add(f"mask update in round {entry.round}: sparsity {entry.sparsity or 0.0:.3f}")
    return _render(tree)


def _update_span(updates: Sequence[RoundPlanLike]) -> str:
    """Render many mask updates as one line."""
    first, last = updates[0], updates[-1]
    gaps = {after.round - before.round for before, after in pairwise(updates)}
    every = f"every {gaps.pop()} rounds" if len(gaps) == 1 else "not evenly spaced"
    return (
        f"{len(updates)} mask updates in rounds {first.round} to {last.round}, {every}: sparsity "
        f"{first.sparsity or 0.0:.3f} to {last.sparsity or 0.0:.3f}"
    )


def round_line(
    record: RoundRecord, total_rounds: int, seconds_left: float | None, phase_width: int = 0
) -> str:
    """Render one round as one line; one outside of 1 ... total_rounds shows its phase only.

    The seconds left stand at its end unless they are None. Phases are padded to `phase_width`, so
    that lines stand in columns.
    """
    digits = len(str(total_rounds))
    numbered = 1 <= record.round <= total_rounds
    number = f"round {record.round:>{digits}}/{total_rounds} "
    if not numbered:
        number = " " * len(number)
    asked = str(record.asked)
    parts = [
        f"{number}{record.phase:<{phase_width}}",
        f"{record.answered:>{len(asked)}}/{asked} clients",
        f"accuracy {_number(record.accuracy, 3)}",
        f"loss {_number(record.loss, 2)}",
        f"density {_densities(record.density)}",
        *([f"watched {_densities(record.watched)}"] if record.watched else []),
        megabytes(record.bytes_down + record.bytes_up),
        duration(record.seconds),
    ]
    if seconds_left is not None and numbered:
        parts.append(f"{duration(seconds_left, rough=True)} left")
    if record.mask_updated:
        parts.append("new masks")
    return printable("  ".join(parts))


def trouble_line(record: RoundRecord) -> str:
    """Render who did not answer and why answers were refused; empty if all went well."""
    parts = []
    if record.refused:
        reasons = [f"{reason} ({count})" for reason, count in record.reasons.items()]
        parts.append(f"{record.refused} refused: {_some(reasons) or 'no reason given'}")
        if record.refusals:
            parts[-1] += f"; of {_some(list(record.refusals))}"
    if record.missing:
        parts.append(f"{len(record.missing)} missing: {_some(record.missing)}")
    if not record.used:
        parts.append("too few replies (min-replies): the models stay as they are")
    return printable(f"round {record.round}: {'; '.join(parts)}") if parts else ""


def presence_line(nodes: Mapping[str, int]) -> str:
    """Render who is there: label and id of the node, which Flower's commands go by."""
    named = [f"{label} (node {node})" for label, node in sorted(nodes.items())]
    return printable(f"{_count(named, 'device')}: {_some(named)}")


def answer_line(label: str, reason: str) -> str:
    """Render that a client has answered, and why its answer is refused if it is."""
    return printable(f"answered: {label[:80]}" + (f", refused: {reason}" if reason else ""))


def so_far_line(phase: str, answered: int, asked: int, seconds: float) -> str:
    """Render how many clients have answered in an exchange that takes long."""
    return printable(
        f"{phase}: {answered} of {asked} clients have answered after {duration(seconds)}"
    )


def clipped_line(record: RoundRecord) -> str:
    """Render whose updates were scaled down; empty if nobody's."""
    if not record.clipped:
        return ""
    who = f"{len(record.clipped)} of {record.answered} updates: {_some(record.clipped)}"
    return printable(f"round {record.round}: longer than most, scaled down: {who}")


def change_lines(record: RoundRecord) -> list[str]:
    """Render who changed the cluster before a round."""
    return [
        printable(
            f"round {record.round}: {one.what}: {_some(one.clients)}: cluster {one.before} to "
            f"{one.after}, {one.why}"
        )
        for one in record.changes
    ]


def cluster_lines(labels: Mapping[str, int], note: str) -> list[str]:
    """Render who is in which cluster, the note first."""
    members: dict[int, list[str]] = {}
    for label, cluster in sorted(labels.items()):
        members.setdefault(cluster, []).append(label)
    head = f"{_count(labels, 'client')} in {_count(members, 'cluster')}" + (
        f": {note}" if note else ""
    )
    return [printable(head)] + [
        printable(f"  cluster {cluster}: {_count(names, 'client')}: {_some(names)}")
        for cluster, names in sorted(members.items())
    ]


def report_lines(report: RunReport) -> list[str]:
    """Render the end of a run: a table of clusters, then accuracies, bytes and seconds."""
    table = Table(box=SIMPLE, pad_edge=False, show_footer=True)
    all_clients = report.clients
    total = (
        "all",
        str(len(all_clients)),
        str(sum(cluster.examples for cluster in report.clusters.values())),
        "",
        _percent(known(client.cluster_accuracy for client in all_clients)),
        _percent(known(client.personal_accuracy for client in all_clients)),
    )
    names = ("cluster", "clients", "examples", "density", "cluster model", "personal models")
    for name, footer in zip(names, total, strict=True):
        table.add_column(name, footer=footer, justify="right")
    for number, cluster in sorted(report.clusters.items()):
        clients = [client for client in all_clients if client.cluster == number]
        table.add_row(
            str(number),
            str(len(cluster.members)),
            str(cluster.examples),
            f"{cluster.density:.3f}",
            _percent(known(client.cluster_accuracy for client in clients)),
            _percent(known(client.personal_accuracy for client in clients)),
        )
    ledger, seconds = report.ledger, report.seconds
    return [
        f"clusters; accuracy in % on each client's {report.split} data, mean over clients",
        *_render(table),
        _accuracy_line("cluster models", [client.cluster_accuracy for client in all_clients]),
        _accuracy_line("personal models", [client.personal_accuracy for client in all_clients]),
        *_f1_line(all_clients),
        *_epochs_lines([client.finetune_epochs for client in all_clients]),
        f"sent: {megabytes(ledger.down)} down, {megabytes(ledger.up)} up, "
        f"{megabytes(ledger.total)} in all, {ledger.messages} messages "
        f"(papers' formula: {megabytes(ledger.formula_total)})",
        _time_line(seconds),
    ]


def _epochs_lines(epochs: Iterable[float | None]) -> list[str]:
    """Say how long clients that found it themselves have fine-tuned; nothing of others."""
    found = sorted(known(epochs))
    if not found:
        return []
    kept = found.count(0)
    those = (
        f"; {_count(range(kept), 'client')} kept {'its' if kept == 1 else 'their'} cluster's model"
    )
    return [
        f"epochs of fine-tuning, found by each client: median {median(found):g}, "
        f"{found[0]:g} to {found[-1]:g}{those if kept else ''}"
    ]


def _f1_line(clients: Sequence[ClientRecord]) -> list[str]:
    """Render macro-F1; nothing where no client reports it."""
    kinds = {
        "cluster models": [client.cluster_f1 for client in clients],
        "personal models": [client.personal_f1 for client in clients],
    }
    told = [
        f"{what} mean {_number(figures['mean'], 3)}, worst tenth "
        f"{_number(figures['worst_tenth'], 3)}"
        for what, values in kinds.items()
        if (figures := spread(values))["clients"]
    ]
    return [f"macro-F1: {'; '.join(told)}"] if told else []


def _time_line(seconds: Mapping[str, float]) -> str:
    """Render the time of a run as a sum that adds up to the digit."""
    after = seconds["total"] - seconds["startup"] - seconds["rounds"]
    names = ("start-up", "rounds", "personal models")
    parts = [round(value, 1) for value in (seconds["startup"], seconds["rounds"], max(after, 0.0))]
    added = " + ".join(f"{name} {part:.1f} s" for name, part in zip(names, parts, strict=True))
    total = sum(parts)
    rough = f" ({duration(total)})" if total >= 119.95 else ""
    return f"time of the server: {added} = {total:.1f} s{rough}"


def megabytes(size: int) -> str:
    """Render bytes in MB of 10^6 bytes."""
    return f"{size / 1e6:.2f} MB"


def duration(seconds: float, *, rough: bool = False) -> str:
    """Render seconds as ``1.9 s``, ``2 min`` or ``1 h 05 min``; `rough` drops tenths."""
    if seconds < 59.5 if rough else seconds < 119.95:
        return f"{seconds:.0f} s" if rough else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _accuracy_line(what: str, values: Iterable[float | None]) -> str:
    figures = spread(values)
    if not figures["clients"]:
        return f"accuracy of {what}: not reported"
    return (
        f"accuracy of {what}: mean {_number(figures['mean'], 3)}, "
        f"std {_number(figures['std'], 3)}, min {_number(figures['min'], 3)}, "
        f"worst tenth {_number(figures['worst_tenth'], 3)}, {figures['clients']} clients"
    )


def _span(entries: Sequence[RoundPlanLike]) -> str:
    first, last = entries[0].round, entries[-1].round
    return f"round {first}" if first == last else f"rounds {first}-{last}"


def _densities(densities: Mapping[int, float]) -> str:
    values = [density for _, density in sorted(densities.items())]
    if len(values) > _LISTED:
        return f"{min(values):.2f}-{max(values):.2f} ({len(values)} clusters)"
    return " ".join(f"{value:.2f}" for value in values) or "-"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(str(name)[:80] for name in names[:_LISTED])
    return f"{listed} and {len(names) - _LISTED} more" if len(names) > _LISTED else listed


def _render(content: RenderableType) -> list[str]:
    """Render by rich without colours or markup: the lines go to files as well as terminals."""
    out = StringIO()
    console = Console(
        file=out,
        width=_WIDTH,
        force_terminal=False,
        force_jupyter=False,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    console.print(content)
    return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
