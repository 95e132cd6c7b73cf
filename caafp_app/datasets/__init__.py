"""Where the windows come from: sources by name, their division among clients, train and test.

Importing this imports neither torch nor pandas, Ray or flwr-datasets; what needs them imports them.
"""

from caafp_app.datasets.base import DataShape, DataSource, Windows, source_of
from caafp_app.datasets.resolve import (
    ClientDescription,
    data_shape,
    describe_client,
    load_client,
)
from caafp_app.datasets.synthetic import planted_groups

__all__ = [
    "ClientDescription",
    "DataShape",
    "DataSource",
    "Windows",
    "data_shape",
    "describe_client",
    "load_client",
    "planted_groups",
    "source_of",
]
