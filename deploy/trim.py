"""Remove the developers' files of torch: what is there to build and test C++ extensions with.

    python deploy/trim.py [SITE-PACKAGES]

A device runs torch and builds nothing. With torch 2.10 for ARM it is 190 MB of 560.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

FOLDERS = ("include", "test")
KEPT = "torch_shm_manager"
"""The one program in ``bin`` that torch looks for when it is imported."""


def trim(site: Path) -> int:
    """Remove them below a site-packages; return how many bytes that were."""
    torch = site / "torch"
    gone = [torch / name for name in FOLDERS if (torch / name).is_dir()]
    gone += [path for path in (torch / "bin").glob("*") if path.name != KEPT]
    freed = 0
    for path in gone:
        inside = path.rglob("*") if path.is_dir() else [path]
        freed += sum(one.stat().st_size for one in inside if one.is_file() and not one.is_symlink())
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return freed


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_paths()["platlib"])
    print(f"removed {trim(place) / 1e6:.0f} MB of torch's developers' files from {place.name}")
