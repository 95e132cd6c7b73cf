"""The names that settings may take where no registry stands behind them.

What other packages may add to is listed in :mod:`caafp_app.registry`.
"""

AUTO = "auto"
"""In place of a number: to be found from the data."""

PARTITIONS = ("natural", "dirichlet", "shards", "iid")
STANDARDISE = ("auto", "none", "client")
DEVICES = ("cpu", "cuda", "mps")
ENGINES = ("ray", "batched")
INITIAL_MASKS = ("magnitude", "random", "snip")
GRANULARITIES = ("weight", "filter")
PERSONAL = ("finetune", "dual")
SPARE_LAYERS = ("none", "first", "last", "both")
REST_CODECS = ("float32", "float16")
