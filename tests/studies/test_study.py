"""A study's YAML: read, overridden, refused in one line."""

from pathlib import Path
from typing import Any

import pytest

from core.checkout import project_root as home_folder
from core.errors import ConfigError
from models.captioners.settings import BlipCaptionerConfig, NearestCaptionerConfig
from studies.study import load_study, without_other_routes

from .conftest import write_study

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_own_studies_are_read(path: Path) -> None:
    study = load_study(path)
    assert study.study == path.stem
    assert study.parts[0] == "encoder"


def test_a_study_is_found_from_anywhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(home, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_study("configs/small.yaml").study == "small"
    assert load_study("configs/small.yaml").store == home_folder() / "data" / "small" / "features.zarr"


def test_overrides_reach_any_depth(home: Path, tmp_path: Path) -> None:
    path = write_study(home, tmp_path)
    study = load_study(
        path,
        [
            "seed=7",
            "evaluation.folds=3",
            "training.routes.ridge.regressor.kind=ridge",
            "training.routes.ridge.regressor.alphas=[1.0, 2.0]",
            "targets.pixels.height=3",
        ],
    )
    assert (study.seed, study.evaluation.folds, study.training.routes["ridge"].regressor.alphas) == (
        7,
        3,
        [1.0, 2.0],
    )
    assert study.targets["pixels"].model_dump()["height"] == 3


REMOVED = ["training.routes.mbm=null", "targets.pixels=null", "training.baselines=null"]


def test_null_removes_an_entry_and_returns_a_key_to_its_default() -> None:
    study = load_study(CONFIGS / "demo.yaml", REMOVED)
    assert list(study.training.routes) == ["ridge", "matched", "components"]
    assert list(study.targets) == ["latents", "blip", "clip"]
    assert study.training.baselines == ()
    study = load_study(CONFIGS / "demo.yaml", ["clips.frames=null", "generator.steps=null", "judges=null", "seed=null"])
    assert (study.clips.frames, study.seed, study.judges.clip) == (8, 0, None)
    assert study.generator is not None
    assert study.generator.steps == type(study.generator).model_fields["steps"].default
    assert load_study(CONFIGS / "demo.yaml", ["captioner.kind=null", "regions.most=null"]).captioner is None
    assert load_study(CONFIGS / "demo.yaml", ["generator=null"]).generator is None


def test_null_is_set_where_a_config_takes_it_for_something_else_than_its_default() -> None:
    key = "training.routes.mbm.encoder.alignment"
    assert load_study(CONFIGS / "demo.yaml").training.routes["mbm"].encoder.model_dump()["alignment"] is not None
    study = load_study(CONFIGS / "demo.yaml", [f"{key}=null"])
    assert study.training.routes["mbm"].encoder.model_dump()["alignment"] is None


def test_lists_and_mappings_are_given_as_yaml() -> None:
    overrides = ["source.subjects=[2]", "targets={pixels: {extractor: pixels}}", "roles={z: pixels}"]
    overrides += ["training={routes: {plain: {regressor: {kind: ridge, alphas: [1, 1e-3]}}}}", "generator=null"]
    study = load_study(CONFIGS / "demo.yaml", overrides)
    assert study.source.named_subjects == ["sub-02"]
    assert study.training.routes["plain"].regressor.model_dump()["alphas"] == [1.0, 0.001]
    assert list(study.targets) == ["pixels"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.routes.mbn=null", "'training.routes' has no 'mbn' to remove; did you mean 'mbm'"),
        ("clips.frame=null", "--set clips.frame=null: unknown key 'clips.frame'; did you mean 'frames'"),
        ("clip.frames=null", "unknown key 'clip'; did you mean 'clips'"),
        ("generator.step=3", "--set generator.step=3: unknown key 'generator.step'; did you mean 'steps'"),
        ("generator.weights=null", "key 'generator.weights' is missing; add it"),
        ("source.subjects.0=2", "'source.subjects' is a list, not a mapping; give it whole, as in --set"),
        ("=3", "found no key or no '='"),
        ("seed..x=3", "found no key or no '='"),
        ("roles.z={a: 1, a: 2}", "--set roles.z=.*: not YAML that can be read .the key 'a' is there twice"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_one_line_with_the_nearest_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(CONFIGS / "demo.yaml", [override])
    assert "\n" not in str(caught.value)


def test_routes_are_left_out_by_naming_the_others() -> None:
    study = load_study(CONFIGS / "demo.yaml")
    overrides = without_other_routes(study, ["mbm", "ridge"])
    left = load_study(CONFIGS / "demo.yaml", overrides)
    assert list(left.training.routes) == ["ridge", "mbm"], "in the study's order"
    assert left.training.routes["mbm"] == study.training.routes["mbm"]
    with pytest.raises(ConfigError, match="--routes: demo has no route 'pca'; it has ridge, matched, components, mbm"):
        without_other_routes(study, ["pca"])
    with pytest.raises(ConfigError, match="--routes: names no route"):
        without_other_routes(study, [])


@pytest.mark.parametrize(
    ("changed", "overrides", "message"),
    [
        ({"sedd": 1}, [], "unknown key 'sedd'; did you mean 'seed'"),
        ({}, ["evaluation.fold=3"], "unknown key 'evaluation.fold'; did you mean 'folds'"),
        ({}, ["targets.pixels.hight=3"], "unknown key 'targets.pixels.hight'; did you mean 'height'"),
        ({}, ["source.pth=x"], "unknown key 'source.pth'; did you mean 'path'"),
        ({}, ["seed=x"], "--set seed=x: seed: found 'x', expected a whole number"),
        ({}, ["clips.frames=0"], "clips.frames: found 0, expected a number above 0"),
        (
            {},
            ["training.routes.r.regressor={kind: ridge, alphas: [0]}"],
            "alphas.0: found 0, expected a number above 0",
        ),
        ({}, ["evaluation.metrics=[two_wy]"], "evaluation.metrics: unknown metric 'two_wy'; did you mean 'two_way'"),
        ({}, ["seed"], "--set seed: found no key or no '=', expected key.path=value"),
        ({}, ["seed.deeper=1"], "seed: found a mapping, expected a whole number"),
        ({}, ["study.deeper=1"], "'study' is 'small', not a mapping; give it whole, as in --set study="),
        ({}, ["seed=[1"], "--set seed=.1: not YAML that can be read"),
        ({}, ["roles.z=pixel"], "roles.z names the target 'pixel', which 'targets' lacks; did you mean 'pixels'"),
        ({}, ["roles.z=null"], "neither z nor b is given"),
        ({"study": "My Study"}, [], "study: found 'My Study', expected a name of lower-case letters"),
        ({}, ["source.kind=array"], "source.kind: found 'array', expected .*; did you mean 'arrays'"),
        ({"generator": {"weights": "x"}}, [], "needs a target of the extractor 'latents' in roles.z, found 'pixels'"),
        ({"generator": {"kind": "wan", "weights": "x"}}, [], "generator.kind: found 'wan', expected"),
        (
            {"captioner": {"kind": "blip"}},
            [],
            "BLIP writes captions of targets of the extractor 'blip' in roles.b, found no",
        ),
        ({"simulation": {}}, [], "writes BOLD Moments' layout, but source.kind is 'arrays'"),
    ],
)
def test_a_wrong_study_is_one_line(
    home: Path, tmp_path: Path, changed: dict[str, Any], overrides: list[str], message: str
) -> None:
    path = write_study(home, tmp_path, **changed)
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(path, overrides)
    assert "\n" not in str(caught.value)


def test_vision_states_take_any_role_but_the_generators(home: Path, tmp_path: Path) -> None:
    targets: dict[str, Any] = {
        "latents": {"extractor": "latents", "weights": "zoo"},
        "clip": {"extractor": "clip", "weights": "openai/clip-vit-large-patch14", "states": "tokens"},
        "blip": {"extractor": "blip", "weights": "blip", "over_frames": "concatenate", "image_size": 240},
    }
    roles, training = {"z": "latents", "b": "blip", "align": "clip"}, {"baselines": ["blip", "clip"]}
    study = load_study(write_study(home, tmp_path, clips={}, targets=targets, roles=roles, training=training))
    assert study.spaces == {"latents": "latents", "clip": "clip", "blip": "blip"}
    more = {"roles": {**roles, "b": "clip"}, "generator": {"weights": "zoo"}}
    path = write_study(home, tmp_path, clips={}, targets=targets, **more)
    with pytest.raises(ConfigError, match="a target of the extractor 'text' or 'blip' in roles.b, found 'clip'"):
        load_study(path)
    states = {"weights": "zoo", "conditioning": "states"}
    path = write_study(home, tmp_path, clips={}, targets=targets, roles=roles, generator=states)
    with pytest.raises(ConfigError, match="a target of the extractor 'text' in roles.b, found 'blip'"):
        load_study(path)
    path = write_study(home, tmp_path, targets={**targets, "clip": {"extractor": "clip"}}, roles=roles)
    with pytest.raises(ConfigError, match="key 'targets.clip.weights' is missing"):
        load_study(path)


def test_a_missing_key_and_a_missing_file_are_named(home: Path, tmp_path: Path) -> None:
    path = write_study(home, tmp_path)
    path.write_text("study: small\n")
    with pytest.raises(
        ConfigError, match="key 'source' is missing; add it\n.*'targets' is missing.*\n.*'roles' is missing"
    ):
        load_study(path)
    with pytest.raises(ConfigError, match="smal.yaml: no such study; did you mean 'configs/small.yaml'"):
        load_study("configs/smal.yaml")
    with pytest.raises(ConfigError, match="no such study"):
        load_study(300 * "long")
    for content, message in (("a: [1", "not YAML"), ("a: " + 1200 * "[", "not YAML"), ("- 1", "expected a mapping")):
        path.write_text(content)
        with pytest.raises(ConfigError, match=message):
            load_study(path)


def test_a_simulation_and_its_source_must_agree() -> None:
    with pytest.raises(ConfigError, match="source.counts is .*'train': 400.* the simulation makes .*'train': 10"):
        load_study(CONFIGS / "demo.yaml", ["simulation.n_train=10"])


def test_the_captioner_follows_b(home: Path, tmp_path: Path) -> None:
    targets: dict[str, Any] = {
        "latents": {"extractor": "latents", "weights": "zoo"},
        "text": {"extractor": "text", "weights": "zoo"},
        "blip": {"extractor": "blip", "weights": "theirs"},
    }

    def captioner(b: str, **more: Any) -> Any:
        roles = {"z": "latents", "b": b}
        path = write_study(home, tmp_path, clips={}, targets=targets, roles=roles, **more)
        return load_study(path).captioner_of_b()

    assert captioner("text") == NearestCaptionerConfig()
    assert captioner("latents") is None
    assert captioner("blip") == BlipCaptionerConfig(weights="theirs")
    assert captioner("blip", captioner={"kind": "nearest"}) == NearestCaptionerConfig()
    assert captioner("blip", captioner={"kind": "blip", "beams": 3}) == BlipCaptionerConfig(weights="theirs", beams=3)
    assert captioner("blip", captioner={"kind": "blip", "weights": "ours"}).weights == "ours"
