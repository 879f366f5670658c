"""The base of every room's pydantic config, and the one line a wrong config is answered with."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen config that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Return the first fault of a pydantic error as one line.

    Parameters
    ----------
    error : pydantic.ValidationError
    model : the model that was being read; its keys are offered as nearest names.
    where : str
        What was read, for example the path of the YAML file.
    """
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    parts = [p for p in fault["loc"] if not (isinstance(p, str) and "[" in p)]
    key = ".".join(str(p) for p in parts)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'{nearest(str(parts[-1]), _keys_at(model, parts[:-1]))}{more}"
    if fault["type"] == "missing":
        return f"{where}: key '{key}' is missing{more}; add it"
    found = "" if isinstance(fault["input"], dict | list) else f", found {fault['input']!r}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {f'{key}: ' if key else ''}{message[:1].lower() + message[1:]}{found}{more}"


def nearest(name: str, known: list[str]) -> str:
    """Return a clause naming the closest known names: "; did you mean 'x'?" or "; known: a, b"."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def _keys_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """Return every key that may stand at `path` below `model`; a union offers the keys of all its members."""
    models = [model]
    for part in path:
        here = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [found for annotation in here for found in _models_in(annotation)] or models
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
