"""Keys of a config that are overridden on the command line: ``--set key.path=value``."""

from typing import Any, get_args

from pydantic import BaseModel

from core.config import nearest
from core.errors import ConfigError
from core.explain import Place, place_of, read_yaml, shown


def apply_override(model: type[BaseModel], content: dict[str, Any], override: str) -> str:
    """Change one key of what was read of a config's file, and return the key.

    The value is YAML, so lists and mappings can be given. ``null`` removes: an entry of a mapping is dropped, and a key
    of a config returns to its default; where the config itself takes null for something else than its default, it is
    set.

    Raises `ConfigError` where the text has no key or no value, the value is not YAML, the key leads into something that
    is no mapping, or there is no such entry to remove. Whether the config knows the key is found when it is read.

    Parameters
    ----------
    model : the config
    content : changed in place
    override : ``key.path=value``
    """
    where = f"--set {override}"
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"{where}: found no key or no '=', expected key.path=value, such as seed=7")
    value = read_yaml(text, where)
    place = place_of(model, content, parts, key_missing=True)
    known = list(place.keys) == parts and (place.field is not None or not place.models)
    here = content
    for depth, part in enumerate(parts[:-1], start=1):
        if here.get(part) is None:
            if value is None and known:
                return key.strip()  # at its default already
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            name = ".".join(parts[:depth])
            raise ConfigError(f"{where}: '{name}' is {shown(here)}, not a mapping; give it whole, as in --set {name}=…")
    if value is None and known:
        _remove(here, place, where)
    else:
        here[parts[-1]] = value
    return key.strip()


def _remove(here: dict[str, Any], place: Place, where: str) -> None:
    last, field = str(place.keys[-1]), place.field
    if field is None:
        if last not in here:
            above = ".".join(map(str, place.keys[:-1]))
            raise ConfigError(f"{where}: '{above}' has no '{last}' to remove{nearest(last, list(here))}")
        del here[last]
    elif type(None) in get_args(field.annotation) and field.get_default(call_default_factory=True) is not None:
        here[last] = None
    else:
        here.pop(last, None)
