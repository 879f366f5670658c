"""One line for a wrong config, with the nearest known key."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from core.config import Config, nearest
from core.explain import explain


class Cat(Config):
    kind: Literal["cat"] = "cat"
    whiskers: int = 2


class Dog(Config):
    kind: Literal["dog"] = "dog"
    tail: bool = True


class House(Config):
    name: str
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat()
    rooms: int = Field(default=1, ge=1)
    guests: dict[str, Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "a", "room": 1}, "x.yaml: unknown key 'room'; did you mean 'rooms'?"),
        (
            {"name": "a", "pet": {"kind": "cat", "wiskers": 1}},
            "x.yaml: unknown key 'pet.wiskers'; did you mean 'whiskers'",
        ),
        ({"name": "a", "zzz": 1}, "x.yaml: unknown key 'zzz'; known: guests, name, pet, rooms"),
        (
            {"name": "a", "guests": {"dog": {"kind": "dog", "tial": 1}}},
            "x.yaml: unknown key 'guests.dog.tial'; did you mean 'tail'?",
        ),
        ({"name": "a", "pet": {"kind": "dog", "tail": "x"}}, "x.yaml: pet.tail: found 'x', expected true or false"),
        ({}, "x.yaml: key 'name' is missing; add it"),
        (
            {"name": "a", "rooms": 0},
            "rooms: found 0, expected a number of at least 1; correct it, or remove the key for the",
        ),
        ({"name": "a", "pet": {"kind": "cow"}}, "pet.kind: found 'cow', expected 'cat' or 'dog'"),
        (
            {"name": "a", "guests": {"x": {"kind": "cat", "whiskers": None}}},
            "guests.x.whiskers: found null",
        ),
    ],
)
def test_a_wrong_config_is_one_line(content: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        House.model_validate(content)
    line = explain(caught.value, House, content, "x.yaml")
    assert message in line
    assert "\n" not in line


def test_nearest_names_the_close_one_else_all() -> None:
    assert nearest("latent", ["latents", "text"]) == "; did you mean 'latents'?"
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
    assert nearest("zzz", []) == ""
