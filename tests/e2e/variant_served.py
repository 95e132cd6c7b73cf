"""Our ClientApp, and a mark for every message: on which node of the cluster it was served.

See test_ray_cluster.py.
"""

import uuid
from pathlib import Path

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from caafp_app.client_app import describe, evaluate, train
from caafp_app.protocol.mod import SparseMod


def tell(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Serve the message, then leave an empty file in a folder of the node's name."""
    reply = call_next(message, context)
    node = ray.get_runtime_context().get_node_id()
    folder = Path(str(context.run_config["output-dir"]), "served", node)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / uuid.uuid4().hex).touch()
    return reply


client = ClientApp(mods=[tell, SparseMod(describe)])
client.train()(train)
client.evaluate()(evaluate)
