"""A ClientApp of which some tasks crash, hang, or take all memory. See test_devices.py."""

import os
import signal
import time

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from caafp_app.client_app import describe, evaluate, train
from caafp_app.devices.saying import say
from caafp_app.protocol.mod import SparseMod

LABEL, KILLED, HUNG, GREEDY = "device-0", 1, 2, 3
"""A device, and rounds in which it misbehaves."""


def misbehave(message: Message, context: Context, answer: ClientAppCallable) -> Message:
    """Do what a bad task does."""
    number = message.content.config_records["caafp"].get("round")
    if context.node_config.get("label") == LABEL:
        if number == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == HUNG:
            time.sleep(10_000)
        if number == GREEDY:
            np.ones(2**31)
    return answer(message, context)


troubled = ClientApp(mods=[misbehave, say, SparseMod(describe)])
troubled.train()(train)
troubled.evaluate()(evaluate)
