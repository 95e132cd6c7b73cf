import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from caafp_app.errors import RunError
from caafp_app.launch.environment import (
    check_ray,
    check_system,
    flower_environment,
    ray_in_words,
)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"])
@pytest.mark.parametrize("exceptions", [{}, {"no_proxy": "example.org"}, {"NO_PROXY": "a, b"}])
def test_loopback_is_reached_without_a_proxy(
    name: str, exceptions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = flower_environment({name: "http://127.0.0.1:9", **exceptions})
    for key in ("no_proxy", "NO_PROXY", name):
        monkeypatch.setenv(key, child[key])
    for host in ("127.0.0.1", "localhost"):
        assert urllib.request.proxy_bypass_environment(host)
    kept = {part.strip() for value in exceptions.values() for part in value.split(",")}
    assert kept <= set(child["no_proxy"].split(","))
    assert child[name] == "http://127.0.0.1:9"  # others may need it


@pytest.mark.parametrize(
    "terminal", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}]
)
def test_children_write_utf8_whatever_the_terminal(terminal: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "print('\N{PARTY POPPER}')"],
        env=flower_environment(terminal),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode("utf-8").strip() == "\N{PARTY POPPER}"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port on which somebody listens and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


class TestRay:
    @pytest.mark.parametrize(
        "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "http://[::1"]
    )
    def test_a_dead_address_is_named(self, address: str) -> None:
        with pytest.raises(RunError, match=re.escape(f"RAY_ADDRESS={address}: expected a Ray")):
            check_ray({"RAY_ADDRESS": address})

    def test_one_that_never_answers_is_given_up(self, silent: int) -> None:
        with pytest.raises(RunError, match="unset RAY_ADDRESS"):
            check_ray(flower_environment() | {"RAY_ADDRESS": f"127.0.0.1:{silent}"}, seconds=0.2)

    @pytest.mark.parametrize("environment", [{}, {"RAY_ADDRESS": ""}, {"RAY_ADDRESS": "local"}])
    def test_without_one_nobody_is_asked(self, environment: dict[str, str]) -> None:
        check_ray(environment)

    def test_what_is_waited_for_is_said(self) -> None:
        assert "own" in ray_in_words({})
        assert "10.0.0.1:6379" in ray_in_words({"RAY_ADDRESS": "10.0.0.1:6379"})


def test_windows_is_refused_with_what_to_do() -> None:
    check_system("linux")
    check_system("darwin")
    with pytest.raises(RunError, match=r"found Windows: .*use WSL"):
        check_system("win32")
