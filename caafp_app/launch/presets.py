"""Checked settings in three layers: the app's defaults, a preset over them, ``key=value`` pairs."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from caafp_app.errors import SettingsError, reading
from caafp_app.launch.following import follow
from caafp_app.launch.source import default_config, presets_folder
from caafp_app.registry import hint
from caafp_app.settings import Scalar, Settings, knobs
from caafp_app.settings.text import decoded


def preset_names() -> list[str]:
    """Return the names of the presets that come with the app, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.toml"))


def app_file(name: str, what: str, folder: Path) -> Path:
    """Return ``name.toml`` of a folder of the app, or the file that was named itself."""
    if "=" in name and name.partition("=")[0] in {knob.key for knob in knobs()}:
        raise SettingsError(f"expected the name of a {what} before the settings, found {name!r}")
    path = Path(name).expanduser()
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise SettingsError(f"expected a TOML file at {path}, found nothing")
        return path
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise SettingsError(
            f"expected a {what} ({', '.join(known)}) or the path of a .toml file, "
            f"found {name!r}{hint(name, known)}"
        )
    return folder / f"{name}.toml"


def read_preset(name: str) -> dict[str, object]:
    """Return the flat keys and values of a preset or file.

    A file may start from another: ``preset = "caafp"``, or the path of a file, relative to its own
    folder. Raises SettingsError if there is none, it is not TOML, has tables, or starts from
    itself.
    """
    return _read(app_file(name, "preset", presets_folder()), ())


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, object]:
    if path.resolve() in below:
        raise SettingsError(f"preset in {path}: expected another file, found one that starts here")
    values = read_toml(path)
    tables = [key for key, value in values.items() if isinstance(value, dict)]
    if tables:
        raise SettingsError(
            f"expected flat `key = value` lines in {path}, found the table [{tables[0]}]; "
            "write its keys without it"
        )
    base = values.pop("preset", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise SettingsError(f"preset in {path}: expected a name or a path, found {base!r}")
    beside = path.parent / Path(base).expanduser()
    if beside.suffix != ".toml" or not beside.is_file():
        beside = app_file(base, "preset", presets_folder())
    return _read(beside, (*below, path.resolve())) | values


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says, whatever byte-order mark an editor put before it."""
    with reading(f"TOML in {path}", SettingsError):
        return tomllib.loads(decoded(path.read_bytes()))


def parse_pairs(pairs: Iterable[str]) -> dict[str, object]:
    """Return ``key=value`` pairs as keys and values of TOML; strings may go without quotes."""
    strings = {knob.key for knob in knobs() if isinstance(knob.default, str)}
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not key or not equals:
            raise SettingsError(f"expected key=value without blanks, found {pair!r}")
        if key in values:
            raise SettingsError(f"{key}: expected once, found twice")
        value = _parse(text)
        # Without this `run-name=42` would be a number, and `data-dir=2024-01-01` a date.
        values[key] = text if key in strings and not isinstance(value, str) else value
    return values


def _parse(text: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        # As people and other languages write them.
        if re.fullmatch(r"[+-]?(\.\d+|\d+\.)", text):
            return float(text)
        return {"True": True, "False": False}.get(text, text)
    return parsed["value"] if len(parsed) == 1 else text


def merged(preset: str, pairs: Iterable[str]) -> Settings:
    """Return the checked settings of a preset (or file) with pairs over it."""
    return combined(read_preset(preset), parse_pairs(pairs))[0]


def combined(
    preset: Mapping[str, object], given: Mapping[str, object]
) -> tuple[Settings, list[str]]:
    """Return checked settings, and a note for each value that followed another.

    `given` is what the user said. A setting of `preset`, or a default, gives way to one that was
    given.
    """
    values: dict[str, object] = {**default_config(), **preset, **given}
    notes = follow(values, given.keys())
    return Settings.from_run_config(values), notes


def to_toml(values: Mapping[str, Scalar]) -> str:
    """Return flat keys and values as TOML text, a line each.

    Law: ``tomllib.loads(to_toml(values)) == values`` for finite numbers and any text.
    """
    return "".join(f"{key} = {literal(value)}\n" for key, value in values.items())


def literal(value: Scalar) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
