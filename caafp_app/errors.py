"""The errors of the package, so that a caller can catch all of them, or one kind."""

from collections.abc import Iterator
from contextlib import contextmanager


class CaafpError(Exception):
    """Base of every error this package raises on purpose."""


class SettingsError(CaafpError, ValueError):
    """A setting is unknown, out of range, or does not go with another."""


class DataError(CaafpError):
    """A data set is missing, incomplete or not what it says it is."""


class ProtocolError(CaafpError):
    """A message is not one this version understands, or carries values it must not."""


class RunError(CaafpError, RuntimeError):
    """A run cannot go on: no clients, or every one of them failed."""


class MaskUpdateError(CaafpError):
    """Scores, counts or masks do not belong to the same model, or cannot be satisfied."""


@contextmanager
def reading(what: object, kind: type[CaafpError]) -> Iterator[None]:
    """Turn whatever goes wrong while a local file is read into one sentence, an error of `kind`.

    A damaged or forged file makes a parser fail in ways that no list of exceptions has: TOML that
    is nested too deep (RecursionError), an array that claims terabytes (MemoryError), an encrypted
    archive (RuntimeError), a field of another type (KeyError, TypeError). Errors of this package
    pass as they are. `what` is read: a path, or a name and a path.
    """
    try:
        yield
    except CaafpError:
        raise
    except Exception as error:
        found = " ".join(str(error).split())[:300] or "no reason given"
        why = "; it is damaged, or not what it is taken for"
        if isinstance(error, OSError):  # it may be whole, and belong to somebody else
            found, why = error.strerror or found, ""
        raise kind(f"cannot read {what}: {found} ({type(error).__name__}){why}") from error
