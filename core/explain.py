"""Words for what is wrong with a config: YAML that cannot be read, and each of pydantic's errors, as one line.

A line says where, what was found, what was expected and what to do: ``x.yaml: clips.frames: found 0, expected a whole
number above 0; correct it, or remove the key for the default, 8``. Pydantic's own words are for programmers.
"""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from core.config import NAME_PATTERN, nearest
from core.errors import ConfigError

Read = TypeVar("Read", bound=BaseModel)
MAX_CHARACTERS = 60
"""Of a value that is shown in a message."""
EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    "int_parsing_size": "a smaller whole number",
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_sub_type"), "text"),
    "string_unicode": "text without half characters",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a mapping (key: value)"),
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    **dict.fromkeys(("literal_error", "enum"), "{expected}"),
    "none_required": "null",
    "recursion_loop": "a value that does not contain itself",
}
"""What was expected, by the type of pydantic's error; in braces what the error tells of it."""
PATTERNS = {NAME_PATTERN: "a name of lower-case letters, digits, '_' and '-', such as my_study"}


@dataclass(frozen=True)
class Place:
    """Where in a config an error is.

    Attributes
    ----------
    keys : as the YAML has them
    models : whose fields the last key may name; none where the last key is an entry of a mapping or a list
    """

    keys: tuple[Hashable, ...]
    models: tuple[type[BaseModel], ...]

    @property
    def name(self) -> str:
        """The keys, joined by dots."""
        return ".".join(map(str, self.keys))

    @property
    def known(self) -> list[str]:
        """The names of the fields that the last key may name."""
        return sorted({name for model in self.models for name in model.model_fields})

    @property
    def field(self) -> FieldInfo | None:
        """The field that the last key names, where it names one."""
        last = self.keys[-1] if self.keys else None
        return next((model.model_fields[str(last)] for model in self.models if last in model.model_fields), None)


def validated(model: type[Read], content: Any, where: str | Callable[[str], str]) -> Read:
    """Return what a config reads of some content; raises `ConfigError` with the lines of `explain`."""
    try:
        read = model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, model, content, where)) from error
    begin = where if callable(where) else lambda _: where
    if names := list(_truths_for_numbers(content, read)):
        found = (f"{begin(name)}: {name}: found true or false, expected a number; correct it" for name in names)
        raise ConfigError("\n".join(found))
    return read


def _truths_for_numbers(content: Any, read: Any, above: str = "") -> Iterator[str]:
    """Yield the keys whose value is true or false and was read as 1 or 0, which pydantic does without a word."""
    if isinstance(content, bool):
        if isinstance(read, int | float) and not isinstance(read, bool):
            yield above
    elif isinstance(content, dict | list | tuple):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            if isinstance(read, list | tuple):
                inner = read[key] if isinstance(key, int) and key < len(read) else None
            else:
                inner = read.get(key) if isinstance(read, dict) else getattr(read, str(key), None)
            yield from _truths_for_numbers(value, inner, f"{above}.{key}" if above else str(key))


def explain(error: ValidationError, model: type[BaseModel], content: Any, where: str | Callable[[str], str]) -> str:
    """Return the faults of a pydantic error, a line each.

    Parameters
    ----------
    model, content : what was read, and of what
    where : what a line begins with, such as the file; or a function that returns it for a key such as ``clips.frames``
    """
    faults: dict[str, list[tuple[Place, ErrorDetails]]] = {}
    for fault in error.errors(include_url=False):
        place = place_of(model, content, list(fault["loc"]), key_missing=fault["type"] == "missing")
        faults.setdefault(place.name, []).append((place, fault))
    deepest = [name for name in faults if not any(other.startswith(f"{name}.") for other in faults)]
    begin = where if callable(where) else lambda _: where
    return "\n".join(f"{begin(name)}: {_line(faults[name])}" for name in deepest)


def place_of(model: type[BaseModel], content: Any, loc: Sequence[Any], *, key_missing: bool = False) -> Place:
    """Return where in a config something is.

    Pydantic puts the names of a union's members among the keys (``("encoder", "mbm", "width")``); they are left out, as
    are the places in what a validator made of a value.

    Parameters
    ----------
    loc : keys, and indices of lists
    key_missing : whether the last of them is a key that the content lacks
    """
    models: tuple[type[BaseModel], ...] = (model,)
    keys: list[Hashable] = []
    own, in_mapping, here = models, False, content
    for index, part in enumerate(loc):
        fields = [] if in_mapping else [m.model_fields[part] for m in models if part in m.model_fields]
        there = _holds(here, part)
        if not there and not fields and not (key_missing and index == len(loc) - 1):
            models = tuple(m for m in models if _tag_of(m) == part) or models
            continue
        keys.append(part)
        own = () if in_mapping or isinstance(part, int) else models
        here = here[part] if there else None
        in_mapping = any(_is_mapping(field.annotation) for field in fields)
        if fields:
            models = tuple(dict.fromkeys(inner for field in fields for inner in _models_in(field.annotation)))
    return Place(tuple(keys), own)


