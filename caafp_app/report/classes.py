"""What the page tells of single classes, where clients have told counts of them."""

from caafp_app.report.html import Cell, Row, number, paragraph, section, table
from caafp_app.runs.reading import RunFiles

_MOST_SHOWN = 60
"""Classes whose confusion is shown as a table."""


def classes(run: RunFiles) -> str:
    """Return the recall of each class, and what it is taken for, by model."""
    told = run.summary.get("classes")
    if not told:
        return ""
    names = [str(name) for name in told["names"]]
    models = [model for model in ("cluster", "personal") if model in told]
    rows: list[Row] = []
    for k, name in enumerate(names):
        windows = sum(told[models[-1]]["confusion"][k])
        shares = (number(told[model]["recall"][k], 2, 100.0, shade=True) for model in models)
        rows.append([name, number(windows, 0), *shares])
    heads = ["class", "windows", *(f"{model} models, recall %" for model in models)]
    return section(
        "Classes",
        paragraph(
            "Recall is the share of a class's windows that a model knows: the mean over the "
            "clients that have the class. Below, windows by their class (rows) and the one that "
            "the models take them for (columns), summed over the clients."
        ),
        table(heads, rows, sortable=True),
        *(_confusion(model, names, told[model]["confusion"]) for model in models),
    )


def _confusion(model: str, names: list[str], counts: list[list[int]]) -> str:
    if len(names) > _MOST_SHOWN:
        return ""
    rows: list[Row] = [
        [name, *(Cell(str(count), float(count), count / max(sum(row), 1)) for count in row)]
        for name, row in zip(names, counts, strict=True)
    ]
    return table([f"{model} models", *names], rows)
