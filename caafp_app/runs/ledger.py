"""The ledger: bytes of all messages of a run, by exchange, direction and kind."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flwr.app import Message

from caafp_app.runs.size import message_bytes

Direction = Literal["down", "up"]
"""``down``: server to client; ``up``: client to server."""

DIRECTIONS: tuple[Direction, Direction] = ("down", "up")
_MAX_KINDS = 64
_UNLISTED = "unlisted"


@dataclass
class Traffic:
    """Messages and bytes by kind of a part of a run, see `size.message_bytes`."""

    messages: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))
    kinds: dict[Direction, Counter[str]] = field(
        default_factory=lambda: {direction: Counter() for direction in DIRECTIONS}
    )

    @property
    def down(self) -> int:
        """Bytes sent to clients."""
        return self.kinds["down"].total()

    @property
    def up(self) -> int:
        """Bytes received from clients."""
        return self.kinds["up"].total()

    @property
    def total(self) -> int:
        """Bytes of both directions."""
        return self.down + self.up

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Return bytes by direction and kind as plain dictionaries, kinds in alphabetic order."""
        return {direction: dict(sorted(self.kinds[direction].items())) for direction in DIRECTIONS}

    def add(self, direction: Direction, sizes: Mapping[str, int], messages: int = 1) -> None:
        """Add `messages` messages that take `sizes` bytes by kind together."""
        self.messages[direction] += messages
        kinds = self.kinds[direction]
        for kind, size in sizes.items():
            # Names come from clients: past a bound they count as one kind, so memory is bounded.
            full = len(kinds) - (_UNLISTED in kinds) >= _MAX_KINDS
            kinds[_UNLISTED if full and kind not in kinds else kind] += size


class Ledger:
    """Counts every message of a run at one seam.

    Memory is constant per message and linear in the number of exchanges (a phase's round). Not
    safe for use by several threads at once.
    """

    def __init__(self) -> None:
        self._exchanges: dict[tuple[str, int], Traffic] = {}
        self._formula = 0.0

    def record(self, direction: Direction, phase: str, message: Message, *, round: int) -> int:
        """Count one message, as sent or received, error replies as well; return its bytes.

        Raises ProtocolError if it holds what Flower cannot serialise; nothing is counted then.
        """
        sizes = message_bytes(message)
        self._exchanges.setdefault((str(phase), int(round)), Traffic()).add(direction, sizes)
        return sum(sizes.values())

    def add_formula(self, parameters: int, density: float, messages: int) -> None:
        """Add to the papers' formula: parameters x 4 bytes x density for each message.

        The formula counts one message down and one up per client and round, so `messages` is twice
        the number of clients. It leaves out masks, gradients, headers and the last download.
        """
        self._formula += parameters * 4 * density * messages

    @property
    def total(self) -> int:
        """Bytes of both directions."""
        return self.overall().total

    @property
    def messages(self) -> int:
        """Number of messages in both directions."""
        return sum(self.overall().messages.values())

    @property
    def formula_total(self) -> int:
        """Bytes by the papers' formula, both directions."""
        return round(self._formula)

    def overall(self) -> Traffic:
        """Return the traffic of the whole run."""
        return _sum(self._exchanges.values())

    def exchange(self, phase: str, round: int) -> Traffic:
        """Return the traffic of one phase in one round (a copy; empty if there was none)."""
        found = self._exchanges.get((str(phase), int(round)))
        return _sum([found] if found else [])

    def by_phase(self) -> dict[str, Traffic]:
        """Return traffic by phase, in order of first appearance."""
        phases: dict[str, list[Traffic]] = {}
        for (phase, _), part in self._exchanges.items():
            phases.setdefault(phase, []).append(part)
        return {phase: _sum(parts) for phase, parts in phases.items()}

    def summary(self) -> dict[str, Any]:
        """Return the totals, JSON-able: ``down, up, total, formula_total, messages, by_*``."""
        overall, phases = self.overall(), self.by_phase().items()
        return {
            "down": overall.down,
            "up": overall.up,
            "total": overall.total,
            "formula_total": self.formula_total,
            "messages": dict(overall.messages),
            "by_kind": overall.by_kind(),
            "by_phase": {name: {"down": one.down, "up": one.up} for name, one in phases},
        }

    def state(self) -> dict[str, Any]:
        """Return everything counted, JSON-able, for `restore`."""
        return {
            "formula": self._formula,
            "exchanges": [
                [phase, number, dict(part.messages), part.by_kind()]
                for (phase, number), part in self._exchanges.items()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace what is counted by what `state()` returned, in this process or another."""
        self._formula = float(state["formula"])
        self._exchanges = {
            (phase, int(number)): Traffic(dict(messages), {k: Counter(v) for k, v in kinds.items()})
            for phase, number, messages, kinds in state["exchanges"]
        }


def _sum(parts: Iterable[Traffic]) -> Traffic:
    result = Traffic()
    for part in parts:
        for direction in DIRECTIONS:
            result.add(direction, part.kinds[direction], part.messages[direction])
    return result
