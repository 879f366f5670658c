"""The base of all pydantic configs, and names that are offered for a wrong one; `core.explain` words their errors."""

import difflib
import warnings
from typing import Any

from pydantic import BaseModel, ConfigDict

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
"""What studies, targets and routes may be called: the names become those of files and of registered models."""


class Config(BaseModel):
    """A frozen config that refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def renamed(content: Any, old: str, new: str) -> Any:
    """Return what is read of a config with a key's old name replaced, and warn of it; for a before-validator."""
    if not isinstance(content, dict) or old not in content:
        return content
    if new in content:
        raise ValueError(f"'{old}' is the old name of '{new}'; give '{new}' alone")
    warnings.warn(f"'{old}' is now called '{new}'; this release still reads the old name", FutureWarning, stacklevel=2)
    return {new if key == old else key: value for key, value in content.items()}


def nearest(name: str, known: list[str]) -> str:
    """Return a clause naming the closest known names: "; did you mean 'x'?" or "; known: a, b"."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if known else ""
