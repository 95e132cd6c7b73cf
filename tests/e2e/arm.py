"""A device on emulated 64-bit ARM in a real federation: what `make arm` runs.

    python -m tests.e2e.arm [DIR]

Makes a Debian userland for aarch64 with the pinned wheels (deploy/arm64.sh), starts a SuperLink of
this machine with TLS and node authentication, a device of this machine and one inside, and trains
to personal models and a prediction. Prints a transcript for docs/devices.md.
"""

import compileall
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from caafp_app.devices.keys import make_device_keys, make_server_keys
from caafp_app.launch.source import PACKAGE, checkout
from caafp_app.launch.superlink import Connection, executable
from tests.e2e.devices import SETTINGS, write_devices
from tests.e2e.fleet import HOST, Daemon, Security, fleet, free_port

TOOL = checkout() / "deploy" / "arm64.sh"
RUN = SETTINGS | {
    "min-available-nodes": 2,
    "clients-per-round": 2,
    "warmup-rounds": 1,
    "cluster-rounds": 1,
    "prune-rounds": 1,
    "prune-every": 1,
    "clusters": 1,
    "round-timeout": 1500.0,
    "run-name": "arm",
}
_BEGAN = time.monotonic()


def main() -> None:
    """Run it all; end with an error where a step fails."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir() + "/caafp-arm64")
    say(f"Debian for aarch64 in {root.name}: deploy/arm64.sh make")
    subprocess.run([str(TOOL), "make", str(root)], check=True, stderr=subprocess.DEVNULL)
    versions = "import numpy, torch, flwr; print('numpy', numpy.__version__, 'torch', "
    versions += "torch.__version__, 'flwr', flwr.__version__)"
    with tempfile.TemporaryDirectory(prefix="caafp-arm-") as name:
        _try_out(root, Path(name), versions)
    say("make arm passed")


def _try_out(root: Path, folder: Path, versions: str) -> None:
    shutil.rmtree(root / "opt" / "app", ignore_errors=True)
    shutil.copytree(
        PACKAGE, root / "opt" / "app" / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__")
    )
    # Compiled here, where that takes a second; another Python than 3.11 does it for nothing.
    compileall.compile_dir(root / "opt" / "app", quiet=1, stripdir=str(root))
    say(_inside(root, "/usr/bin/python3.11", "-c", versions))
    keys = folder / "keys"
    make_server_keys(keys, [HOST])
    for device in ("native", "arm"):
        make_device_keys(keys, device)
    native, arm = write_devices(folder, 2)
    # Of a device inside; temporary folders are the same there.
    state, home = folder / "arm-state", folder / "arm-flwr"

    def admit(operator: Connection) -> None:
        for device in ("native", "arm"):
            command = ["supernode", "register", str(keys / f"{device}.pub"), str(operator.name)]
            subprocess.run(
                [executable("flwr"), *command],
                env=operator.environment,
                check=True,
                capture_output=True,
                timeout=120,
            )

    def own(name: str) -> list[str]:
        options = ["--root-certificates", str(keys / "ca.pem")]
        return [*options, "--auth-supernode-private-key", str(keys / f"{name}.key")]

    names = {"ca-certfile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
    security = Security(
        superlink=[
            "--enable-supernode-auth",
            *(word for key, file in names.items() for word in (f"--ssl-{key}", str(keys / file))),
        ],
        supernode=[],
        connection={"root-certificates": str(keys / "ca.pem")},
        own=[own("native")],
        admit=admit,
    )
    node = {"data-path": str(native), "label": "native", "state-dir": str(folder / "state")}
    with fleet(folder / "fleet", [node], security=security, warm=True) as running:
        config = f'data-path="{arm}" label="arm" state-dir="{state}"'
        # Behind all else: the emulated processor wants what this one has.
        command = ["nice", "-n", "5", str(TOOL), "run", str(root)]
        command += ["/usr/bin/env", f"FLWR_HOME={home}"]
        command += ["/usr/local/bin/caafp", "device", *own("arm")]
        command += ["--superlink", running.address, "--host", HOST, "--port", str(free_port())]
        environment = running.connection.environment
        command += ["--node-config", config]
        device = Daemon("arm", command, folder / "fleet", environment)
        running.supernodes.append(device)
        device.start()
        device.await_line("SuperNode ID:", seconds=3600.0)
        say("the device inside is registered by its key, over TLS; caafp run")
        directory = running.caafp_run(RUN | {"output-dir": str(folder)}, seconds=5400.0)
        _report(directory, device)
    prediction = _inside(
        root,
        *("/usr/local/bin/caafp", "predict", "--data", str(arm)),
        *("--state-dir", str(state), "--output", str(folder / "classes.csv")),
    )
    say(f"caafp predict inside: {prediction}")


def _report(directory: Path, device: Daemon) -> None:
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    assert summary["clients"] == 2, summary
    for line in (directory / "rounds.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert record["answered"] == 2, record
        say(f"{record['phase']}: {record['answered']} answered in {record['seconds']:.0f} s")
    said = [re.sub(r"\x1b\[\d*m", "", line) for line in device.text().splitlines()]
    for line in said:
        if re.search(r"warm:|cold:|round \d+, |describe:|kept the personal", line):
            say("  inside: " + line.partition(":")[2].strip())
    assert np.isfinite(summary["accuracy"]["personal"]["mean"])


def _inside(root: Path, *command: str) -> str:
    done = subprocess.run(
        [str(TOOL), "run", str(root), *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def say(line: str) -> None:
    """Print a line with the minutes and seconds since the start."""
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"{minutes:02}:{seconds:02}  {line}", flush=True)


if __name__ == "__main__":
    main()
