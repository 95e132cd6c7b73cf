"""What a client says of itself before the first round, and what its node-config says of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Context

from caafp_app.errors import ProtocolError


@dataclass(frozen=True)
class Description:
    """What a client says of itself before the first round.

    Attributes
    ----------
    label : str
        A name that stays the same over runs and restarts; the server keeps everything by it.
    examples, population : int
        Training examples, and how many clients the data naturally has; -1 if unknown.
    idle : str
        Why this client takes no part, e.g. that it has no data; empty if it does.
    strength : float
        Share of the network that this device can take, in (0, 1]: see `level_in`.
    """

    label: str
    examples: int = -1
    population: int = -1
    idle: str = ""
    strength: float = 1.0


def level_in(node_config: Mapping[str, bool | int | float | str]) -> float:
    """Return the ``level`` of a node-config: how much of the network the device can take; else 1.

    Raises ProtocolError if it is no number above 0 and at most 1.
    """
    value = node_config.get("level", 1.0)
    if isinstance(value, bool | str) or not 0.0 < value <= 1.0:
        raise ProtocolError(
            f"level in the node-config: expected a number above 0 and at most 1, found {value!r}"
        )
    return float(value)


def describe_node(context: Context) -> Description:
    """Name a client by its node-config: ``label``, else ``partition-id``, else its node id.

    A node id changes when a SuperNode is registered anew: give devices a ``label``.
    """
    config, level = context.node_config, level_in(context.node_config)
    if "label" in config:
        return Description(str(config["label"]), strength=level)
    if "partition-id" in config:
        part = config["partition-id"]
        number = str(part).isdecimal()
        label = f"part-{int(part):04d}" if number else f"part-{part}"
        return Description(label, strength=level)
    return Description(f"node-{context.node_id:x}", strength=level)
