"""Clustered, sparse, personalised federated learning (CA-AFP) on Flower.

The two public names are resolved on first use, so that a device which imports the mod does not
load the server's half, nor the other way round.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caafp_app.protocol.mod import sparse_mod as sparse_mod
    from caafp_app.strategies.caafp import CAAFP as CAAFP

__version__ = "0.1.0"
__all__ = ["CAAFP", "__version__", "sparse_mod"]


def __getattr__(name: str) -> Any:
    """Import ``CAAFP`` or ``sparse_mod`` when it is first asked for."""
    if name == "CAAFP":
        from caafp_app.strategies.caafp import CAAFP

        return CAAFP
    if name == "sparse_mod":
        from caafp_app.protocol.mod import sparse_mod

        return sparse_mod
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
