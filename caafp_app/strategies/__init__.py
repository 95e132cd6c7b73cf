"""Strategies: phases and messages; the maths is in `pruning` and `clustering`."""

from caafp_app.strategies.caafp import CAAFP, Clustering, Pruning
from caafp_app.strategies.cluster_model import ScoreRule
from caafp_app.strategies.requests import WireFormat

__all__ = ["CAAFP", "Clustering", "Pruning", "ScoreRule", "WireFormat"]
