"""Tasks of many clients: grouped, divided by memory, and done as stacks where that can be."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from caafp_app.client.tasks import Evaluate, Fit, Result, Task, network_on, perform
from caafp_app.engine.device import DeviceArrays, clients_at_once
from caafp_app.engine.forward import can_be_stacked
from caafp_app.engine.stacked import PASSING_BATCH, STACKED


def one_by_one(device: str) -> "Callable[[Sequence[Task]], list[Result | Exception]]":
    """Return what does tasks one after another on a device."""
    return lambda tasks: [_attempt(task, device) for task in tasks]


class Together:
    """Does tasks as stacks on a device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._arrays = DeviceArrays(device)

    def __call__(self, tasks: Sequence[Task]) -> list[Result | Exception]:
        """Return for each task its result, or what went wrong with it."""
        results: dict[int, Result | Exception] = {}
        groups: dict[Hashable, list[int]] = {}
        for number, task in enumerate(tasks):
            stacks = type(task) in STACKED and can_be_stacked(task.network, self.device)
            if stacks and _fits(task, self.device):
                groups.setdefault(_kind(task), []).append(number)
            else:
                results[number] = _attempt(task, self.device)
        for numbers in groups.values():
            # Clients of about equal length in one stack, whatever the order they came in.
            numbers.sort(key=lambda number: _length(tasks[number]))
            results |= zip(numbers, self._stacks([tasks[n] for n in numbers]), strict=True)
        return [results[number] for number in range(len(tasks))]

    def _stacks(self, tasks: Sequence[Task]) -> list[Result | Exception]:
        first = tasks[0]
        model = network_on(first.network, self.device)
        batch = first.how.batch_size if isinstance(first, Fit) else PASSING_BATCH
        count = clients_at_once(model, tasks, batch)
        results: list[Result | Exception] = []
        for start in range(0, len(tasks), count):
            part = tasks[start : start + count]
            try:
                results += STACKED[type(first)](model, part, self._arrays)
            except RuntimeError as error:  # torch's, such as a lack of memory
                results += [error] * len(part)
        return results


def _attempt(task: Task, device: str) -> Result | Exception:
    try:
        return perform(task, device)
    except Exception as error:
        return error


def _kind(task: Task) -> Hashable:
    """Tell apart what cannot be done in one stack."""
    # Clients may train for as long as they like, but not at all is a case of its own.
    how = (
        replace(task.how, seed=0, epochs=min(task.how.epochs, 1)) if isinstance(task, Fit) else None
    )
    return type(task), task.network, how


def _length(task: Task) -> tuple[int, int]:
    return len(task.classes), task.how.seed if isinstance(task, Fit) else 0


def _fits(task: Task, device: str) -> bool:
    """Tell whether arrays are those of the network; what is wrong, the task done alone says."""
    state = network_on(task.network, device).state_dict()
    given = [task.arrays, *([task.anchor] if isinstance(task, Fit) else [])]
    enough = len(task.classes) > 0 or isinstance(task, Evaluate)
    return enough and all(
        state.keys() == arrays.keys()
        and all(arrays[name].shape == tensor.shape for name, tensor in state.items())
        for arrays in given
    )
