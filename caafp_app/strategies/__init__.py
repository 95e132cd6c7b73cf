"""Strategies: phases and messages; the maths is in `pruning` and `clustering`."""

from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.clusterfl import ClusterFL
from caafp_app.strategies.efficientfl import EfficientFL
from caafp_app.strategies.evolution import ScoreRule
from caafp_app.strategies.fedavg import FedAvg
from caafp_app.strategies.fedchar import FedCHAR
from caafp_app.strategies.fedsnip import FedSNIP
from caafp_app.strategies.phased import PhasedStrategy
from caafp_app.strategies.requests import WireFormat
from caafp_app.strategies.rules import Clustering, Pruning

__all__ = [
    "CAAFP",
    "ClusterFL",
    "Clustering",
    "EfficientFL",
    "FedAvg",
    "FedCHAR",
    "FedSNIP",
    "PhasedStrategy",
    "Pruning",
    "ScoreRule",
    "WireFormat",
]
