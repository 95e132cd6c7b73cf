"""The log as a report: plan, rounds and clusters as lines of text, which its writer makes safe."""

from collections.abc import Mapping, Sequence, Sized
from io import StringIO
from itertools import groupby, pairwise

from rich.console import Console, RenderableType
from rich.tree import Tree

from caafp_app.runs.records import RoundRecord
from caafp_app.runs.timeleft import RoundPlanLike

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
        tree.add(f"{name:<{width}}  {value}")
    phases = [(phase, list(group)) for phase, group in groupby(plan, key=lambda e: str(e.phase))]
    spans = [_span(entries) for _, entries in phases]
    branch = tree.add("phases") if phases else tree
    for span, (phase, entries) in zip(spans, phases, strict=True):
        node = branch.add(f"{span:<{max(map(len, spans))}}  {phase}")
        updates = [entry for entry in entries if entry.mask_update]
        if len(updates) > _UPDATES:
            node.add(_update_span(updates))
            continue
        for entry in updates:
            node.add(f"mask update in round {entry.round}: sparsity {entry.sparsity or 0.0:.3f}")
    return render(tree)


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
        f"accuracy {figure(record.accuracy, 3)}",
        f"loss {figure(record.loss, 2)}",
        f"density {_densities(record.density)}",
        *([f"watched {_densities(record.watched)}"] if record.watched else []),
        megabytes(record.bytes_down + record.bytes_up),
        duration(record.seconds),
    ]
    if seconds_left is not None and numbered:
        parts.append(f"{duration(seconds_left, rough=True)} left")
    if record.mask_updated:
        parts.append("new masks")
    return "  ".join(parts)


def trouble_line(record: RoundRecord) -> str:
    """Render who did not answer and why answers were refused; empty if all went well."""
    parts = []
    if record.refused:
        reasons = [f"{reason} ({count})" for reason, count in record.reasons.items()]
        parts.append(f"{record.refused} refused: {some(reasons, 300) or 'no reason given'}")
        if record.refusals:
            parts[-1] += f"; of {some(list(record.refusals))}"
    if record.missing:
        parts.append(f"{len(record.missing)} missing: {some(record.missing)}")
    if not record.used:
        parts.append("too few replies (min-replies): the models stay as they are")
    return f"round {record.round}: {'; '.join(parts)}" if parts else ""


def influence_lines(record: RoundRecord) -> list[str]:
    """Render whose updates were scaled down and whose were left out; none if nobody's."""
    told = {
        "longer than most, scaled down": record.clipped,
        "against most others, left out": record.opposed,
    }
    return [
        f"round {record.round}: {what}: {len(who)} of {record.answered} updates: {some(who)}"
        for what, who in told.items()
        if who
    ]


def change_lines(record: RoundRecord) -> list[str]:
    """Render who changed the cluster before a round."""
    return [
        f"round {record.round}: {one.what}: {some(one.clients)}: cluster {one.before} to "
        f"{one.after}, {one.why}"
        for one in record.changes
    ]


def members_of(labels: Mapping[str, int]) -> dict[int, list[str]]:
    """Return the labels of each cluster, all in their order."""
    members: dict[int, list[str]] = {number: [] for number in sorted(set(labels.values()))}
    for label, number in sorted(labels.items()):
        members[number].append(label)
    return members


def cluster_lines(labels: Mapping[str, int], note: str) -> list[str]:
    """Render who is in which cluster, the note first."""
    members = members_of(labels)
    head = f"{counted(labels, 'client')} in {counted(members, 'cluster')}"
    return [f"{head}: {note}" if note else head] + [
        f"  cluster {cluster}: {counted(names, 'client')}: {some(names)}"
        for cluster, names in members.items()
    ]


def megabytes(size: int) -> str:
    """Render bytes in MB of 10^6 bytes."""
    return f"{size / 1e6:.2f} MB"


def duration(seconds: float, *, rough: bool = False) -> str:
    """Render seconds as ``1.9 s``, ``2 min`` or ``1 h 05 min``; `rough` drops tenths."""
    if seconds < 59.5 if rough else seconds < 119.95:
        return f"{seconds:.0f} s" if rough else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _span(entries: Sequence[RoundPlanLike]) -> str:
    first, last = entries[0].round, entries[-1].round
    return f"round {first}" if first == last else f"rounds {first}-{last}"


def _densities(densities: Mapping[int, float]) -> str:
    values = [density for _, density in sorted(densities.items())]
    if len(values) > _LISTED:
        return f"{min(values):.2f}-{max(values):.2f} ({len(values)} clusters)"
    return " ".join(f"{value:.2f}" for value in values) or "-"


def figure(value: float | None, digits: int) -> str:
    """Render a figure with so many digits; one that is not known as a dash."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def counted(things: Sized, name: str) -> str:
    """Render how many there are: ``1 client``, ``2 clients``."""
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def some(names: Sequence[str], longest: int = 80) -> str:
    """Name the first of them, each cut to so many characters, and count the rest."""
    listed = ", ".join(str(name)[:longest] for name in names[:_LISTED])
    return f"{listed} and {len(names) - _LISTED} more" if len(names) > _LISTED else listed


def render(content: RenderableType) -> list[str]:
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
