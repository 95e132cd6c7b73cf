"""What local training minimises: a function for each key of `protocol.objective`.

Each trains a model that it is given and returns a `Trained`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from caafp_app.client.finetune import Trained, finetune
from caafp_app.client.tasks import Arrays, Tasks
from caafp_app.client.work import Work
from caafp_app.devices.kept import state_folder
from caafp_app.devices.personal import keep_own, load_own
from caafp_app.errors import ProtocolError
from caafp_app.protocol.held import keep_record, kept_arrays
from caafp_app.protocol.messages import from_record
from caafp_app.protocol.objective import CENTRE_WEIGHT, DUAL_WEIGHT, OWN, option

PULL = 0.1
"""lambda of ``personal=dual``: on validation data .03 and .1 did alike, 1 worse."""


Objective = Callable[[Work, Arrays], Tasks[Trained]]


def plain(work: Work, start: Arrays) -> Tasks[Trained]:
    """Train by cross-entropy."""
    return finetune(work, start, work.how(), start)


def dual(weight: float, work: Work, start: Arrays) -> Tasks[Trained]:
    """Train the received model w, and near it the model v that is kept here: see `DUAL_WEIGHT`.

    A request to personalise trains v alone. v begins as w, also where it was lost: a device keeps
    it on its disk, a simulated client in memory.
    """
    received = None if work.personalises else (yield from plain(work, start))
    own = _second_model(work)
    how = replace(work.how(), proximal=weight)
    alone = yield from finetune(work, own, how, work.received)
    own = alone.model
    keep_record(work.context, OWN, own)
    if (state := state_folder(work.context.node_config, work.data.label)) is not None:
        keep_own(state, own, str(work.context.run_id))
    return received or alone


def _second_model(work: Work) -> Arrays:
    """Return v as it was kept; w where there is none, or it is of another network."""
    own = kept_arrays(work.context, OWN)
    state = state_folder(work.context.node_config, work.data.label)
    if not own and state is not None:
        own = load_own(state, str(work.context.run_id))
    wanted = {name: array.shape for name, array in work.received.items()}
    alike = {name: array.shape for name, array in own.items()} == wanted
    return own if alike else work.received


def centre(weight: float, work: Work, start: Arrays) -> Tasks[Trained]:
    """Train this client's own model near the received point: see `CENTRE_WEIGHT`.

    The arrays to send are the point, moved as the own model was.
    """
    how = replace(work.how(), proximal=weight)
    trained = yield from finetune(work, start, how, start)
    keep_record(work.context, OWN, trained.model)
    moved = {
        # What is not averaged is passed on as it is.
        name: work.received[name] + (new - start[name]) if new.dtype.kind == "f" else new
        for name, new in trained.model.items()
    }
    return trained._replace(sent=moved)


OBJECTIVES: Mapping[str, Callable[[float, Work, Arrays], Tasks[Trained]]] = {
    CENTRE_WEIGHT: centre,
    DUAL_WEIGHT: dual,
}
"""By the key of the weight that asks for it; without one it is `plain`."""


def objective_of(work: Work) -> tuple[Objective, Arrays]:
    """Return the objective that a message asks for, and the model to start from.

    Raises ProtocolError if a weight is no number of at least 0, or the client's own model is
    neither sent nor kept.
    """
    asked = {key: weight for key in OBJECTIVES if (weight := option(work.content, key))}
    if not asked and work.trains_two:
        asked = {DUAL_WEIGHT: PULL}
    if not asked:
        return plain, work.received
    key, weight = next(iter(asked.items()))
    start = _own_model(work) if key == CENTRE_WEIGHT else work.received
    return partial(OBJECTIVES[key], weight), start


def _own_model(work: Work) -> Arrays:
    """Return this client's own model: the one sent, in case it is lost here, or the one kept."""
    own = from_record(work.content, OWN) or kept_arrays(work.context, OWN)
    if not own:
        raise ProtocolError("asked to train this client's own model, of which it has none")
    return own
