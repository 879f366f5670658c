"""What a person's data may have wrong, as cases of one test: a sound dataset, what is done to it, and the message."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One case.

    Attributes
    ----------
    name : the case's id
    make : writes a sound dataset below a folder
    spoil : does the damage below that folder
    read : reads everything that the fault may touch; must succeed before `spoil`
    message : what the one line must match, a regular expression
    """

    name: str
    make: Callable[[Path], object]
    spoil: Callable[[Path], object]
    read: Callable[[Path], object]
    message: str
