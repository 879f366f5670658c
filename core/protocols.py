"""Whether a class has what a protocol asks of it, told when it is registered and not when it is first used."""

import dis
from collections.abc import Callable, Iterable
from inspect import get_annotations
from typing import Any, Generic, Protocol

from core.errors import ModelError

NO_MEMBERS = (object, Protocol, Generic)


def members_of_protocol(protocol: type) -> list[str]:
    """Return the names of a protocol's attributes and methods, those of its bases first; private ones aside."""
    bases = [base for base in reversed(protocol.__mro__) if base not in NO_MEMBERS]
    names = dict.fromkeys(name for base in bases for name in (*get_annotations(base), *vars(base)))
    return [name for name in names if not name.startswith("_")]


def lacking(kind: type, protocols: Iterable[type], methods: Iterable[str] = ()) -> list[str]:
    """Return what a class lacks of protocols, and of further methods such as its constructors.

    An attribute counts where the class, or a base of it, has it, annotates it, or sets it in ``__init__``.
    """
    bases = [base for base in kind.__mro__ if base is not object]
    known = {name for base in bases for name in (*vars(base), *get_annotations(base))}
    known |= {name for base in bases if (init := vars(base).get("__init__")) for name in _set_in(init)}
    wanted = dict.fromkeys([*methods, *(name for protocol in protocols for name in members_of_protocol(protocol))])
    return [name for name in wanted if name not in known]


def require_members(kind: type, what: str, protocols: Iterable[type], methods: Iterable[str] = ()) -> None:
    """Raise `ModelError` unless a class has all that protocols and `methods` name; the line names what is missing.

    Parameters
    ----------
    what : what the class is registered as, such as "encoder 'pca'"
    """
    protocols = list(protocols)
    missing = lacking(kind, protocols, methods)
    if missing:
        asked = " and ".join(f"{protocol.__module__}.{protocol.__name__}" for protocol in protocols)
        raise ModelError(
            f"{what} ({kind.__module__}.{kind.__qualname__}) lacks {', '.join(missing)}; add "
            f"{'it' if len(missing) == 1 else 'them'}, as {asked} describes"
        )


def _set_in(function: Callable[..., Any]) -> set[str]:
    """Return the attributes that a function sets, of whatever object."""
    if not hasattr(function, "__code__"):
        return set()
    return {str(step.argval) for step in dis.get_instructions(function) if step.opname == "STORE_ATTR"}
