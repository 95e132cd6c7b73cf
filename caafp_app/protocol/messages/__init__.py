"""The two kinds of message: what the server asks (`Request`) and what a client answers (`Answer`).

What is ours travels in the ConfigRecord ``caafp``, its arrays too unless they are large (see
`payload`); every other record belongs to the user. Each field is validated where it is read.
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
