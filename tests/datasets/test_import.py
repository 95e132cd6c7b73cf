import subprocess
import sys


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "pandas", "sklearn", "flwr_datasets", "datasets", "flwr", "scipy"}
    code = "import sys, caafp_app.datasets; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())

    assert "caafp_app.datasets.resolve" in loaded
    assert not heavy & loaded
