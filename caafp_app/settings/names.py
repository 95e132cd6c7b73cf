"""The names that settings may take, and the nearest of them to a mistyped one.

They stand here, and not beside the code that they name, so that a setting is checked before torch,
pandas or Ray is imported. A registry that grows adds its name here too; its tests compare the two.
"""

import difflib
from collections.abc import Iterable

STRATEGIES = ("caafp", "fedavg", "fedsnip", "efficientfl", "fedchar", "clusterfl")
DATASETS = ("synthetic", "digits", "uci-har", "wisdm", "npz", "folder", "hf")
PARTITIONS = ("natural", "dirichlet", "shards", "iid")
STANDARDISE = ("auto", "none", "client")
MODELS = ("har-cnn", "digits-cnn", "deep-conv-lstm", "resnet1d", "transformer", "sensor-fusion")
CHAINS = ("har-cnn", "digits-cnn")
"""The models of which filters can be cut: each layer follows on the one before it alone."""
DEVICES = ("cpu", "cuda", "mps")
WEIGHTINGS = ("examples", "uniform")
AGGREGATIONS = ("mean", "trimmed-mean", "median")
LINKAGES = ("average", "complete")
INITIAL_MASKS = ("magnitude", "random", "snip")
SCHEDULES = ("one-shot", "linear", "cubic")
GRANULARITIES = ("weight", "filter")
ALLOCATIONS = ("uniform", "erk", "global")
COHERENCES = ("relative", "paper")
CODECS = ("float32", "float16", "int8")
REST_CODECS = ("float32", "float16")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``word``.

    Parameters
    ----------
    word : str
        What was found.
    known : Iterable[str]
        What was expected.

    Returns
    -------
    str | None
        None where nothing is like it.
    """
    by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def hint(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    name = nearest(word, known)
    return f"; did you mean {name!r}?" if name else ""
