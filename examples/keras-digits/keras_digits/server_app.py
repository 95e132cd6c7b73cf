"""The ServerApp: FedAvg or CA-AFP, with the same model, clients and seed."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from caafp_app.strategies import CAAFP, Clustering, Pruning, WireFormat
from keras_digits.task import build_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say how good the models are."""
    result = train(grid, context.run_config)
    last = max(result.evaluate_metrics_clientapp)
    print(f"accuracy on the clients' own test pictures: {accuracy_of(result):.3f} (round {last})")
    for number, cluster in getattr(result, "clusters", {}).items():
        print(f"cluster {number}: density {cluster.density:.2f}, {', '.join(cluster.members)}")


def train(grid: Grid, config: dict) -> Result:
    """Run the strategy that the settings name."""
    if config["strategy"] == "fedavg":
        strategy = FedAvg()
    else:
        strategy = CAAFP(
            seed=config["seed"],
            clustering=Clustering(clusters=0),  # as many as the silhouette says
            pruning=Pruning(sparsity=config["sparsity"], every=3),
            wire=WireFormat(down="float16", up="int8"),
        )
    arrays = ArrayRecord(build_model(config["seed"]).get_weights())
    return strategy.start(grid, arrays, num_rounds=config["num-rounds"])


def accuracy_of(result: Result) -> float:
    """Return the accuracy after the last round: mean over clients, weighted by test pictures."""
    last = max(result.evaluate_metrics_clientapp)
    return result.evaluate_metrics_clientapp[last]["accuracy"]
