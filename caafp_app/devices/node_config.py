"""A SuperNode's node-config, as Flower takes it on a command line or from a file."""

import re
from collections.abc import Mapping
from pathlib import Path

from caafp_app.errors import SettingsError
from caafp_app.protocol.identity import KEY_PATH
from caafp_app.runs.files import write_atomic

_QUOTED = re.compile(r"[^\"\\\x00-\x1f\x7f]*")


def device_config(
    data_path: Path, label: str, state_dir: Path | None, key: Path | None = None
) -> dict[str, str]:
    """Return the node-config of a device; paths are made absolute.

    Raises SettingsError for a value that Flower's notation cannot hold.
    """
    values: dict[str, str] = {"data-path": str(data_path.expanduser().absolute())}
    if label:
        values["label"] = label
    if state_dir is not None:
        values["state-dir"] = str(state_dir.expanduser().absolute())
    if key is not None:
        values[KEY_PATH] = str(key.expanduser().absolute())
    for name, value in values.items():
        if not _QUOTED.fullmatch(value):
            raise SettingsError(
                f"{name}: expected no quotes, backslashes or control characters, found {value!r}"
            )
    return values


def as_line(config: Mapping[str, str]) -> str:
    """Return the value of ``--node-config``: ``key="value"`` pairs with blanks between."""
    return " ".join(f'{key}="{value}"' for key, value in config.items())


def write_file(path: Path, config: Mapping[str, str]) -> None:
    """Write the ``.toml`` file that ``--node-config`` may name instead."""
    if path.suffix != ".toml":
        raise SettingsError(f"expected a file that ends in .toml, found {path}")
    lines = [f'{key} = "{value}"\n' for key, value in config.items()]
    write_atomic(path, "".join(lines).encode())
