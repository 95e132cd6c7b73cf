"""A SuperNode that restarts has lost its mask: it says so, and gets it in the same round."""

from flwr.app import Message

from tests.local_grid import Passage
from tests.strategies.support import Run, accuracies, bits_of, failed, prepare, run

EVERYONE = {"clients-per-round": 6}


def to(done: Run, label: str, round_: int, phase: str) -> list[Passage]:
    """What was asked of a client in a round."""
    return [
        passage
        for passage in done.grid.passages
        if passage.direction == "down"
        and (passage.header["round"], passage.header["phase"]) == (round_, phase)
        and done.label_of[passage.node] == label
    ]


LOST = {
    (1, "warm-up"): (2, "cluster"),
    (3, "prune"): (4, "prune"),
    (8, "prune"): (9, "personalise"),
}
"""When states are wiped, and when it shows: a dense model, a sparse one, the last exchange."""


def test_a_client_that_lost_its_state_gets_mask_and_layout_within_the_round() -> None:
    undisturbed, setup = run(EVERYONE), prepare(EVERYONE)
    lost = sorted(setup.grid.contexts)[:2]

    def forget() -> None:
        for node in lost:
            setup.grid.contexts[node].state.clear()

    setup.seen.at |= dict.fromkeys(LOST, forget)
    done = setup.start()

    for after in LOST.values():
        for node in setup.grid.contexts:
            asked = to(done, done.label_of[node], *after)
            if node in lost:
                first, again = asked
                assert "layout" not in first.header
                assert "layout" in again.header
                assert "mask-base" not in again.header
                # A dense model's mask is told by its digest alone.
                assert ("mask" in again.arrays) == (after != (2, "cluster"))
            else:
                assert len(asked) == 1
        record = done.seen.round(*after)
        assert (record.asked, record.answered, record.refused, record.missing) == (6, 6, 0, ())
    # Both ways, the error replies too, are in the ledger.
    assert done.ledger.messages - undisturbed.ledger.messages == 3 * 2 * 2
    assert done.ledger.total == sum(p.nbytes for p in done.grid.passages)
    assert bits_of(done.result) == bits_of(undisturbed.result)
    assert accuracies(done.seen.report) == accuracies(undisturbed.seen.report)


def test_a_client_that_forgets_at_every_message_is_refused_and_not_asked_for_ever() -> None:
    setup = prepare(EVERYONE | {"prune-rounds": 2, "sparsity": 0.5})
    victim = min(setup.grid.contexts)

    def deaf(request: Message, reply: Message) -> Message:
        header = request.content.config_records["caafp"]
        if (request.metadata.dst_node_id, header["round"]) != (victim, 3):
            return reply
        return failed(request, reply, 470, "mask 00 is not held here")

    setup.grid.tamper = deaf
    done = setup.start()
    record = done.seen.round(3)
    assert record.reasons == {"mask-unknown: mask 00 is not held here": 1}
    assert (record.answered, record.refused) == (5, 1)
    assert len(to(done, done.label_of[victim], 3, "prune")) == 2
    assert done.seen.round(4).answered == 6
