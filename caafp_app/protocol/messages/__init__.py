"""What the server asks (`Request`) and what a client answers (`Answer`), as records.

What is ours travels in the ConfigRecord ``caafp`` (see `payload`); the others are the user's.
"""

from caafp_app.protocol.arrays import ARRAYS as ARRAYS
from caafp_app.protocol.arrays import from_record as from_record
from caafp_app.protocol.arrays import to_record as to_record
from caafp_app.protocol.header import HEADER as HEADER
from caafp_app.protocol.header import is_ours as is_ours
from caafp_app.protocol.messages.answer import MAX_EXAMPLES as MAX_EXAMPLES
from caafp_app.protocol.messages.answer import Answer as Answer
from caafp_app.protocol.messages.request import Request as Request
from caafp_app.protocol.messages.vocabulary import GRADIENT as GRADIENT
from caafp_app.protocol.messages.vocabulary import RESERVED as RESERVED
from caafp_app.protocol.messages.vocabulary import TRAINING as TRAINING
from caafp_app.protocol.messages.vocabulary import Action as Action
from caafp_app.protocol.messages.vocabulary import ErrorCode as ErrorCode
