"""Clustered, sparse, personalised federated learning (CA-AFP) on Flower.

The public names are resolved on first use, so that a device which imports the mod does not
load the server's half, nor the other way round.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caafp_app.api import Run as Run
    from caafp_app.api import load_personal as load_personal
    from caafp_app.api import load_run as load_run
    from caafp_app.api import plot_clients as plot_clients
    from caafp_app.api import plot_masks as plot_masks
    from caafp_app.api import plot_rounds as plot_rounds
    from caafp_app.api import run as run
    from caafp_app.masking import masked as masked
    from caafp_app.protocol.held import current_mask as current_mask
    from caafp_app.protocol.held import current_request as current_request
    from caafp_app.protocol.mod import sparse_mod as sparse_mod
    from caafp_app.strategies.caafp import CAAFP as CAAFP

__version__ = "0.2.0"
__all__ = [
    "CAAFP",
    "Run",
    "__version__",
    "current_mask",
    "current_request",
    "load_personal",
    "load_run",
    "masked",
    "plot_clients",
    "plot_masks",
    "plot_rounds",
    "run",
    "sparse_mod",
]
_HOMES = {
    "CAAFP": "caafp_app.strategies.caafp",
    "Run": "caafp_app.api",
    "current_mask": "caafp_app.protocol.held",
    "current_request": "caafp_app.protocol.held",
    "load_personal": "caafp_app.api",
    "load_run": "caafp_app.api",
    "masked": "caafp_app.masking",
    "plot_clients": "caafp_app.api",
    "plot_masks": "caafp_app.api",
    "plot_rounds": "caafp_app.api",
    "run": "caafp_app.api",
    "sparse_mod": "caafp_app.protocol.mod",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
