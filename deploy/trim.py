"""Remove what a device installs and never uses: developers' files of torch, and the program uv.

    python deploy/trim.py [SITE-PACKAGES SCRIPTS]

A device runs torch and builds nothing: headers and test programs go, with torch 2.10 for ARM 175 MB
of 558. Flower asks uv (39 MB) to install what an app needs, only for a SuperNode that is started
with ``--allow-runtime-dependency-installation``: such a one has to install uv again.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

FOLDERS = ("include", "test")
KEPT = "torch_shm_manager"
"""The one program in ``bin`` that torch looks for when it is imported."""


def trim(site: Path, scripts: Path) -> int:
    """Remove them from a site-packages and the folder of programs; return how many bytes."""
    torch = site / "torch"
    gone = [torch / name for name in FOLDERS if (torch / name).is_dir()]
    gone += [path for path in (torch / "bin").glob("*") if path.name != KEPT]
    gone += [scripts / name for name in ("uv", "uvx") if (scripts / name).is_file()]
    freed = 0
    for path in gone:
        inside = path.rglob("*") if path.is_dir() else [path]
        freed += sum(one.stat().st_size for one in inside if one.is_file() and not one.is_symlink())
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return freed


if __name__ == "__main__":
    places = sys.argv[1:] or [sysconfig.get_path(name) for name in ("platlib", "scripts")]
    print(f"removed {trim(*map(Path, places)) / 1e6:.0f} MB that no device uses")
