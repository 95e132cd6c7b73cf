"""The quick benchmarks, one after the other: ``python -m benchmarks [--json-dir FOLDER]``."""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.federated import ROOT

QUICK = ("codec", "server", "wire", "cold_start", "rounds")


def main() -> None:
    """Run them, each in a process of its own; end with a failure if one fails."""
    parser = argparse.ArgumentParser(description="Run the quick benchmarks.")
    parser.add_argument("--json-dir", type=Path, metavar="FOLDER", help="write their figures here")
    folder: Path | None = parser.parse_args().json_dir
    failed = []
    for name in QUICK:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if folder is not None:
            command += ["--json", str(folder.resolve() / f"{name}.json")]
        print(f"\n== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
