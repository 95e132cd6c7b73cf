"""Strategies: what is asked, and what is done with the sums; the maths is in `pruning`."""

from caafp_app.runner.options import WireFormat as WireFormat
from caafp_app.strategies.caafp import CAAFP as CAAFP
from caafp_app.strategies.cahfp import CAHFP as CAHFP
from caafp_app.strategies.clusterfl import ClusterFL as ClusterFL
from caafp_app.strategies.efficientfl import EfficientFL as EfficientFL
from caafp_app.strategies.fedavg import FedAvg as FedAvg
from caafp_app.strategies.fedchar import FedCHAR as FedCHAR
from caafp_app.strategies.fedsnip import FedSNIP as FedSNIP
from caafp_app.strategies.grouping import Clustering as Clustering
from caafp_app.strategies.heterofl import HeteroFL as HeteroFL
from caafp_app.strategies.masks import Pruning as Pruning
from caafp_app.strategies.method import Method as Method
from caafp_app.strategies.strategy import MethodStrategy as MethodStrategy
