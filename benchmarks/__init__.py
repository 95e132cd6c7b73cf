"""What the package costs, measured: each module is a command, ``python -m benchmarks.<name>``."""