def _holds(content: Any, part: Any) -> bool:
    if isinstance(content, dict):
        return part in content
    return isinstance(content, list | tuple) and isinstance(part, int) and 0 <= part < len(content)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(get_origin(inner) is dict for inner in get_args(annotation))


def _tag_of(model: type[BaseModel]) -> Any:
    """Return what distinguishes a model from the others of its union: the default of its key of a single value."""
    fields = [field for field in model.model_fields.values() if get_origin(field.annotation) is Literal]
    return next((field.default for field in fields if len(get_args(field.annotation)) == 1), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _line(faults: list[tuple[Place, ErrorDetails]]) -> str:
    """Return what is wrong with one key; several faults of one key are those of a union's members."""
    place, fault = next(((p, f) for p, f in faults if f["type"] == "extra_forbidden"), faults[0])
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key '{place.name}'{nearest(str(place.keys[-1]), place.known)}"
    if kind == "invalid_key":
        return f"found the key {shown(place.keys[-1])}, expected text; put it in quotes"
    if kind == "missing":
        return f"key '{place.name}' is missing; add it"
    if kind == "union_tag_not_found":
        return f"key '{_below(place, context)}' is missing; add it"
    if kind == "union_tag_invalid":
        known = re.findall(r"'([^']*)'", str(context["expected_tags"]))
        found = f"found '{context['tag']}', expected {_one_of(known)}"
        return f"{_below(place, context)}: {found}{_closest(context['tag'], known) or '; correct it'}"
    if kind in ("value_error", "assertion_error"):
        message = str(context.get("error", fault["msg"]))
        return f"{place.name}: {message}" if place.name else message
    expected = list(dict.fromkeys(_expected(own) for _, own in faults))
    found = f"found {shown(fault['input'])}, expected {_one_of(expected, quoted=False)}"
    return f"{place.name}: {found}{_advice(place, faults)}".removeprefix(": ")


def _below(place: Place, context: Mapping[str, Any]) -> str:
    """Return the name of the key that chooses among a union's members."""
    key = str(context["discriminator"]).strip("'").removeprefix("_").removesuffix("()")  # a key, or what reads it
    return f"{place.name}.{key}" if place.name else key


def _expected(fault: ErrorDetails) -> str:
    context = dict(fault.get("ctx", {}))
    if fault["type"] == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return PATTERNS[context["pattern"]]
    if fault["type"] in EXPECTED:
        return EXPECTED[fault["type"]].format(**context)
    return re.sub(r"^(Input|Value) should (be|have) (a valid )?", "", fault["msg"])


def _advice(place: Place, faults: list[tuple[Place, ErrorDetails]]) -> str:
    kind, value = faults[0][1]["type"], faults[0][1]["input"]
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(faults[0][1].get("ctx", {}).get("expected", "")))
        if close := _closest(value, known):
            return close
    if any(fault["type"] == "string_type" for _, fault in faults) and isinstance(value, bool | int | float):
        return "; put it in quotes if it is a name"
    field = place.field
    if field is None or field.is_required():
        return "; correct it"
    if isinstance(field.default, bool | int | float | str):
        return f"; correct it, or remove the key for the default, {shown(field.default)}"
    return "; correct it, or remove the key"


def _closest(value: Any, known: list[str]) -> str:
    clause = nearest(str(value), known)
    return clause if "did you mean" in clause else ""


def _one_of(words: list[str], *, quoted: bool = True) -> str:
    listed = [f"'{word}'" for word in words] if quoted else words
    return " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def shown(value: Any) -> str:
    """Return a value as a message shows it, in YAML's words and not too long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple | set):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # whole numbers of thousands of digits
        return "a very large number"
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


class _Loader(yaml.SafeLoader):
    """Reads YAML as `yaml.safe_load` does, and refuses a mapping that has one key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; keys that `<<` brings may be given again."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str | bytes, where: str) -> Any:
    """Return what a YAML text holds.

    Raises `ConfigError` where it is not YAML, names a key twice or holds a date or a number that does not exist.
    """
    try:
        return yaml.load(text.decode("utf-8") if isinstance(text, bytes) else text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark is not None and len(text.splitlines()) > 1 else ""
        why = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"{where}{line}: not YAML that can be read ({why}); correct it") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: not YAML that can be read (nested too deeply); correct it") from error
    except (yaml.YAMLError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"{where}: not YAML that can be read ({why}); correct it") from error
