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
TEXT = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")


def named(text: str) -> frozenset[str]:
    """Return what stands in backquotes."""
    return frozenset(re.findall(r"`([\w.]+)`", text))


ARROWS = {"__init__": frozenset({"api", "masking", "protocol", "strategies"})}
"""What each part may import of ours, besides itself."""
BY_MODULE: dict[str, frozenset[str]] = {}
"""What a single module may import beyond its part."""
for part, written in re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", TEXT, flags=re.MULTILINE):
    arrows, _, beyond = written.partition("(and ")
    ARROWS[part] = named(arrows)
    for modules, more in (one.split(": ") for one in beyond.split(";") if one):
        BY_MODULE |= {f"{part}/{module}": named(more) for module in named(modules)}

EAGER = {
    "torch": {"client", "engine", "export", "masking", "models", "training"},
    "flwr": {
        "protocol",
        "runs",
        "runner",
        "strategies",
        "devices",
        "bench",
        "client",
        "client_app",
        "engine",
        "server_app",
    },
    "rich": {"cli", "runs", "watch"},
    "starlette": {"watch"},
    "uvicorn": {"watch"},
    "typer": {"cli"},
    "safetensors": {"runs"},
    "cryptography": {"devices", "protocol"},
    "numpy": {
        "export",
        "masking",
        "vectors",
        "protocol",
        "pruning",
        "clustering",
        "runs",
        "runner",
        "strategies",
        "datasets",
    }
    | {"training", "client", "engine", "server_app", "devices", "bench", "report"},
}
"""Which parts import another's package as they are imported themselves."""

LATE = {
    "torch": {"cli", "devices", "launch"},
    "onnxruntime": {"export"},
    "sklearn": {"clustering", "datasets"},
    "scipy": {"clustering", "bench"},
    "matplotlib": {"api", "bench"},
    "tensorboard": {"runs"},
    "dp_accounting": {"devices"},
    "mlflow": {"runs"},
    "optuna": {"tune"},
    "pandas": {"api", "datasets"},
    "pyarrow": {"datasets"},
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


def test_the_parser_tells_late_from_eager_and_leaves_out_what_is_for_types_only() -> None:
    source = (
        "import a.b\nfrom caafp_app import cli\nif TYPE_CHECKING:\n    import c\n"
        "class K:\n    from d import e\n    def f(self):\n        import g\n"
    )
    found = [(item.module, item.late) for item in imports_of(ast.parse(source))]
    assert found == [("a.b", False), ("caafp_app.cli", False), ("d", False), ("g", True)]


def is_allowed(path: Path, item: Import) -> bool:
    """Whether a module may import another: ours by the arrows, a package by the two tables."""
    part, (name, *rest) = part_of(path), item.module.split(".")
    if name == "caafp_app":
        more = BY_MODULE.get(path.relative_to(PACKAGE).as_posix(), frozenset())
        return not rest or rest[0] in ARROWS[part] | more | {part}
    late = LATE.get(name, set()) if item.late else set()
    return name in sys.stdlib_module_names or part in EAGER.get(name, set()) | late


def test_every_import_is_allowed() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{item.line}: {part_of(path)} may not import {item.module}"
        for path in MODULES
        for item in IMPORTS[path]
        if not is_allowed(path, item)
    ]
    assert not wrong, "\n".join(wrong)


def test_an_import_against_the_arrows_or_too_early_is_found() -> None:
    path = PACKAGE / "pruning" / "schedule.py"
    for module in ("caafp_app.strategies", "torch", "sklearn.cluster"):
        assert not is_allowed(path, Import(module, late=True, line=1))
    clusters = PACKAGE / "clustering" / "agglomerative.py"
    assert is_allowed(clusters, Import("sklearn.cluster", late=True, line=1))
    assert not is_allowed(clusters, Import("sklearn.cluster", late=False, line=1))


def test_the_arrows_have_no_circle() -> None:
    left = {part: set(targets) for part, targets in ARROWS.items()}
    while left:
        ends = {part for part, targets in left.items() if not targets & left.keys()}
        assert ends, f"a circle among {sorted(left)}"
        left = {part: targets for part, targets in left.items() if part not in ends}


@pytest.mark.parametrize(
    "module", [f"caafp_app.{n}" for n in ("client_app", "server_app", "cli", "datasets", "runs")]
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
