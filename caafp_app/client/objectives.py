"""What local training minimises: a function for each key of `protocol.objective`.

Each trains the model of its `Work` in place. It returns the mean loss of the last epoch, and the
arrays to send.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from caafp_app import training
from caafp_app.client.work import Work
from caafp_app.errors import ProtocolError
from caafp_app.protocol.held import keep_record, kept_arrays
from caafp_app.protocol.messages import from_record
from caafp_app.protocol.objective import CENTRE_WEIGHT, DUAL_WEIGHT, OWN, option
from caafp_app.training import LocalTraining

Arrays = dict[str, NDArray[Any]]
Trained = tuple[float, Arrays]


def plain(work: Work) -> Trained:
    """Train the received model by cross-entropy."""
    return _fit(work, work.how()), training.dump_arrays(work.model)


def dual(work: Work, weight: float) -> Trained:
    """Train the received model w, and near it the model v that is kept here: see `DUAL_WEIGHT`.

    A request to personalise trains v alone. v begins as w, also where it was lost.
    """
    how = work.how()
    loss, trained = (0.0, {}) if work.personalises else plain(work)
    training.load_arrays(work.model, kept_arrays(work.context, OWN) or work.received)
    own_loss = _fit(work, replace(how, proximal=weight))
    own = training.dump_arrays(work.model)
    keep_record(work.context, OWN, own)
    return (own_loss, own) if work.personalises else (loss, trained)


def centre(work: Work, weight: float) -> Trained:
    """Train this client's own model near the received point: see `CENTRE_WEIGHT`.

    The arrays to send are the point, moved as the own model was.
    """
    before = training.dump_arrays(work.model)
    loss = _fit(work, replace(work.how(), proximal=weight))
    after = training.dump_arrays(work.model)
    keep_record(work.context, OWN, after)
    moved = {
        # What is not averaged is passed on as it is.
        name: work.received[name] + (new - before[name]) if new.dtype.kind == "f" else new
        for name, new in after.items()
    }
    return loss, moved


OBJECTIVES: Mapping[str, Callable[[Work, float], Trained]] = {
    CENTRE_WEIGHT: centre,
    DUAL_WEIGHT: dual,
}
"""By the key of the weight that asks for it; without one it is `plain`."""


def objective_of(work: Work) -> Callable[[Work], Trained]:
    """Return the objective that a message asks for.

    Where the client's own model is what is trained, it then takes the place of the received one.

    Raises
    ------
    ProtocolError
        A weight is no number of at least 0, or the client's own model is neither sent nor kept.
    """
    asked = {key: weight for key in OBJECTIVES if (weight := option(work.content, key))}
    if CENTRE_WEIGHT in asked:
        training.load_arrays(work.model, _own_model(work))
    if not asked:
        return plain
    key = next(iter(asked))
    return lambda work: OBJECTIVES[key](work, asked[key])


def _own_model(work: Work) -> Arrays:
    """Return this client's own model: the one sent, in case it is lost here, or the one kept."""
    own = from_record(work.content, OWN) or kept_arrays(work.context, OWN)
    if not own:
        raise ProtocolError("asked to train this client's own model, of which it has none")
    return own


def _fit(work: Work, how: LocalTraining) -> float:
    data = work.data
    return training.train(work.model, data.train_x, data.train_y, how, work.mask, work.received)
