"""Settings of earlier releases, and what to write in place of each."""


def _argument(example: str) -> str:
    return f'it is an argument of the strategy; write strategy-args="{example}"'


_INFLUENCE = (
    "one rule bounds norms and weights by those of most clients; leave it out, or write "
    'strategy-args="robust=false" for no bound'
)

_SCORE = 'write score="0.5 magnitude + 0.25 coherence + 0.25 consistency", with your weights'

REMOVED = {
    "tensorboard": 'write track="tensorboard"',
    "keep-checkpoints": "a run keeps its last 2 checkpoints; leave it out",
    "torch-threads": "a client trains with one thread; leave it out",
    "cluster-epochs": "a client trains 1 epoch before it is clustered; leave it out",
    "weighting": _argument("uniform=true"),
    "grace": _argument("grace=30.0"),
    "rest-after": _argument("rest_after=3"),
    "max-update-norm": _INFLUENCE,
    "max-weight": _INFLUENCE,
    "linkage": _argument("linkage='complete'"),
    "min-cluster-size": _argument("min_cluster_size=2"),
    "min-silhouette": _argument("min_silhouette=0.05"),
    "cluster-sharing": _argument("sharing=0.5"),
    "recluster-every": _argument("every=5"),
    "admm-alpha": _argument("alpha=0.001"),
    "admm-beta": _argument("beta=0.0005"),
    "admm-rho": _argument("rho=0.002"),
    "dual-weight": _argument("dual_weight=1.0"),
    "score-magnitude": _SCORE,
    "score-coherence": _SCORE,
    "score-consistency": _SCORE,
    "coherence": _SCORE + "; coherence-paper in place of coherence is the published form",
    "spare-first-layer": 'write spare-layers="first", or "both"',
    "spare-last-layer": 'write spare-layers="last", or "both"',
    "num-classes": 'write classes="6"',
    "class-names": 'write classes="walk,sit"',
}
"""What to write instead, by the key that is refused."""
