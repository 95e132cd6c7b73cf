"""The files of deploy/: they parse, what they name exists, and they say the same as the guide."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import guide

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
COMPOSE = sorted((DEPLOY / "docker").glob("*.compose.yaml"))
assert (len(UNITS), len(DOCKERFILES), len(COMPOSE)) == (2, 2, 2)
INSTRUCTIONS = {
    *("FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


# -- systemd -------------------------------------------------------------------------------


def unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="utf-8").replace("\\\n", " "))
    return parser["Service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    text = path.read_text(encoding="utf-8").replace("/opt/caafp/bin", str(tmp_path))
    for name in ("flower-superlink", "caafp"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
    (tmp_path / path.name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_restart_bound_memory_and_are_not_root(path: Path) -> None:
    service = unit(path)
    assert service["User"] == "caafp"
    assert service["Restart"] == "always"
    assert re.fullmatch(r"\d+[MG]", service["MemoryMax"])
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")


@pytest.mark.parametrize("name", ["superlink", "supernode"])
def test_units_give_the_options_of_the_guide(name: str) -> None:
    (path,) = [path for path in UNITS if path.stem.endswith(name)]
    program, *words = shlex.split(unit(path)["ExecStart"])
    theirs = guide.words(name, {})
    assert Path(program).name == theirs[0]
    assert [w for w in words if w.startswith("--")] == [w for w in theirs if w.startswith("--")]


# -- Docker --------------------------------------------------------------------------------


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfiles_build_from_what_is_there(path: Path) -> None:
    found = instructions(path)
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "FROM"
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for _, value in (item for item in found if item[0] == "COPY"):
        *sources, _ = value.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source
    # Not root, a home that stays, and a program that the package brings.
    (user,) = [value for name, value in found if name == "USER"]
    assert user != "root"
    assert found.index(("USER", user)) > max(
        k for k, (name, _) in enumerate(found) if name == "RUN"
    )
    (entry,) = [yaml.safe_load(value) for name, value in found if name == "ENTRYPOINT"]
    assert shutil.which(entry[0], path=str(Path(sys.executable).parent))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_images_are_lean_and_pinned(path: Path) -> None:
    (install,) = [value for name, value in instructions(path) if "pip install" in value]
    assert "--no-cache-dir" in install
    assert ("--no-compile" in install) == (path.stem == "device")
    # Of the extras a server needs one, a device none; neither needs Ray nor plotting.
    extras = re.findall(r"\.\[(.*?)\]", install)
    assert extras == (["server"] if path.stem == "server" else [])
    assert "-c " in install


def test_trimming_leaves_what_a_device_uses(tmp_path: Path) -> None:
    site, scripts = tmp_path / "site", tmp_path / "bin"
    kept = ["site/torch/lib/libtorch.so", "site/torch/bin/torch_shm_manager", "bin/caafp"]
    gone = ["site/torch/include/a/b.h", "site/torch/test/t", "site/torch/bin/protoc", "bin/uv"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(500_000))
    command = [sys.executable, str(DEPLOY / "trim.py"), str(site), str(scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "removed 2 MB that no device uses\n"
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(kept)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_health_checks_are_python_that_compiles(path: Path) -> None:
    (check,) = [value for name, value in instructions(path) if name == "HEALTHCHECK"]
    program, option, code = yaml.safe_load(check.partition("CMD ")[2])
    assert (program, option) == ("python", "-c")
    compile(code, path.name, "exec")
    assert "/health" in code


def compose(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
def test_services_restart_bound_memory_and_name_what_is_there(path: Path) -> None:
    content = compose(path)
    assert set(content) == {"name", "services", "volumes"}
    for name, service in content["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        build = service.get("build")
        if build:
            context = (path.parent / build["context"]).resolve()
            assert context == ROOT
            assert (context / build["dockerfile"]).is_file()
        else:
            assert service["healthcheck"]["test"], name  # the others' are in their images
        for volume in service["volumes"]:
            source = re.sub(r"\$\{[^}]*\}", "VARIABLE", volume).split(":")[0]
            if source.startswith("."):
                assert (path.parent / source).is_file(), volume
            else:
                assert source in content["volumes"] or source.startswith("VARIABLE"), volume
    assert "privileged" not in path.read_text(encoding="utf-8").replace("no-new-privileges", "")


@pytest.mark.parametrize(
    ("file", "service", "block"),
    [("server", "superlink", "superlink"), ("device", "supernode", "supernode")],
)
def test_containers_get_the_options_of_the_guide(file: str, service: str, block: str) -> None:
    command = compose(DEPLOY / "docker" / f"{file}.compose.yaml")["services"][service]["command"]
    options = [word.partition("=")[0] for word in command]
    assert options == [word for word in guide.words(block, {}) if word.startswith("--")]


def test_only_nginx_is_published() -> None:
    services = compose(DEPLOY / "docker" / "server.compose.yaml")["services"]
    assert [service.get("ports") for service in services.values()] == [["8443:8443"], None]
    nginx = (DEPLOY / "nginx" / "superlink.conf").read_text(encoding="utf-8")
    assert "listen 8443 ssl;" in nginx
    assert services["nginx"]["network_mode"] == "service:superlink"


# -- nginx ---------------------------------------------------------------------------------


def test_nginx_passes_on_the_calls_of_supernodes_alone() -> None:
    text = (DEPLOY / "nginx" / "superlink.conf").read_text(encoding="utf-8")
    text = re.sub(r"#.*", "", text)
    assert text.count("{") == text.count("}")
    places = re.findall(r"location (\S+) \{(.*?)\}", text, flags=re.DOTALL)
    assert [place for place, _ in places] == ["/v1/fleet/", "/"]
    assert "proxy_pass https://127.0.0.1:8000;" in places[0][1]
    assert places[1][1].strip() == "return 403;"
