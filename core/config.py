"""The base of all pydantic configs, and the error line for a wrong config."""

import difflib
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen config that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def renamed(content: Any, old: str, new: str) -> Any:
    """Return what is read of a config with a key's old name replaced, and warn of it; for a before-validator."""
    if not isinstance(content, dict) or old not in content:
        return content
    if new in content:
        raise ValueError(f"'{old}' is the old name of '{new}'; give '{new}' alone")
    warnings.warn(f"'{old}' is now called '{new}'; this release still reads the old name", FutureWarning, stacklevel=2)
    return {new if key == old else key: value for key, value in content.items()}


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Return the first fault of a pydantic error as one line that begins with `where`, what was read.

    The keys of the model that was being read are offered as nearest names.
    """
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    parts, models = _follow(model, list(fault["loc"]))
    key = ".".join(str(p) for p in parts)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        known = sorted({name for model in models for name in model.model_fields})
        return f"{where}: unknown key '{key}'{nearest(str(parts[-1]), known)}{more}"
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


def _follow(model: type[BaseModel], loc: list[Any]) -> tuple[list[Any], list[type[BaseModel]]]:
    """Return the keys of a fault's place as the YAML has them, and the models whose keys are valid there.

    Pydantic puts the tag of a discriminated union into the place, as if it were a key; it is left out again.
    """
    shown, models, is_key = [], [model], False
    for part, after in itertools.zip_longest(loc, loc[1:]):
        fields = [] if is_key else [m.model_fields[part] for m in models if part in m.model_fields]
        tagged = [m for m in models if not fields and not is_key and _tag_of(m) == part]
        if tagged and after is not None:
            models = tagged
            continue
        shown.append(part)
        is_key = any(get_origin(field.annotation) is dict for field in fields)
        if fields and after is not None:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return shown, models


def _tag_of(model: type[BaseModel]) -> Any:
    """Return what distinguishes a model from the others of its union: the default of its key of a single value."""
    fields = [field for field in model.model_fields.values() if get_origin(field.annotation) is Literal]
    return next((field.default for field in fields if len(get_args(field.annotation)) == 1), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
