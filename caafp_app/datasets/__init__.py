"""Where the windows come from: sources by name, their division among clients, train and test.

Importing this imports neither torch nor pandas, Ray or flwr-datasets; what needs them imports them.
"""

from caafp_app.datasets.base import DataShape as DataShape
from caafp_app.datasets.base import DataSource as DataSource
from caafp_app.datasets.base import Windows as Windows
from caafp_app.datasets.base import source_of as source_of
from caafp_app.datasets.resolve import ClientDescription as ClientDescription
from caafp_app.datasets.resolve import data_shape as data_shape
from caafp_app.datasets.resolve import describe_client as describe_client
from caafp_app.datasets.resolve import load_client as load_client
from caafp_app.datasets.synthetic import planted_groups as planted_groups
