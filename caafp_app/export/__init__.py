"""Models out: a cluster's network as a file that something else runs, checked and measured."""

from caafp_app.export.export import Exported as Exported
from caafp_app.export.export import export_cluster as export_cluster
from caafp_app.export.export import export_network as export_network
from caafp_app.export.formats import FORMATS as FORMATS
from caafp_app.export.sparse import read_sparse as read_sparse
from caafp_app.export.trained import Trained as Trained
from caafp_app.export.trained import load_cluster as load_cluster
from caafp_app.export.trained import load_personal_network as load_personal_network
