"""Arguments of a strategy's constructor, as one setting holds them."""

import math
import tomllib
from collections.abc import Mapping

from caafp_app.errors import SettingsError
from caafp_app.settings.knob import Scalar

_FORM = "the inside of a TOML inline table, as \"sharing=0.4, linkage='complete'\""


def parse_arguments(text: str) -> Mapping[str, Scalar]:
    """Return the arguments of the inside of a TOML inline table by name, ``-`` becoming ``_``.

    Raises SettingsError if it is none, a name is no name of an argument, or a value is no finite
    scalar.
    """
    try:
        parsed = tomllib.loads(f"arguments = {{{text}}}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"strategy-args: expected {_FORM}, found {text!r} ({error})") from error
    if len(parsed) != 1:  # the text closed the table, and began another key
        raise SettingsError(f"strategy-args: expected {_FORM}, found {text!r}")
    found: dict[str, Scalar] = {}
    for key, value in parsed["arguments"].items():
        name = key.replace("-", "_")
        if not name.isidentifier() or name.startswith("_") or name in found:
            raise SettingsError(
                f"strategy-args: expected names of arguments, each once, found {key!r}"
            )
        if not isinstance(value, bool | int | float | str) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise SettingsError(
                f"strategy-args: expected {key} to be a finite number, true, false or a string, "
                f"found {value!r}"
            )
        found[name] = value
    return found
