"""The arrows between the parts of the package, as in ARCHITECTURE.md, read off the imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "caafp_app"
ERRORS = frozenset({"errors"})

ARROWS = {
    "errors": frozenset(),
    "registry": ERRORS,
    "settings": ERRORS | {"registry"},
    "protocol": ERRORS,
    "pruning": ERRORS,
    "clustering": ERRORS,
    "runs": ERRORS | {"registry"},
    "models": ERRORS,
    "masking": ERRORS,
    "training": ERRORS,
    "datasets": ERRORS | {"registry", "settings"},
    "strategies": ERRORS | {"protocol", "pruning", "clustering", "runs"},
    "launch": ERRORS | {"registry", "settings", "datasets", "runs"},
    "tune": ERRORS | {"settings", "runs", "launch"},
    "api": ERRORS | {"runs", "launch", "export", "devices"},
    "report": ERRORS | {"runs"},
    "export": ERRORS
    | {"settings", "datasets", "protocol", "pruning", "runs", "models", "training"},
    "bench": ERRORS | {"settings", "runs", "launch"},
    "cli": ERRORS
    | {"registry", "settings", "runs", "launch", "devices", "bench", "report", "export"}
    | {"tune", "client_app"},
    "devices": ERRORS
    | {"settings", "datasets", "protocol", "pruning", "runs", "models", "training"},
    "client_app": ERRORS | {"settings", "datasets", "protocol", "models", "training", "devices"},
    "server_app": ERRORS
    | {"settings", "datasets", "protocol", "runs", "strategies", "models", "training"},
    "__init__": frozenset({"api", "masking", "protocol", "strategies"}),
}
"""What each part may import of ours, besides itself."""

BY_MODULE = {
    "strategies/factory.py": frozenset({"settings"}),
    "strategies/plugged.py": frozenset({"settings"}),
    "launch/beforehand.py": frozenset({"models", "strategies", "server_app"}),
    "bench/simulate.py": frozenset({"client_app", "server_app"}),
}
"""What a single module may import beyond its part: the factory, and what it makes of classes
of others, is where settings end; the check beforehand builds both; and a bench's simulation holds
both apps."""

EAGER = {
    "torch": {"export", "masking", "models", "training"},
    "flwr": {"protocol", "runs", "strategies", "devices", "bench", "client_app", "server_app"},
    "rich": {"cli", "runs"},
    "typer": {"cli"},
    "safetensors": {"export", "runs", "devices"},
    "cryptography": {"devices"},
    "numpy": {
        "export",
        "masking",
        "protocol",
        "pruning",
        "clustering",
        "runs",
        "strategies",
        "datasets",
    }
    | {"training", "client_app", "server_app", "devices", "bench", "report"},
}
"""Which parts import another's package as they are imported themselves."""

LATE = {
    "torch": {"client_app", "server_app", "cli", "launch"},
    "onnxruntime": {"export"},
    "sklearn": {"clustering", "datasets"},
    "scipy": {"clustering", "bench"},
    "matplotlib": {"api", "bench"},
    "tensorboard": {"runs"},
    "mlflow": {"runs"},
    "optuna": {"tune"},
    "pandas": {"api", "datasets"},
    "datasets": {"datasets"},
    "flwr_datasets": {"datasets"},
}
"""Which parts import one inside of a function."""


@dataclass(frozen=True)
class Import:
    """One imported module, and whether it is imported with its importer or inside of a function."""

    module: str
    late: bool
    line: int


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST, late: bool = False) -> Iterator[Import]:
    """Yield the imports below a node, without those that only a type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, late, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(name, late, node.lineno) for name in _from(node))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports_of(other, late)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_of(node, late or inside)


def _from(node: ast.ImportFrom) -> list[str]:
    if node.level or node.module is None:
        return [f"{'.' * node.level}{node.module or ''}"]
    if node.module == "caafp_app":  # `from caafp_app import training` names the part after it
        return [f"caafp_app.{alias.name}" for alias in node.names]
    return [node.module]


MODULES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = {path: list(imports_of(ast.parse(path.read_text(encoding="utf-8")))) for path in MODULES}


def test_every_part_has_its_arrows() -> None:
    assert {part_of(path) for path in MODULES} == set(ARROWS)
    assert sum(map(len, IMPORTS.values())) > 200  # the parser sees them


def test_the_documented_arrows_are_these() -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", text, flags=re.MULTILINE)
    written = {
        part: frozenset(re.findall(r"`(\w+)`", re.sub(r"\(.*", "", to))) for part, to in rows
    }
    assert written == {part: to for part, to in ARROWS.items() if part != "__init__"}


def test_the_parser_tells_late_from_eager_and_leaves_out_what_is_for_types_only() -> None:
    source = (
        "import a.b\nfrom caafp_app import cli\nif TYPE_CHECKING:\n    import c\n"
        "class K:\n    from d import e\n    def f(self):\n        import g\n"
    )
    found = [(item.module, item.late) for item in imports_of(ast.parse(source))]
    assert found == [("a.b", False), ("caafp_app.cli", False), ("d", False), ("g", True)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_of_ours_follow_the_arrows(path: Path) -> None:
    part = part_of(path)
    allowed = ARROWS[part] | BY_MODULE.get(path.relative_to(PACKAGE).as_posix(), frozenset())
    wrong = [
        f"line {item.line}: {item.module}"
        for item in IMPORTS[path]
        if item.module.startswith("caafp_app.")
        and item.module.split(".")[1] not in allowed | {part}
    ]
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_of_others_are_where_they_belong(path: Path) -> None:
    part = part_of(path)
    wrong = []
    for item in IMPORTS[path]:
        name = item.module.partition(".")[0]
        if name in sys.stdlib_module_names or name == "caafp_app":
            continue
        parts = EAGER.get(name, set())
        if item.late:
            parts = parts | LATE.get(name, set())
        if part not in parts:
            wrong.append(f"line {item.line}: {item.module}")
    assert wrong == []


def test_the_arrows_have_no_circle() -> None:
    left = {part: set(targets) for part, targets in ARROWS.items()}
    while left:
        ends = {part for part, targets in left.items() if not targets & left.keys()}
        assert ends, f"a circle among {sorted(left)}"
        left = {part: targets for part, targets in left.items() if part not in ends}


@pytest.mark.parametrize(
    "module", ["caafp_app.client_app", "caafp_app.server_app", "caafp_app.cli"]
)
def test_what_is_heavy_is_not_imported_before_it_is_needed(module: str) -> None:
    heavy = ["torch", "ray", "sklearn", "scipy", "pandas", "datasets", "matplotlib"]
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
