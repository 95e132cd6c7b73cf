"""Clients that fail again and again rest for some rounds; those that stay away are let go."""

from collections.abc import Iterable

from caafp_app.runner.roster import Client
from caafp_app.runner.tally import Tally

LONGEST_REST = 16
"""Rounds."""


def note_failures(clients: Iterable[Client], tally: Tally, rest_after: int) -> None:
    """Take note of an exchange: who answered is well again, who failed too often in a row rests.

    Refused and missing are failures; `rest_after` of them in a row lead to the first rest, of two
    rounds. Each failure right after a rest doubles the next, up to `LONGEST_REST`. 0: nobody rests.
    """
    missing = set(tally.missing)
    for client in clients:
        if client.label in tally.contents or client.label in tally.empty:
            client.failures, client.silent = 0, False
        elif client.label in tally.refusals or client.label in missing:
            client.failures += 1
            client.silent = client.label in missing
            if rest_after and client.failures >= rest_after:
                rest = min(2 ** min(client.failures - rest_after + 1, 30), LONGEST_REST)
                client.rests_until = tally.round + rest


def available(clients: list[Client], round_: int) -> list[Client]:
    """Return those that do not rest in this round; all of them, if all rest."""
    return [client for client in clients if client.rests_until < round_] or clients
