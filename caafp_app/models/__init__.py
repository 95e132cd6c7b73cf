"""torch models by name."""

from caafp_app.models.har_cnn import HarCNN
from caafp_app.models.registry import MODELS, ModelFactory, build_model

__all__ = ["MODELS", "HarCNN", "ModelFactory", "build_model"]
