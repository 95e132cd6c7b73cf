"""The errors of the package, so that a caller can catch all of them, or one kind."""


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
