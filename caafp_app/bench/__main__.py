"""``python -m caafp_app.bench CONFIG SUPERNODES CLIENT_CPUS``: one run of ``--in-process``."""

import sys

from caafp_app.bench.simulate import main

sys.exit(main(sys.argv[1:]))
