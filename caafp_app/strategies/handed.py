"""The mean model as Flower's names hand it out, and what others change in it."""

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from caafp_app.errors import ProtocolError, RunError
from caafp_app.protocol.layout import Layout
from caafp_app.protocol.mask import Mask
from caafp_app.protocol.messages import from_record
from caafp_app.runner.model import MeanUpdate


class HandedOut:
    """The mean model [of `layout`] as an override or another's loop got it last."""

    def __init__(self, layout: Layout, arrays: ArrayRecord) -> None:
        self.layout = layout
        self.put(arrays)

    def put(self, arrays: ArrayRecord) -> None:
        """Hand out other arrays; the record may be changed by whoever gets it."""
        self.arrays = arrays
        self._as_it_was = dict(arrays)

    def change(self, arrays: ArrayRecord) -> MeanUpdate | None:
        """Return what `arrays` differ by from those handed out, and take them in their place.

        Raises RunError if they are not finite numbers of this model.
        """
        if not isinstance(arrays, ArrayRecord):
            raise RunError(f"expected an ArrayRecord of the model, found {type(arrays).__name__}")
        if dict(arrays) == self._as_it_was:
            return None
        try:
            new, old = (
                self.layout.flatten(from_record(RecordDict({"arrays": record}), "arrays"))
                for record in (arrays, ArrayRecord(self._as_it_was))
            )
        except ProtocolError as error:
            raise RunError(
                f"arrays of another model than the initial ones: {error}; replies bring packed "
                "updates, so let super().aggregate_train aggregate them, and change what it returns"
            ) from error
        if not (np.isfinite(new.weights).all() and np.isfinite(new.rest).all()):
            raise RunError("expected a model of finite numbers, found NaN or infinity in it")
        self.put(arrays)
        full = Mask.full(self.layout)
        other = {
            name: array
            for name, array in new.other.items()
            if not np.array_equal(array, old.other[name])
        }
        return MeanUpdate(full, new.weights - old.weights, new.rest - old.rest, 1.0, other)
