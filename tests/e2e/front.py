"""nginx before a SuperLink, with deploy/nginx/superlink.conf as it is but for ports and paths."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.e2e.fleet import HOST, Daemon, free_port

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "superlink.conf"
_MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/superlink.conf;
}}
"""


def nginx() -> str | None:
    """Return the path of nginx, where there is one."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def front(
    folder: Path, keys: Path, superlink: int, environment: Mapping[str, str]
) -> Iterator[int]:
    """Stand before a SuperLink's port; yield the port that the network sees."""
    folder.mkdir()
    port = free_port()
    text = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in (
        ("listen 8443 ssl", f"listen {HOST}:{port} ssl"),
        ("127.0.0.1:8000;", f"{HOST}:{superlink};"),
        ("/etc/caafp/", f"{keys}/"),
    ):
        assert old in text
        text = text.replace(old, new)
    # What is only in a comment stays.
    assert not re.search(r"^[^#]*/etc/", text, flags=re.MULTILINE)
    (folder / "superlink.conf").write_text(text, encoding="utf-8")
    main = folder / "nginx.conf"
    main.write_text(_MAIN.format(folder=folder), encoding="utf-8")
    command = [str(nginx()), "-p", str(folder), "-c", str(main)]
    subprocess.run([*command, "-t"], check=True, capture_output=True, timeout=30.0)
    daemon = Daemon("nginx", command, folder, environment)
    daemon.start()
    try:
        daemon.await_line("nginx/")
        yield port
    finally:
        daemon.kill()
