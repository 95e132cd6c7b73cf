"""Many messages answered in step: unpack all, do their tasks together, pack all.

Each client's generator (`caafp_app.client`) is advanced to its next task; the tasks of all clients
are then done together.
"""

from collections.abc import Callable, Sequence

from flwr.app import Context, Message, RecordDict

from caafp_app.client.actions import answer as action
from caafp_app.client.tasks import Result, Task, Tasks
from caafp_app.client.work import Load, Work
from caafp_app.client_app import app, mod
from caafp_app.datasets.resolve import load_client
from caafp_app.protocol.messages import is_ours
from caafp_app.protocol.mod import Received, failure

Perform = Callable[[Sequence[Task]], Sequence[Result | Exception]]
"""Does tasks together; returns for each its result, or what went wrong with it alone."""


def _serve(received: Received, context: Context, load: Load) -> Tasks[list[RecordDict]]:
    """Do what a message asks, once or for each trial of its model."""
    contents = []
    for content in received.each():
        work = Work.of(content, context, load)
        contents.append((yield from action(work, received.message.metadata.message_type)))
    return contents


def answer_all(
    messages: Sequence[Message],
    contexts: Sequence[Context],
    perform: Perform,
    load: Load = load_client,
) -> list[Message]:
    """Answer messages, each to another client; the contexts are in the same order.

    The replies are in that order, too. What goes wrong with a client is an error reply.
    """
    replies: dict[int, Message] = {}
    running: dict[int, tuple[Received, Tasks[list[RecordDict]]]] = {}
    for number, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        if not message.has_content() or not is_ours(message.content):
            replies[number] = app(message, context)
            continue
        received = mod.receive(message, context)
        if isinstance(received, Message):
            replies[number] = received
            continue
        running[number] = received, _serve(received, context, load)

    def end(number: int, contents: list[RecordDict]) -> None:
        received, _ = running.pop(number)
        said = [Message(content, reply_to=received.message) for content in contents]
        replies[number] = mod.answer(received, said, contexts[number])

    results: dict[int, Result | Exception | None] = dict.fromkeys(running)
    while results:
        waiting: dict[int, Task] = {}
        for number, result in results.items():
            received, tasks = running[number]
            try:
                if isinstance(result, Exception):
                    waiting[number] = tasks.throw(result)
                else:
                    waiting[number] = tasks.send(result)
            except StopIteration as stop:
                end(number, stop.value)
            except Exception as error:
                del running[number]
                replies[number] = failure(received.message, error)
        done = perform(list(waiting.values())) if waiting else []
        results = dict(zip(waiting, done, strict=True))
    return [replies[number] for number in range(len(messages))]
