"""Finding out who is there: the describe exchange, at the start and when nodes appear later."""

import time
from logging import INFO, WARNING

from flwr.common.logger import log

from caafp_app.errors import ProtocolError, RunError
from caafp_app.protocol.messages import Action, Answer
from caafp_app.pruning.schedule import Phase
from caafp_app.runner.opened import Opened
from caafp_app.runner.replies import MAX_REASON, failure
from caafp_app.runner.roster import Client
from caafp_app.runner.runner import Runner
from caafp_app.runner.tally import Tally
from caafp_app.safe_text import sentence

POLL_SECONDS = 0.2
TELL_SECONDS = 10.0


def wait_for_nodes(runner: Runner, minimum: int) -> None:
    """Wait until `minimum` SuperNodes are connected, or raise RunError after the timeout."""
    began, told = time.monotonic(), -TELL_SECONDS
    while (found := len(list(runner.grid.get_node_ids()))) < minimum:
        waited = time.monotonic() - began
        if waited > runner.options.timeout:
            raise RunError(
                f"expected {minimum} SuperNodes (min_available_nodes), found {found} within "
                f"{runner.options.timeout:g} s; start more, or lower min_available_nodes"
            )
        if waited - told >= TELL_SECONDS:
            told = waited
            log(INFO, "waiting for SuperNodes: %d of %d", found, minimum)
        if runner.options.stop():
            raise RunError("told to end while waiting for SuperNodes")
        time.sleep(POLL_SECONDS)


def gather(runner: Runner) -> list[Client]:
    """Ask new nodes who they are, and wait until there is a client that can be asked to work.

    Return the newcomers. Raises RunError if nobody takes part, or can be reached within the
    timeout.
    """
    began = time.monotonic()
    newcomers = discover(runner)
    while not runner.roster.reachable():
        if time.monotonic() - began > runner.options.timeout:
            raise RunError(
                f"no client could be reached for {runner.options.timeout:g} s: "
                f"{len(runner.roster.clients)} are known; resume the run when they are back"
            )
        wait_for_nodes(runner, 1)
        time.sleep(POLL_SECONDS)
        newcomers += discover(runner)
    return newcomers


def discover(runner: Runner) -> list[Client]:
    """Ask the nodes that are new who they are.

    Return the newcomers, sorted by label; not those who come back. Raises RunError if nobody takes
    part.
    """
    roster = runner.roster
    nodes = sorted(runner.grid.get_node_ids())
    roster.meet(nodes)
    new = roster.unknown(nodes)
    found = _ask_who(runner, new) if new else []
    _announce(runner)
    return found


def _announce(runner: Runner) -> None:
    """Say who has come and who is out of reach since this was last called."""
    before = runner.present
    present = {client.label: client.node for client in runner.roster.reachable()}
    if present == before:
        return
    if before:
        for what, labels in (
            ("out of reach", before.keys() - present.keys()),
            ("there now", present.keys() - before.keys()),
        ):
            if labels:
                log(INFO, "%s: %s", what, ", ".join(sorted(labels)))
    runner.present = present
    runner.observer.on_present(present)


def _ask_who(runner: Runner, new: list[int]) -> list[Client]:
    roster = runner.roster
    if not roster.clients:
        log(INFO, "asking %d SuperNodes who they are; starting them takes a moment", len(new))
    tally = Tally(Phase.DESCRIBE, 0)
    found: list[Client] = []
    runner.observer.on_asked((), tally.phase, 0, time.time() + runner.options.timeout)
    for reply in runner.send([runner.writer.describe(node) for node in new], Opened(tally)):
        node = reply.metadata.src_node_id
        try:
            if failed := failure(reply):
                raise ProtocolError(failed[1])
            answer = Answer.from_records(reply.content)
            if answer.action is not Action.DESCRIBE:
                raise ProtocolError(f"expected an answer to describe, found {answer.action}")
            known = roster.known(answer.label) is not None
            if refused := roster.enrol(node, answer, reply.metadata.run_id):
                # Its label may be another's, or no label at all.
                runner.observer.on_answer(f"node {node:x}", ok=False, reason=refused)
                continue
            if key := roster.identities.seen.get(answer.label):
                runner.observer.on_key(answer.label, key)
            if not known:
                found.append(roster.clients[answer.label])
            runner.observer.on_answer(answer.label, ok=True)
        except ProtocolError as error:
            roster.idle[node] = sentence(str(error), MAX_REASON)
            runner.observer.on_answer(f"node {node:x}", ok=False, reason=roster.idle[node])
    _tell_idle(runner, new)
    if not roster.clients:
        reasons = "; ".join(sorted(set(roster.idle.values()))) or "no node answered in time"
        raise RunError(f"no client takes part: {reasons}")
    return sorted(found, key=lambda client: client.label)


def tell_population(runner: Runner) -> None:
    """Say plainly when there are fewer clients than the data has users."""
    roster = runner.roster
    clients, users = len(roster.clients) + len(roster.kept_out), roster.population
    if 0 <= clients < users:
        told = "%d clients for a data set of %d users: the data of %d users is not used"
        log(WARNING, told, clients, users, users - clients)


def _tell_idle(runner: Runner, nodes: list[int]) -> None:
    """Say why nodes take no part, equal reasons together."""
    idle = [runner.roster.idle[node] for node in nodes if node in runner.roster.idle]
    if idle:
        reasons = sorted(set(idle))
        shown = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
        log(WARNING, "%d of %d SuperNodes take no part: %s", len(idle), len(nodes), shown)
