"""The runs of a bench, from its file and the command line: every setting checked beforehand.

A bench file::

    [bench]
    name = "uci"               # the folder of its results
    preset = "caafp"           # settings to start from; may be left out
    seeds = [42, 123]
    against = "caafp"          # the case that the others are compared with; may be left out

    [settings]                 # over the preset, for all cases
    dataset = "uci-har"

    [[case]]
    name = "caafp"

    [[case]]                   # lists are crossed: a case for each combination of their values
    name = "{strategy}-{sparsity}"
    strategy = ["fedsnip", "efficientfl"]
    sparsity = [0.7, 0.9]

``{key}`` in the name of a case, and in ``against``, is the value of that setting.
"""

import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caafp_app.errors import SettingsError
from caafp_app.launch.presets import parse_pairs, read_preset
from caafp_app.launch.source import default_config, presets_folder
from caafp_app.runs.directory import check_name
from caafp_app.settings import Scalar, Settings, hint

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
    """One line of the table.

    Attributes
    ----------
    name : str
        A plain file name, unique in the bench.
    settings : Settings
        For the first seed; see `at`.
    varied : mapping of str to scalar
        What the file says of this case alone.
    against : str
        Name of the case that it is compared with; its own, or empty, for none.
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
    """All runs of a bench.

    Attributes
    ----------
    name : str
        Of the bench; a plain file name.
    cases : tuple of Case
        In the order of the file.
    seeds : tuple of int
        Those to run now.
    all_seeds : tuple of int
        Those, and the file's own: what was run before of these is in the tables too.
    """

    name: str
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    all_seeds: tuple[int, ...]

    def only(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of these names, in the file's order; all if there are none.

        Raises
        ------
        SettingsError
            A name is not a case's.
        """
        known = [case.name for case in self.cases]
        for name in names:
            if name not in known:
                raise SettingsError(
                    f"--only: expected a case ({', '.join(known)}), found {name!r}"
                    f"{hint(name, known)}"
                )
        return tuple(case for case in self.cases if not names or case.name in names)


def bench_names() -> list[str]:
    """Return the names of the bench files that come with the app, sorted."""
    return sorted(path.stem for path in (presets_folder() / "bench").glob("*.toml"))


def bench_file(name: str) -> Path:
    """Return the file of a bench that comes with the app, or the file that was named itself.

    Raises
    ------
    SettingsError
        There is neither; the nearest name is named.
    """
    path = Path(name).expanduser()
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise SettingsError(f"expected a TOML file at {path}, found nothing")
        return path
    known = bench_names()
    if name not in known:
        raise SettingsError(
            f"expected a bench ({', '.join(known)}) or the path of a .toml file, "
            f"found {name!r}{hint(name, known)}"
        )
    return presets_folder() / "bench" / f"{name}.toml"


def read_bench(name: str, pairs: Iterable[str] = ()) -> BenchPlan:
    """Return the plan of a bench.

    Parameters
    ----------
    name : str
        Of a bench that comes with the app, or the path of a file.
    pairs : iterable of str
        ``key=value``, over the settings of all cases; ``seed=N`` is the one seed to run now.

    Raises
    ------
    SettingsError
        The file cannot be found or read, or says what it may not; a setting is refused.
    """
    path = bench_file(name)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"expected TOML in {path}, found: {error}") from error
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
    cases = tuple(_cases(content, path, shared, given, seeds[0], against))
    _check_cases(cases, path)
    return BenchPlan(title, cases, seeds, tuple(dict.fromkeys((*own_seeds, *seeds))))


def _cases(
    content: Mapping[str, Any],
    path: Path,
    shared: Mapping[str, object],
    given: Mapping[str, object],
    seed: int,
    against: str,
) -> Iterable[Case]:
    tables = content.get("case")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"expected one [[case]] at least in {path}, found none")
    for table in tables:
        if not isinstance(table.get("name"), str):
            raise SettingsError(f"expected a name in every [[case]] of {path}, found {table}")
        own = {key: value for key, value in table.items() if key != "name"}
        for key in own.keys() & given.keys():
            raise SettingsError(
                f"{key}: case {table['name']!r} of {path} says what it is; expected another "
                "setting, or --only to choose among the cases"
            )
        for varied in _crossed(own):
            config = dict(shared) | varied | dict(given) | {"seed": seed}
            for key, instead in _NOT_HERE.items():
                if key in varied or key in given:
                    raise SettingsError(f"{key}: a bench has its own; expected {instead}")
            try:
                settings = Settings.from_run_config(config)
            except SettingsError as error:
                raise SettingsError(f"case {table['name']!r} of {path}: {error}") from error
            settings = _placed(settings)
            name = _filled(table["name"], settings, path)
            check_name(name, f"the name of a case in {path}")
            yield Case(name, settings, varied, _filled(against, settings, path))


def _crossed(own: Mapping[str, Any]) -> Iterable[dict[str, Scalar]]:
    """Return every combination of the values of lists, the first list slowest."""
    values = [value if isinstance(value, list) else [value] for value in own.values()]
    for combination in itertools.product(*values):
        yield dict(zip(own, combination, strict=True))


def _placed(settings: Settings) -> Settings:
    """Make the path of the data absolute, as the run itself will."""
    if not settings.data.data_dir:
        return settings
    path = str(Path(settings.data.data_dir).expanduser().resolve())
    return replace(settings, data=replace(settings.data, data_dir=path))


def _filled(template: str, settings: Settings, path: Path) -> str:
    """Put the values of settings in place of ``{key}``."""
    values = settings.to_dict()

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise SettingsError(
                f"{template!r} in {path}: expected settings in brackets, found {match[1]!r}"
                f"{hint(match[1], values)}"
            )
        return str(values[match[1]])

    return _KEY.sub(value, template)


def _check_cases(cases: Sequence[Case], path: Path) -> None:
    names = [case.name for case in cases]
    for case in cases:
        if names.count(case.name) > 1:
            raise SettingsError(
                f"expected a name of its own for every case of {path}, found {case.name!r} twice; "
                "lists of values need {key} in the name"
            )
        if case.against and case.against not in names:
            raise SettingsError(
                f"against in {path}: expected a case ({', '.join(names)}), found "
                f"{case.against!r}{hint(case.against, names)}"
            )


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
