"""torch networks by name."""

from caafp_app.models.digits_cnn import DigitsCNN as DigitsCNN
from caafp_app.models.har_cnn import HarCNN as HarCNN
from caafp_app.models.registry import build_model as build_model
