"""Strategies: what is asked, and what is done with the sums; the maths is in `pruning`."""

from caafp_app.runner.options import WireFormat
from caafp_app.strategies.caafp import CAAFP
from caafp_app.strategies.cahfp import CAHFP
from caafp_app.strategies.clusterfl import ClusterFL
from caafp_app.strategies.efficientfl import EfficientFL
from caafp_app.strategies.fedavg import FedAvg
from caafp_app.strategies.fedchar import FedCHAR
from caafp_app.strategies.fedsnip import FedSNIP
from caafp_app.strategies.grouping import Clustering
from caafp_app.strategies.heterofl import HeteroFL
from caafp_app.strategies.masks import Pruning
from caafp_app.strategies.method import Method
from caafp_app.strategies.strategy import MethodStrategy

__all__ = [
    "CAAFP",
    "CAHFP",
    "ClusterFL",
    "Clustering",
    "EfficientFL",
    "FedAvg",
    "FedCHAR",
    "FedSNIP",
    "HeteroFL",
    "Method",
    "MethodStrategy",
    "Pruning",
    "WireFormat",
]
