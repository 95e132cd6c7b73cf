"""What ``caafp node`` says, as text."""

from collections.abc import Sequence

from caafp_app.devices.check import DataReport
from caafp_app.devices.rehearsal import Rehearsal


def data_text(report: DataReport) -> str:
    """Return what there is to learn from: windows by class, and remarks."""
    time, *channels = report.shape
    length = f" ({report.seconds:.2f} s)" if report.seconds else ""
    lines = [
        f"data of {report.label}: {sum(report.train.values())} windows to train on, "
        f"{sum(report.test.values())} to test by, each {time} samples{length} x "
        + " x ".join(map(str, channels))
    ]
    if report.form.channels:
        lines.append(f"channels: {', '.join(report.form.channels)}")
    rows = [(name, str(count), str(report.test[name])) for name, count in report.train.items()]
    lines += _table(("class", "train", "test"), rows)
    lines += [f"note: {remark}" for remark in report.remarks]
    return "\n".join(lines)


def rehearsal_text(rehearsal: Rehearsal) -> str:
    """Return what leaves the device, message by message, and what it takes to make it."""
    rows = []
    for reply in rehearsal.replies:
        kinds = [f"{kind} {size}" for kind, size in reply.sent.items() if kind != "envelope"]
        rows.append(
            (
                reply.name,
                str(sum(reply.received.values())),
                str(sum(reply.sent.values())),
                f"{reply.seconds:.2f}",
                ", ".join(kinds),
            )
        )
    fields = dict.fromkeys(name for reply in rehearsal.replies for name in reply.fields)
    lines = [
        "what leaves this device (bytes by kind; no recording, no label of a window, no personal "
        "model):",
        *_table(("message", "bytes in", "bytes out", "seconds", "of which"), rows),
        f"by name, in the clear inside TLS: {', '.join(fields)}",
    ]
    if rehearsal.memory_mb is not None:
        lines.append(
            f"memory: {rehearsal.memory_mb:.0f} MB at most in this process, as in that of a "
            "message; those of `caafp device` stay beside it (docs/devices.md)"
        )
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = [
            cell.rjust(width) if 0 < place < 4 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
