"""The ServerApp."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from digits_app.task import build_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say how good the model is."""
    result = train(grid, context.run_config)
    print(f"accuracy on the clients' own test pictures: {accuracy_of(result):.3f}")


def train(grid: Grid, config: dict) -> Result:
    """Run all rounds."""
    strategy = FedAvg()
    arrays = ArrayRecord(build_model(config["seed"]).state_dict())
    return strategy.start(grid, arrays, num_rounds=config["num-rounds"])


def accuracy_of(result: Result) -> float:
    """Return the accuracy after the last round: mean over clients, weighted by test pictures."""
    last = max(result.evaluate_metrics_clientapp)
    return result.evaluate_metrics_clientapp[last]["accuracy"]
