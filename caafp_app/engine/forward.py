"""A network that computes for several clients at once, each by weights of its own."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from caafp_app.client.tasks import Network, network_on

logger = logging.getLogger("flwr")

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""From parameters [C, *shape] by name and windows [C, n, *input_shape] to logits [C, n, classes]"""


def stacked(model: nn.Module) -> Forward:
    """Return the stacked form of a network: its own ``stacked`` method, or torch.func's vmap."""
    own = getattr(model, "stacked", None)
    if own is not None:
        return own  # type: ignore[no-any-return]
    buffers = dict(model.named_buffers())

    def alone(parameters: Mapping[str, Tensor], windows: Tensor) -> Tensor:
        return functional_call(model, (dict(parameters), buffers), (windows,))  # type: ignore[no-any-return]

    together = vmap(alone, randomness="different")

    def forward(parameters: Mapping[str, Tensor], windows: Tensor) -> Tensor:
        with _plain_attention():
            logits: Tensor = together(parameters, windows)
        return logits

    return forward


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention be computed by plain products: torch.func does not know its fused kernels."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@lru_cache(maxsize=8)
def can_be_stacked(network: Network, device: str) -> bool:
    """Tell whether clients of a network can be trained as one stack; if not, the log says why."""
    reason = _hindrance(network_on(network, device), network)
    if reason:
        logger.warning(
            "model %s: clients are trained one after another, because %s", network.name, reason
        )
    return not reason


def _hindrance(model: nn.Module, network: Network) -> str:
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    other = [name for name in model.state_dict() if name not in trained]
    if other:
        # Such as batch norm's running statistics, which would count the padding.
        return f"its state has more than trained parameters ({other[0]})"
    parameters = {name: p.detach().unsqueeze(0) for name, p in model.named_parameters()}
    windows = torch.zeros(1, 2, *network.input_shape, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            stacked(model)(parameters, windows)
    except RuntimeError as error:
        return f"torch.func cannot do it: {str(error).splitlines()[0]}"
    return ""
