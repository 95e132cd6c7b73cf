"""What the server asks (`Request`) and what a client answers (`Answer`), as records.

What is ours travels in the ConfigRecord ``caafp`` (see `payload`); the others are the user's.
"""

from caafp_app.protocol.arrays import ARRAYS, from_record, to_record
from caafp_app.protocol.header import HEADER, is_ours
from caafp_app.protocol.messages.answer import MAX_EXAMPLES, Answer
from caafp_app.protocol.messages.request import Request
from caafp_app.protocol.messages.vocabulary import GRADIENT, RESERVED, TRAINING, Action, ErrorCode

# With what reads and writes a message's records, so that callers import them from one place.
__all__ = [
    "ARRAYS",
    "GRADIENT",
    "HEADER",
    "MAX_EXAMPLES",
    "RESERVED",
    "TRAINING",
    "Action",
    "Answer",
    "ErrorCode",
    "Request",
    "from_record",
    "is_ours",
    "to_record",
]
