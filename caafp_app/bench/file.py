"""A bench's file, as in ``conf/bench``, and its plan with the command line over it.

``[bench]`` has name, preset, seeds, and the case that the others are compared with; ``[settings]``
stand over the preset, for all cases; each ``[[case]]`` has a name and settings of its own, whose
lists are crossed. ``{key}`` in the name of a case, and in ``against``, is that setting's value.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caafp_app.errors import SettingsError
from caafp_app.launch.following import follow
from caafp_app.launch.presets import app_file, parse_pairs, read_preset, read_toml
from caafp_app.launch.source import default_config, presets_folder
from caafp_app.registry import hint, plain_name
from caafp_app.runs.place import check_name
from caafp_app.settings import Scalar, Settings

_TABLES = {"bench", "settings", "case"}
_BENCH_KEYS = {"name", "preset", "seeds", "against"}
# Where a run's results lie is the bench's own business.
_NOT_HERE = {
    "output-dir": "--output",
    "run-name": "the name of the case",
    "resume-from": "the same command again, which keeps what is finished",
}
_KEY = re.compile(r"\{([a-z-]+)\}")


@dataclass(frozen=True, eq=False)
class Case:
    """One line of the table: its settings, of the first seed, and which of them are its own.

    `against` names the case that it is compared with: its own, or empty, for none.
    """

    name: str
    settings: Settings
    varied: Mapping[str, Scalar]
    against: str = ""

    def at(self, seed: int) -> Settings:
        """Return the settings of the run of one seed."""
        return replace(self.settings, run=replace(self.settings.run, seed=seed))


@dataclass(frozen=True)
class BenchPlan:
    """All runs of a bench; `all_seeds` are the file's own besides, for the tables."""

    name: str
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    all_seeds: tuple[int, ...]

    def only(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of these names, in the file's order; all if there are none."""
        known = [case.name for case in self.cases]
        for name in names:
            if name not in known:
                raise SettingsError(
                    f"--only: expected a case ({', '.join(known)}), found {name!r}"
                    f"{hint(name, known)}"
                )
        return tuple(case for case in self.cases if not names or case.name in names)


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
    cases = _cases(content, path, shared, given, seeds[0], against)
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


def _cases(
    content: Mapping[str, Any],
    path: Path,
    shared: Mapping[str, object],
    given: Mapping[str, object],
    seed: int,
    against: str,
) -> tuple[Case, ...]:
    """Return the cases of a bench's file, every setting of each checked.

    What a case says goes over the settings `shared` by all; `given`, of the command line, goes over
    both. `seed` is the first one; `against`, which may be empty, names the case that each is
    compared with, settings in brackets. Raises SettingsError.
    """
    tables = content.get("case")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"expected one [[case]] at least in {path}, found none")
    cases: list[Case] = []
    for table in tables:
        if not isinstance(table.get("name"), str):
            raise SettingsError(f"expected a name in every [[case]] of {path}, found {table}")
        own = {key: value for key, value in table.items() if key != "name"}
        for key in own.keys() & given.keys():
            raise SettingsError(
                f"{key}: case {table['name']!r} of {path} says what it is; expected another "
                "setting, or --only to choose among the cases"
            )
        values = [value if isinstance(value, list) else [value] for value in own.values()]
        for combination in itertools.product(*values):  # the first list slowest
            varied = dict(zip(own, combination, strict=True))
            config = dict(shared) | varied | dict(given) | {"seed": seed}
            for key, instead in _NOT_HERE.items():
                if key in varied or key in given:
                    raise SettingsError(f"{key}: a bench has its own; expected {instead}")
            follow(config, {**varied, **given}.keys())
            try:
                settings = Settings.from_run_config(config)
            except SettingsError as error:
                raise SettingsError(f"case {table['name']!r} of {path}: {error}") from error
            settings = _placed(settings)
            name = _filled(table["name"], settings, path)
            check_name(name, f"the name of a case in {path}")
            cases.append(Case(name, settings, varied, _filled(against, settings, path)))
    _check_names(cases, path)
    return tuple(cases)


def _placed(settings: Settings) -> Settings:
    """Make the path of the data absolute, as the run itself will."""
    if not settings.data.data_dir:
        return settings
    path = str(Path(settings.data.data_dir).expanduser().resolve())
    return replace(settings, data=replace(settings.data, data_dir=path))


def _filled(template: str, settings: Settings, path: Path) -> str:
    """Put the values of settings in place of ``{key}``."""
    values = {key: plain_name(str(value)) for key, value in settings.to_dict().items()}

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise SettingsError(
                f"{template!r} in {path}: expected settings in brackets, found {match[1]!r}"
                f"{hint(match[1], values)}"
            )
        return values[match[1]]

    return _KEY.sub(value, template)


def _check_names(cases: Sequence[Case], path: Path) -> None:
    names = [case.name for case in cases]
    for case in cases:
        if names.count(case.name) > 1:
            raise SettingsError(
                f"expected a name of its own for every case of {path}, found {case.name!r} twice; "
                "lists of values need {key} in the name ({strategy} of package.module:Class is the "
                "class, in lower case)"
            )
        if case.against and case.against not in names:
            raise SettingsError(
                f"against in {path}: expected a case ({', '.join(names)}), found "
                f"{case.against!r}{hint(case.against, names)}"
            )
