"""A Ray cluster of two nodes on this machine, each with a core, that leaves nothing behind."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from caafp_app.launch.environment import flower_environment
from caafp_app.launch.processes import MARK, Family
from caafp_app.launch.superlink import executable
from tests.e2e.fleet import HOST, Daemon, free_port, sigterm_as_interrupt

STORE_BYTES = 100_000_000


@contextlib.contextmanager
def ray_cluster(folder: Path) -> Iterator[str]:
    """Start a head and a second node by ``ray start``, yield their address, end both on leaving."""
    mark = uuid.uuid4().hex
    family = Family(mark)
    environment = flower_environment() | {MARK: mark}
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        environment.pop(name, None)
    address = f"{HOST}:{free_port()}"
    head = ["--head", "--port", address.partition(":")[2], "--include-dashboard", "false"]
    # Ports that every head on this machine would want.
    head += ["--dashboard-port", str(free_port()), "--ray-client-server-port", str(free_port())]
    nodes: list[Daemon] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_as_interrupt())
        stack.callback(_end, family, nodes)
        for name, options in (("head", head), ("second", ["--address", address])):
            # Short: Ray puts sockets there. Of its own: as on a machine of its own.
            scratch = tempfile.mkdtemp(prefix="ray-")
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            options = [*options, "--temp-dir", scratch, "--disable-usage-stats"]
            options += ["--num-cpus", "1", "--object-store-memory", str(STORE_BYTES)]
            command = [executable("ray"), "start", *options, "--block"]
            nodes.append(Daemon(f"ray-{name}", command, folder, environment))
            nodes[-1].start()
            nodes[-1].await_line("Ray runtime started")
        yield address


def cores(address: str) -> list[float]:
    """Ask a cluster for the cores of each of its living nodes."""
    program = "import ray; ray.init(logging_level='error', log_to_driver=False); print('cores', *("
    program += "node['Resources'].get('CPU', 0) for node in ray.nodes() if node['Alive']))"
    answer = subprocess.run(
        [Path(executable("ray")).with_name("python"), "-c", program],
        env=os.environ | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120.0,
        check=True,
    )
    line = next(line for line in answer.stdout.splitlines() if line.startswith("cores"))
    return [float(word) for word in line.split()[1:]]


def _end(family: Family, nodes: list[Daemon]) -> None:
    assert family.end(), f"still running: {family.members()}"
    for node in nodes:
        node.reap()
