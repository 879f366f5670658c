"""The errors a user can fix: each carries one line saying what was found, where, what was expected and what to do.

The command line prints that line and exits with code 2; every class also inherits the builtin it refines, so library
users may catch either.
"""


class Brain2VideoError(Exception):
    """Something the user can fix; `str(error)` is the whole message, on one line."""


class ConfigError(Brain2VideoError, ValueError):
    """A study's YAML, or an override on the command line, holds invalid values: a line for each."""


class SourceError(Brain2VideoError, ValueError):
    """Recordings, clips or tables on disk are not what their source declares."""


class SourceMissing(SourceError, FileNotFoundError):
    """A folder or a file that a source needs is not there."""


class StoreError(Brain2VideoError, ValueError):
    """A feature store cannot serve what was asked of it."""


class StoreMissing(StoreError, FileNotFoundError):
    """A group of a feature store is not there."""


class StoreCorrupted(StoreError):
    """Bytes of a feature store are not the bytes that were published."""


class NoSpace(Brain2VideoError, OSError):
    """The disk has no space for what is to be written."""


class NotAllowed(Brain2VideoError, PermissionError):
    """The system does not let this program read or write a file."""


class DownloadError(Brain2VideoError, ConnectionError):
    """A remote object cannot be fetched, or is not what was expected."""


class ModelError(Brain2VideoError, ValueError):
    """Weights, inputs or settings of a model do not fit each other."""


class RegistryError(Brain2VideoError, LookupError):
    """The model registry has no usable answer: no alias, no such version, parts that do not fit."""


class TrainingStopped(Brain2VideoError, RuntimeError):
    """One of several processes that train together died or was lost; the same command goes on from its checkpoints."""


class PartFailed(Brain2VideoError, RuntimeError):
    """Some of several pieces of work failed; the results of the others are there."""


class ServerError(Brain2VideoError, RuntimeError):
    """A server cannot be started or reached."""
