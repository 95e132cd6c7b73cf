"""A client's process from start to reply: ``-m benchmarks.cold_client FILE STARTED``.

FILE holds one request as Flower's objects, STARTED is the time of the start in seconds since 1970.
Prints the seconds at which each stage was over, and which modules were imported, as JSON.
"""

import sys
import time
from importlib import import_module

_MARKS = {"python": time.time()}


def main() -> None:
    """Answer the request as the process of a SuperNode would."""
    import_module("flwr.supernode.cli")  # as the command `flwr-clientapp` does
    _MARKS["flwr"] = time.time()

    import json
    from pathlib import Path

    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp.utils import get_load_client_app_fn
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
    from flwr.supercore.task_identity import TaskIdentity

    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    app = get_load_client_app_fn(
        default_app_ref="caafp_app.client_app:app",
        app_path=given["app"],
        multi_app=False,
    )("", "", "")
    _MARKS["app"] = time.time()
    contents = {key: bytes.fromhex(text) for key, text in given["objects"].items()}
    message = inflate_object_from_contents(given["message"], contents)
    if not isinstance(message, Message):
        raise TypeError(f"expected a message, found {type(message).__name__}")
    message.metadata.__dict__["_message_id"] = given["message"]
    context = Context(1, 1, given["node"], RecordDict(), given["settings"])
    reply = app(message, context)
    objects = get_all_nested_objects(reply)
    size = sum(len(part.deflate()) for part in objects.values())
    _MARKS["reply"] = time.time()
    cpu = time.process_time()
    error = reply.error.code if reply.has_error() else 0
    started = float(sys.argv[2])
    modules = {name: name in sys.modules for name in given["modules"]}
    marks = {stage: mark - started for stage, mark in _MARKS.items()}
    told = {"marks": marks, "modules": modules, "error": error, "nbytes": size}
    from caafp_app.runs.memory import peak_memory_mb  # not before the clock has stopped

    print(json.dumps(told | {"peak_mb": peak_memory_mb(), "cpu": cpu}))


if __name__ == "__main__":
    main()
