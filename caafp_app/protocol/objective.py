"""What a strategy asks of local training besides cross-entropy, in the user's own records.

The keys stand in the ConfigRecord of the user's settings, so any ClientApp can read and follow
them; ours does.
"""

import math

from flwr.app import RecordDict

from caafp_app.errors import ProtocolError

DUAL_WEIGHT = "dual-weight"
"""lambda: besides the received model w, train a second one v, kept on the client from round to
round, by CE(v) + lambda / 2 |v - w|^2; when asked to personalise, v alone."""

CENTRE_WEIGHT = "centre-weight"
"""mu: what was received is no model but a point z. Train the client's own model w, kept from round
to round, by CE(w) + mu / 2 |w - z|^2, and return z plus the change of w."""

CUT_FILTERS = "cut-filters"
"""Above 0: the received arrays have fewer filters than the network of the settings."""

HELD_OUT = "held-out"
"""Share, at most one half, of its training windows that a client scores the received model on, and
leaves out if the request is to train: ``held-accuracy``, ``held-loss`` and ``held-examples`` of the
reply. The last ones in time of each class. So what decides a mask has not seen the test windows."""

HELD_TRAINED = "held-trained"
"""Above 0, with `HELD_OUT`: the trained model is scored on them too, ``held-trained-accuracy``. It
is what a client makes of the received model, and near what its personal model will be."""

LABEL_ENTROPY = "label-entropy"
"""Above 0: the reply says, under the same name, the entropy of the client's training labels, as a
share of the largest, ``ln(classes)``."""

UNLABELLED = "unlabelled"
"""Above 0: a client asked to evaluate tells how sure the received model is of its train windows,
without their labels: ``sure``, ``entropy`` and ``variety``, see `protocol.unlabelled`."""

OWN = "own"
"""Name of the ArrayRecord with the client's own model, sent with `CENTRE_WEIGHT` to a client that
may have lost it; and of what is kept in ``context.state``."""


def option(records: RecordDict, key: str, most: float = math.inf) -> float:
    """Return the number that a request gives for `key`; 0 if it gives none.

    Raises ProtocolError if it is not a finite number from 0 to `most`.
    """
    for record in records.config_records.values():
        if key in record:
            value = record[key]
            if (
                not isinstance(value, int | float)
                or not 0 <= value <= most
                or not math.isfinite(value)
            ):
                bound = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
                raise ProtocolError(f"{key!r}: expected a number {bound}, found {value!r}")
            return float(value)
    return 0.0
