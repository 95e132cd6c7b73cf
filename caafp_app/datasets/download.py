"""Fetch one public file, whole or not at all."""

import logging
import shutil
import tempfile
from pathlib import Path

from caafp_app.errors import DataError

logger = logging.getLogger(__name__)

_TIMEOUT = 60.0
_CHUNK = 2**20


def download(url: str, path: Path, *, max_bytes: int, instead: str) -> None:
    """Fetch ``url`` into ``path``, which is not there before it is complete.

    An answer of more than `max_bytes` is not the file, and is given up. `instead`, what a person
    without network can do, ends the message of the DataError.
    """
    # Not where nothing is fetched: they are half of what importing the data sets would cost.
    import urllib.request
    from http.client import HTTPException

    logger.warning("downloading %s into %s", url, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent))
    try:
        received = 0
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            announced = answer.headers.get("Content-Length")
            with (fresh / "part").open("wb") as file:
                while chunk := answer.read(_CHUNK):
                    received += len(chunk)
                    if received > max_bytes:
                        raise DataError(
                            f"{url}: expected at most {max_bytes / 2**20:.0f} MiB, found more; "
                            f"{instead}"
                        )
                    file.write(chunk)
        if announced is not None and received != int(announced):
            raise DataError(f"{url}: expected {announced} bytes, found {received}; {instead}")
        (fresh / "part").replace(path)
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"{url}: expected to download it, found {error}; {instead}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
