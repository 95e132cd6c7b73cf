"""The words of the protocol: what may be asked, codes of errors, names of records."""

from enum import IntEnum, StrEnum

from caafp_app.protocol.arrays import ARRAYS
from caafp_app.protocol.header import HEADER

GRADIENT = "caafp.gradient"
"""Name of the ArrayRecord in which an inner app hands its gradient to the mod; never sent."""

RESERVED = (HEADER, ARRAYS, GRADIENT)
"""Names of records that a user's own must not have."""


class Action(StrEnum):
    """What the server asks of a client."""

    DESCRIBE = "describe"
    SALIENCY = "saliency"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PERSONALISE = "personalise"
    EVALUATE_PERSONAL = "evaluate-personal"


TRAINING = (Action.SALIENCY, Action.TRAIN, Action.PERSONALISE)
"""Actions that travel as Flower's train messages and return a trained model."""


class ErrorCode(IntEnum):
    """Codes of error replies that this protocol adds to Flower's."""

    MASK_UNKNOWN = 470
    """The client does not hold the mask the request names; send it in full."""
    BAD_REQUEST = 471
    """The request could not be read."""
    CLIENT_FAILED = 472
    """The client's own code raised."""
    NOT_PERSONALISED = 473
    """An evaluation of a personal model that this client does not have."""
