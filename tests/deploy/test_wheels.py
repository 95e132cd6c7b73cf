"""deploy/wheels.py without its network: what it walks, and what it finds wrong."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheels", ROOT / "deploy" / "wheels.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheels"] = module
    spec.loader.exec_module(module)
    return module


def walk(wheels: ModuleType, needs: dict[str, list[str]], pins: dict[str, str]) -> list[str]:
    """Walk from ``app``; a package that is not in ``needs`` has no wheel."""

    def fetch(name: str, version: str) -> object:
        return wheels.Wheel(name, version, 1, 2, tuple(needs[name])) if name in needs else None

    found = wheels.walk(["app"], pins, "3.11", fetch)
    return sorted(item if isinstance(item, str) else item.name for item in found)


def test_markers_and_extras_are_the_devices(wheels: ModuleType) -> None:
    needs = {
        "app": [
            'cuda; platform_machine == "x86_64"',
            'arm; platform_machine == "aarch64"',
            'old; python_version < "3.10"',
            'plot; extra == "plot"',
            "web[fast]>=1",
        ],
        "arm": [],
        "web": ['quick; extra == "fast"', 'slow; extra == "slow"', "app"],
        "quick": [],
    }
    assert walk(wheels, needs, dict.fromkeys(needs, "1")) == ["app", "arm", "quick", "web"]


def test_what_is_wrong_is_said(wheels: ModuleType) -> None:
    needs = {"app": ["none", "loose", "new>=2", "good"], "new": [], "good": []}
    pins = {"app": "1", "none": "3", "new": "1.9", "good": "1"}
    assert walk(wheels, needs, pins) == [
        "app",
        "app needs loose, pinned is nothing",
        "app needs new>=2, pinned is 1.9",
        "good",
        "none 3 has no wheel",
    ]


def test_a_device_installs_the_versions_that_the_tests_ran_with_but_for_torch(
    wheels: ModuleType,
) -> None:
    device = wheels.read_pins(wheels.CONSTRAINTS)
    tested = wheels.read_pins(ROOT / "constraints.txt")
    assert {name for name in device if device[name] != tested.get(name, device[name])} == {"torch"}
    from packaging.requirements import Requirement

    for line in wheels.base_requirements():
        requirement = Requirement(line)
        assert requirement.specifier.contains(device[canonicalize_name(requirement.name)]), line
