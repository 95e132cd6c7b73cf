"""Check that every package which a device installs has a wheel for 64-bit ARM.

    python deploy/wheels.py [--constraints FILE] [--python 3.11] [--json PATH]

Walks the base dependencies of pyproject.toml and what their wheels need in turn, in the versions
that the constraints pin, and lets pip fetch each wheel for Linux on aarch64 into a folder that is
removed afterwards. Prints sizes, packed and installed. Fails where a wheel is missing, a package
is not pinned, or a pin is not what another package needs.
"""

import argparse
import email
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "deploy" / "constraints-aarch64.txt"
GLIBC = (17, 24, 26, 27, 28, 31, 34)
"""manylinux_2_<n>: Raspberry Pi OS of 2023 (Debian 12) has glibc 2.36."""


@dataclass(frozen=True)
class Wheel:
    """One wheel: what it is, bytes of the file and of what is in it, and what it needs."""

    name: str
    version: str
    packed: int
    installed: int
    requires: tuple[str, ...]


Fetch = Callable[[str, str], Wheel | None]


def base_requirements() -> list[str]:
    """Return the dependencies of pyproject.toml, without extras."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return list(tomllib.loads(text)["project"]["dependencies"])


def read_pins(path: Path) -> dict[str, str]:
    """Return name and version of every line of a file of constraints."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def walk(
    requirements: Iterable[str], pins: Mapping[str, str], python: str, fetch: Fetch
) -> Iterator[Wheel | str]:
    """Yield each package once: its wheel, or a sentence on what is wrong with it."""
    left = [(Requirement(line), "caafp-app") for line in requirements]
    known: dict[str, Wheel] = {}
    done: set[tuple[str, str]] = set()
    refused: set[str] = set()
    while left:
        requirement, by = left.pop()
        name = canonicalize_name(requirement.name)
        version = pins.get(name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            if name not in refused:
                yield f"{by} needs {requirement}, pinned is {version or 'nothing'}"
            refused.add(name)
            continue
        if name not in known:
            if name in refused:
                continue
            wheel = fetch(name, version)
            if wheel is None:
                refused.add(name)
                yield f"{name} {version} has no wheel"
                continue
            known[name] = wheel
            yield wheel
        for extra in ("", *requirement.extras):
            if (name, extra) not in done:
                done.add((name, extra))
                needed = map(Requirement, known[name].requires)
                left += [(r, name) for r in needed if _applies(r, python, extra)]


def _applies(requirement: Requirement, python: str, extra: str) -> bool:
    """Tell whether a device needs it, without extra or with one."""
    device = {
        "platform_machine": "aarch64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": extra,
    }
    marker = requirement.marker
    if marker is None:
        return not extra
    plain = marker.evaluate({**device, "extra": ""})
    return plain if not extra else marker.evaluate(device) and not plain


def fetch_wheel(name: str, version: str, python: str) -> Wheel | None:
    """Return a wheel for the device, or None where pip finds none."""
    with tempfile.TemporaryDirectory(prefix="wheels-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", folder]
        command += ["--implementation", "cp", "--python-version", python]
        command += ["--platform", "manylinux2014_aarch64"]
        for minor in GLIBC:
            command += ["--platform", f"manylinux_2_{minor}_aarch64"]
        done = subprocess.run(
            [*command, f"{name}=={version}"], capture_output=True, text=True, check=False
        )
        files = list(Path(folder).glob("*.whl"))
        if done.returncode or not files:
            return None
        with zipfile.ZipFile(files[0]) as archive:
            installed = sum(info.file_size for info in archive.infolist())
            (place,) = [n for n in archive.namelist() if re.fullmatch(r"[^/]+/METADATA", n)]
            told = email.message_from_bytes(archive.read(place))
        requires = tuple(told.get_all("Requires-Dist") or ())
        return Wheel(name, version, files[0].stat().st_size, installed, requires)


def main() -> None:
    """Fetch all, print a table, fail where something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--constraints", type=Path, default=CONSTRAINTS)
    parser.add_argument("--python", default="3.11", help="version on the device")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    chosen = parser.parse_args()
    wheels: list[Wheel] = []
    wrong: list[str] = []

    def fetch(name: str, version: str) -> Wheel | None:
        return fetch_wheel(name, version, chosen.python)

    for found in walk(base_requirements(), read_pins(chosen.constraints), chosen.python, fetch):
        if isinstance(found, str):
            wrong.append(found)
            continue
        wheels.append(found)
        print(_line(f"{found.name} {found.version}", [found]), flush=True)
    print(_line(f"{len(wheels)} wheels", wheels))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(w) for w in wheels], indent=1), encoding="utf-8")
    if wrong:
        sys.exit("\n".join(wrong))


def _line(head: str, wheels: list[Wheel]) -> str:
    packed, installed = (sum(getattr(w, key) for w in wheels) for key in ("packed", "installed"))
    return f"{head:40}{packed / 1e6:10.2f} MB packed{installed / 1e6:10.2f} MB installed"


if __name__ == "__main__":
    main()
