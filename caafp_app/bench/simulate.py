"""One run in this process, by Ray or our own engine: no SuperLink, no app bundle, the same numbers.

Flower's ``run_simulation`` hands on no run configuration, so the apps are wrapped here.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from caafp_app import server_app
from caafp_app.client_app import app as client_app
from caafp_app.errors import CaafpError
from caafp_app.launch.beforehand import check_simulation
from caafp_app.launch.plan import gpu_share
from caafp_app.settings import Scalar, Settings


class ConfiguredClientApp(ClientApp):
    """Our ClientApp with a run configuration; Flower's context keeps its state."""

    def __init__(self, config: Mapping[str, Scalar]) -> None:
        super().__init__()
        self.config = dict(config)

    def __call__(self, message: Message, context: Context) -> Message:
        """Execute our app."""
        configured = Context(
            context.run_id, context.node_id, context.node_config, context.state, self.config
        )
        return client_app(message, configured)


def simulate_here(settings: Settings, supernodes: int, cpus: int) -> None:
    """Run a simulation in this process, by Ray or by our own engine; both end with it."""
    if settings.run.engine == "batched":
        from caafp_app.engine.run import simulate

        simulate(settings, supernodes, cpus)
        return
    # Imported here: a second or two that our own engine does not need.
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        server_app.run(grid, settings)

    run_simulation(
        server,
        ConfiguredClientApp(settings.to_dict()),
        supernodes,
        backend_config={
            "init_args": {"log_to_driver": False},
            "client_resources": {
                "num_cpus": cpus,
                "num_gpus": gpu_share(settings, None, cpus),
            },
        },
    )


def run(config: Mapping[str, Scalar], supernodes: int, cpus: int) -> int:
    """Run flat settings with so many SuperNodes and cores per client; return the exit status."""
    try:
        settings = Settings.from_run_config(config)
        results = Path(settings.run.output_dir) / "runs" / settings.run.run_name
        check_simulation(settings, results, supernodes)
        simulate_here(settings, supernodes, cpus)
    except CaafpError as error:
        sys.stderr.write(f"caafp: {error}\n")
        return 1
    return 0
