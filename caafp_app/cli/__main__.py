"""``python -m caafp_app.cli``."""

from caafp_app.cli import main

main()
