"""Whatever is wrong with a study's YAML, a person reads our words: where, what was found, what was expected."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import ConfigError
from core.explain import read_yaml, validated
from studies.registry.promote import PromotionRules
from studies.study import Study, load_study

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WRONG: list[Any] = [
    None, True, "wrong", "", -1, 0, 1.5, -0.5, float("nan"), float("inf"), 10**400, 1e300, [], {}, [None], ["wrong"],
    {"unknown": 1}, [[]], {1: 2},
]  # fmt: skip
FOREIGN = re.compile(
    r"input should|field required|validation error|type=|extra input|pydantic|unable to|value error|should have|"
    r"should be|should match|valid (integer|number|string|boolean|dictionary|list)|function-|literal\[|\[key\]|"
    r"Traceback|discriminator|NoneType|<class",
    re.IGNORECASE,
)
"""Words of pydantic and of Python."""


def every_key(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value of a config, sections and single ones."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from every_key(value, (*above, key))


@contextmanager
def changed(content: Any, place: tuple[Any, ...], value: Any) -> Iterator[Any]:
    """Yield the content with one value changed for the length of the block."""
    here = content
    for key in place[:-1]:
        here = here[key]
    last, absent = place[-1], isinstance(here, dict) and place[-1] not in here
    before = None if absent else here[last]
    here[last] = value
    yield content
    if absent:
        del here[last]
    else:
        here[last] = before


def lines_of(content: Any, model: Any = Study) -> list[str]:
    """Return what is said of a config's content; nothing where it is accepted."""
    try:
        validated(model, content, "x.yaml")
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "name",
    ["bids_example", *(pytest.param(n, marks=pytest.mark.full) for n in ("demo", "bold_moments", "digits69_routes"))],
)
def test_any_wrong_value_of_any_key_is_told_in_our_words(name: str) -> None:
    content = load_study(CONFIGS / f"{name}.yaml").model_dump(mode="json")
    refused = 0
    for place in list(every_key(content)):
        for value in WRONG:
            with changed(content, place, value):
                for line in lines_of(content):
                    refused += 1
                    assert not FOREIGN.search(line), f"{place} = {value!r}: {line}"
                    assert line.startswith("x.yaml: "), line
    assert refused > 1000


@pytest.mark.parametrize("name", ["demo", "bids_example"])
def test_any_unknown_key_is_named_and_any_absent_one_is_optional_or_named(name: str) -> None:
    content = load_study(CONFIGS / f"{name}.yaml").model_dump(mode="json")
    for place in [(), *every_key(content)]:
        here: Any = content
        for key in place:
            here = here[key]
        if not isinstance(here, dict):
            continue
        for key in list(here):
            value = here.pop(key)
            assert not [line for line in lines_of(content) if FOREIGN.search(line)]
            here[key] = value
        if place == ("source", "entities"):  # whose keys a dataset's files name
            continue
        with changed(content, (*place, "unknwon"), 1):
            assert any("unknwon" in line for line in lines_of(content))


def test_the_rules_of_promotion_are_told_in_our_words_too() -> None:
    content = PromotionRules().model_dump(mode="json")
    for place in list(every_key(content)):
        for value in WRONG:
            with changed(content, place, value):
                assert not [line for line in lines_of(content, PromotionRules) if FOREIGN.search(line)]


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("clips.frames", 0, "clips.frames: found 0, expected a number above 0; correct it, or remove the key for"),
        ("clips.frames", "many", "clips.frames: found 'many', expected a whole number; correct it, or remove"),
        ("clips.fit", "streched", "clips.fit: found 'streched', expected 'stretch', 'crop' or 'pad'; did you mean"),
        ("source.task", 5, "source.task: found 5, expected text or a list; put it in quotes if it is a name"),
        ("source.kind", "bid", "source.kind: found 'bid', expected 'arrays', 'bids', 'bold_moments' or"),
        ("source.split", None, "source.split: found null, expected a mapping (key: value); correct it"),
        ("source.subjects", [1], "source.subjects.0: found 1, expected text; put it in quotes if it is a name"),
        ("source.subjects", [], "source.subjects: found an empty list, expected at least 1 of them; correct it"),
        ("training.routes", {"My Route": {}}, "training.routes.My Route: found 'My Route', expected a name of"),
        ("training.routes.ridge.encoder", {"reliability": 1}, "key 'training.routes.ridge.encoder.kind' is missing"),
        ("targets.pixels", {"extractor": "clip"}, "key 'targets.pixels.weights' is missing; add it"),
        ("seed", float("nan"), "seed: found nan, expected a "),
        ("clips.window_s", True, "clips.window_s: found true or false, expected a number; correct it"),
        ("seed", False, "seed: found true or false, expected a number"),
        ("source.split.purge_s", float("inf"), "source.split.purge_s: found inf, expected a finite number; correct it"),
    ],
)  # fmt: skip
def test_a_line_says_where_what_was_found_what_was_expected_and_what_to_do(place: str, value: Any, line: str) -> None:
    content = load_study(CONFIGS / "bids_example.yaml").model_dump(mode="json")
    with changed(content, tuple(place.split(".")), value):
        (found,) = lines_of(content)
    assert found.startswith(f"x.yaml: {line}")


def test_mappings_that_inherit_may_give_a_key_again() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\nd: {<<: [*a, *b], y: 5}"
    assert read_yaml(text, "x") == yaml.safe_load(text)


def test_each_of_several_faults_has_its_line(tmp_path: Path) -> None:
    content = yaml.safe_load((CONFIGS / "bids_example.yaml").read_text())
    wrong = {**content, "clips": {"frames": -1}, "sedd": 3}
    del wrong["roles"]
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError) as caught:
        load_study(file, ["source.split.by=tsk"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert sum(line.startswith(f"{file}: ") for line in lines) == 3
    assert [line for line in lines if line.startswith("--set source.split.by=tsk: source.split.by: found 'tsk'")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("study: x\nseed: [1\n", r"own.yaml line 3: not YAML that can be read \(expected ',' or ']'"),
        ("study: x\nseed: 1\nseed: 2\n", r"own.yaml line 3: not YAML .*\(the key 'seed' is there twice\)"),
        ("study: x\nseed: 2020-13-45\n", r"own.yaml: not YAML that can be read \(month must be in 1..12\)"),
        ("seed: " + 5000 * "9", r"own.yaml: not YAML that can be read \(.*digits"),
        ("seed: " + 1200 * "[", r"own.yaml: not YAML that can be read \(nested too deeply\)"),
        ("study: \xe9".encode("latin-1"), "own.yaml: not YAML that can be read"),
        ("study: x\n\tseed: 1", "own.yaml line 2: not YAML that can be read"),
        ("? [a]\n: 1", "own.yaml line 1: not YAML that can be read"),
        ("", "own.yaml: found null, expected a mapping such as 'study: demo'"),
        ("- 1", "own.yaml: found a list, expected a mapping"),
        ("study: &x [*x]", "found a list, expected text"),
        ("1: 2\nstudy: x", "found the key 1, expected text; put it in quotes"),
    ],
)  # fmt: skip
def test_yaml_that_cannot_be_read_is_one_line(tmp_path: Path, text: str | bytes, line: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=line) as caught:
        load_study(file)
    assert not FOREIGN.search(str(caught.value))
