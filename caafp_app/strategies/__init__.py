"""Strategies: phases and messages; the maths is in `pruning` and `clustering`."""

from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.cluster_model import ScoreRule
from caafp_app.strategies.requests import WireFormat
from caafp_app.strategies.rules import Clustering, Pruning

__all__ = ["CAAFP", "Clustering", "Pruning", "ScoreRule", "WireFormat"]
