"""The client's work in torch: training inside a mask, evaluation and gradients."""

from caafp_app.training.evaluation import Score as Score
from caafp_app.training.evaluation import evaluate as evaluate
from caafp_app.training.evaluation import full_gradient as full_gradient
from caafp_app.training.evaluation import probabilities as probabilities
from caafp_app.training.local import LocalTraining as LocalTraining
from caafp_app.training.local import decay as decay
from caafp_app.training.local import seeded as seeded
from caafp_app.training.local import train as train
from caafp_app.training.state import dump_arrays as dump_arrays
from caafp_app.training.state import load_arrays as load_arrays
from caafp_app.training.state import place as place
from caafp_app.training.stopping import MOST_EPOCHS as MOST_EPOCHS
from caafp_app.training.stopping import Stopped as Stopped
from caafp_app.training.stopping import Stopping as Stopping
from caafp_app.training.stopping import clearly_better as clearly_better
from caafp_app.training.stopping import how_long as how_long
