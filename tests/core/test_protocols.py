"""A class that is registered and not whole is refused by the names of what it lacks, before it is used."""

from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from core.errors import ModelError
from core.protocols import lacking, members_of_protocol, require_members


class Base(Protocol):
    name: str

    @property
    def widths(self) -> tuple[int, int]: ...


class Whole(Base, Protocol):
    def encode(self, values: Any) -> Any: ...


class SetsInInit:
    def __init__(self) -> None:
        self.name = "a"
        self.widths = (1, 2)

    def encode(self, values: Any) -> Any:
        return values


@dataclass
class Fields:
    name: str
    widths: tuple[int, int]


class Inherits(Fields):
    def encode(self, values: Any) -> Any:
        return values


class LacksTwo:
    @property
    def name(self) -> str:
        return "b"


def test_members_are_those_of_the_bases_too() -> None:
    assert members_of_protocol(Whole) == ["name", "widths", "encode"]


@pytest.mark.parametrize("kind", [SetsInInit, Inherits])
def test_attributes_may_be_methods_fields_or_set_in_init(kind: type) -> None:
    assert lacking(kind, [Whole]) == []
    require_members(kind, "encoder 'a'", [Whole])


def test_what_is_missing_is_named_in_one_line() -> None:
    assert lacking(Fields, [Whole], ["fit"]) == ["fit", "encode"]
    with pytest.raises(ModelError, match=r"encoder 'b' \(.*LacksTwo\) lacks fit, widths, encode; add them, as .*Whole"):
        require_members(LacksTwo, "encoder 'b'", [Whole], ["fit"])
