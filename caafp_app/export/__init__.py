"""Models out: a cluster's network as a file that something else runs, checked and measured."""

from caafp_app.export.export import Exported, export_cluster, export_network
from caafp_app.export.formats import FORMATS
from caafp_app.export.sparse import read_sparse
from caafp_app.export.trained import Trained, load_cluster, load_personal_network

__all__ = [
    "FORMATS",
    "Exported",
    "Trained",
    "export_cluster",
    "export_network",
    "load_cluster",
    "load_personal_network",
    "read_sparse",
]
