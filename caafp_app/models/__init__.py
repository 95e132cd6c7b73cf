"""torch models by name."""

from caafp_app.models.digits_cnn import DigitsCNN
from caafp_app.models.har_cnn import HarCNN
from caafp_app.models.registry import MODELS, ModelFactory, build_model

__all__ = ["MODELS", "DigitsCNN", "HarCNN", "ModelFactory", "build_model"]
