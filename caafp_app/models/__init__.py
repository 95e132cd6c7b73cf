"""torch networks by name."""

from caafp_app.models.digits_cnn import DigitsCNN
from caafp_app.models.har_cnn import HarCNN
from caafp_app.models.registry import Network, build_model

__all__ = ["DigitsCNN", "HarCNN", "Network", "build_model"]
