"""A bench's file, as in ``conf/bench``, and its plan with the command line over it.

``[bench]`` has name, preset, seeds, and the case that the others are compared with; ``[settings]``
stand over the preset, for all cases; each ``[[case]]`` has a name and settings of its own, whose
lists are crossed. ``{key}`` in the name of a case, and in ``against``, is that setting's value.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from caafp_app.bench.cases import BenchPlan, read_cases
from caafp_app.errors import SettingsError
from caafp_app.launch.presets import app_file, parse_pairs, read_preset, read_toml
from caafp_app.launch.source import default_config, presets_folder
from caafp_app.registry import hint
from caafp_app.runs.place import check_name

_TABLES = {"bench", "settings", "case"}
_BENCH_KEYS = {"name", "preset", "seeds", "against"}


def read_bench(name: str, pairs: Iterable[str] = ()) -> BenchPlan:
    """Return the plan of a bench that comes with the app, or of the file at that path.

    `pairs` are ``key=value``, over the settings of all cases; ``seed=N`` is the one seed to run
    now.
    """
    path = app_file(name, "bench", presets_folder() / "bench")
    content = read_toml(path)
    _only_keys(content, _TABLES, str(path), "table")
    head = _table(content, "bench", path)
    _only_keys(head, _BENCH_KEYS, f"[bench] of {path}", "key")
    title = check_name(_text(head, "name", path.stem), f"name in {path}")
    given = parse_pairs(pairs)
    own_seeds = _seeds(head, path)
    seeds = (given.pop("seed"),) if "seed" in given else own_seeds
    if not all(isinstance(seed, int) for seed in seeds):
        raise SettingsError(f"seed: expected a whole number, found {seeds[0]!r}")
    shared = read_preset(str(head["preset"])) if "preset" in head else {}
    shared = default_config() | shared | _table(content, "settings", path)
    against = _text(head, "against", "")
    cases = read_cases(content, path, shared, given, seeds[0], against)
    return BenchPlan(title, cases, seeds, tuple(dict.fromkeys((*own_seeds, *seeds))))


def _seeds(head: Mapping[str, Any], path: Path) -> tuple[Any, ...]:
    seeds = head.get("seeds", [42])
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise SettingsError(
            f"seeds in {path}: expected different whole numbers, as [42, 123], found {seeds!r}"
        )
    return tuple(seeds)


def _table(content: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"expected a table [{name}] in {path}, found {table!r}")
    return dict(table)


def _text(head: Mapping[str, Any], key: str, default: str) -> str:
    value = head.get(key, default)
    if not isinstance(value, str):
        raise SettingsError(f"{key} in [bench]: expected a string, found {value!r}")
    return value


def _only_keys(found: Mapping[str, Any], known: set[str], where: str, what: str) -> None:
    for key in found:
        if key not in known:
            raise SettingsError(
                f"{where}: unknown {what} {key!r}; expected {', '.join(sorted(known))}"
                f"{hint(key, known)}"
            )
