"""``python -m caafp_app.bench CONFIG SUPERNODES CLIENT_CPUS``: one run of ``--in-process``."""

import sys
import tomllib
from pathlib import Path

from caafp_app.engine.early import start_early, wants_pool

config = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
if wants_pool(config):
    start_early()  # before the imports of this process: both take a second or two

from caafp_app.bench.simulate import run  # noqa: E402

sys.exit(run(config, int(sys.argv[2]), int(sys.argv[3])))
