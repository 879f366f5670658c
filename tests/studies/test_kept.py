"""What did not change is neither rendered nor fitted again, and what is taken from before has the same bytes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from core.checkout import project_root as home_folder
from models.encoders.settings import PcaConfig
from models.extractors.base import Decoder
from models.generator.base import VideoGenerator
from models.registry.sets import ModelSet
from studies.decoding.render import Rendered, Renderer
from studies.reconstruction.run import reconstruct
from studies.registry.register import register_training
from studies.runs import MANIFEST, RECORD
from studies.stores.kept import RUNS, Kept
from studies.study import RouteConfig, Study, load_study
from studies.training import fit as fitting
from studies.training import routes
from studies.training.fit import fit

from .conftest import loop, write_study
from .routes_source import MBM, MLP, make_stores, write_bent

STIMULI = ["a", "b", "c"]


class Generator:
    """Renders clips that show what they are made from, two at a time, and counts them."""

    revision = "1"

    def __init__(self) -> None:
        self.rendered = 0

    def render(
        self,
        z: NDArray[Any],
        captions: list[str] | None,
        seeds: list[int],
        *,
        states: NDArray[Any] | None = None,
        strength: float | None = None,
        guidance: float | None = None,
        on_batch: Callable[[slice], None] | None = None,
    ) -> NDArray[np.uint8]:
        del captions, states, guidance
        self.rendered += 1
        for rows in (slice(0, 2), slice(2, 3)):
            if on_batch is not None:
                on_batch(rows)
        noise = np.array([seed % 97 for seed in seeds]).reshape(-1, 1, 1, 1, 1)
        made: NDArray[np.uint8] = ((1 - (strength or 0.0)) * z + noise).astype(np.uint8)
        return made


@pytest.fixture
def generator() -> Generator:
    return Generator()


def renderer(generator: Generator, kept: Kept, seed: int = 0) -> Renderer:
    nothing = cast(Decoder, None)
    return Renderer(nothing, (2, 4, 4), generator=cast(VideoGenerator, generator), seed=seed, kept=kept)


def predicted(value: float = 1.0) -> NDArray[np.float32]:
    return np.full((3, 2, 4, 4, 3), value, np.float32)


def same(one: Rendered, other: Rendered) -> bool:
    words = (one.captions, one.nearest, one.together) == (other.captions, other.nearest, other.together)
    return words and (one.clips.dtype, one.clips.tobytes()) == (other.clips.dtype, other.clips.tobytes())


def test_a_row_of_the_same_inputs_is_rendered_once_and_has_the_same_bytes(tmp_path: Path, generator: Generator) -> None:
    anew = renderer(Generator(), Kept()).render_row({"z": predicted()}, STIMULI)
    assert anew.together == [["a", "b"], ["a", "b"], ["c"]]
    for _ in range(2):
        assert same(renderer(generator, Kept(tmp_path, {"code": 1})).render_row({"z": predicted()}, STIMULI), anew)
    assert generator.rendered == 1


def test_the_prior_does_not_depend_on_what_is_predicted(tmp_path: Path, generator: Generator) -> None:
    made = []
    for value in (1.0, 2.0):
        one = renderer(generator, Kept(tmp_path, {}))
        one.render_row({"z": predicted(value)}, STIMULI)
        made.append(one.render_prior(predicted().shape, STIMULI))
    first, second = made
    assert first is not None
    assert second is not None
    assert same(first, second)
    assert generator.rendered == 3, "two reconstructions, one prior"


def test_whatever_may_show_in_a_row_renders_it_again(tmp_path: Path, generator: Generator) -> None:
    def render(z: NDArray[Any], stimuli: list[str], made_from: dict[str, Any]) -> None:
        renderer(generator, Kept(tmp_path, made_from)).render_row({"z": z}, stimuli)

    render(predicted(), STIMULI, {"seed": 0})
    for count, changed in enumerate(
        (
            (predicted(1.5), STIMULI, {"seed": 0}),
            (predicted().astype(np.float64), STIMULI, {"seed": 0}),
            (predicted(), STIMULI[::-1], {"seed": 0}),
            (predicted(), STIMULI, {"seed": 1}),
        ),
        start=2,
    ):
        render(*changed)
        assert generator.rendered == count
    renderer(generator, Kept(tmp_path, {"seed": 0})).render_without_caption(predicted(), STIMULI)
    assert generator.rendered == 6


def test_reproducing_a_video_renders_it_whatever_is_kept(tmp_path: Path, generator: Generator) -> None:
    one = renderer(generator, Kept(tmp_path, {}))
    whole = one.render_row({"z": predicted()}, STIMULI)
    again = one.render_again({"z": predicted()}, STIMULI, "b", whole.together[1])
    assert again.clips.tobytes() == whole.clips[1:2].tobytes()
    assert generator.rendered == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no_list"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, generator: Generator, damage: str) -> None:
    def render() -> Rendered:
        return renderer(generator, Kept(tmp_path, {})).render_row({"z": predicted()}, STIMULI)

    first = render()
    [clips] = tmp_path.rglob("clips.npz")
    if damage == "cut":
        clips.write_bytes(clips.read_bytes()[:-9])
    elif damage == "changed":
        content = bytearray(clips.read_bytes())
        content[len(content) // 2] ^= 1
        clips.write_bytes(content)
    elif damage == "gone":
        clips.unlink()
    else:
        (clips.parent / "files.json").write_text("[")
    assert same(render(), first)
    assert same(render(), first)
    assert generator.rendered == 2


def test_what_the_latest_runs_did_not_use_is_removed(tmp_path: Path, generator: Generator) -> None:
    def run(value: float) -> int:
        kept = Kept(tmp_path, {})
        one = renderer(generator, kept)
        one.render_row({"z": predicted(value)}, STIMULI)
        one.render_row({"z": predicted(0)}, STIMULI)
        kept.tidy()
        return len(list(tmp_path.rglob("clips.npz")))

    assert [run(value) for value in (1, 2, 3, 4, 5)] == [2, 3, 4, 4, 4]
    assert RUNS == 3
    assert run(5) == 4, "the same run again leaves no other less"
    (tmp_path / "used.json").write_text("{")
    assert run(6) == 2, "a damaged list is an empty one"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the routes that are fitted from here on, in order."""
    fitted: list[str] = []
    for module in (routes, fitting):
        real = module.fit_route

        def spy(route: Any, roles: Any, data: Any, context: Any, real: Any = real) -> Any:
            fitted.append(context.name)
            return real(route, roles, data, context)

        monkeypatch.setattr(module, "fit_route", spy)
    return fitted


def files_of(study: Study, folder: str, record: str) -> dict[str, bytes]:
    """Return a run's files without its name, less those that hold the time, and remove it with all that is kept."""
    run = home_folder() / folder
    named = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    files = {name: path.read_bytes().replace(run.name.encode(), b"RUN") for name, path in named.items()}
    shutil.rmtree(run)
    shutil.rmtree(study.outputs / ".kept", ignore_errors=True)
    return {name: content for name, content in files.items() if name not in (record, "mlflow_run.txt")}


KINDS: dict[str, dict[str, Any]] = {
    "ridge": {},
    "pca": {"encoder": {"kind": "pca", "components": 6}, "regressor": MLP},
    "mbm": {"encoder": {**MBM, "alignment": None}},
    "residual": {"regressor": {**MLP, "kind": "residual"}},
}


@pytest.mark.parametrize("kinds", [("ridge", "pca"), pytest.param(tuple(KINDS), marks=pytest.mark.full)])
def test_changing_one_route_fits_it_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...]
) -> None:
    source = write_bent(tmp_path / "bent", np.random.default_rng(5), train=64, test=12)
    named = {name: KINDS[name] for name in kinds}
    targets = {"bent": {"extractor": "given"}, "straight": {"extractor": "given"}}
    content: dict[str, Any] = {"targets": targets, "roles": {"z": "bent"}}
    changed = {**named, "pca": {**named["pca"], "regressor": {**MLP, "lr": 2e-3}}}
    training: dict[str, Any] = {"baselines": ["straight"]}
    first, other = (
        load_study(write_study(home, source, **content, training={**training, "routes": own}))
        for own in (named, changed)
    )
    make_stores(first)
    fitted = counted(monkeypatch)
    fit(first)
    assert fitted == [*(f"{name} selection" for name in named), *named]
    fitted.clear()
    reused = fit(other)
    assert not reused.fresh
    assert fitted == ["pca selection", "pca"]
    fitted.clear()
    alone = load_study(write_study(home, source, **content, training={**training, "routes": {"ridge": {}}}))
    assert not fit(alone).fresh
    assert fitted == [], "a route left out leaves the others as they were"
    fit(alone.model_copy(update={"seed": 1}))
    assert fitted == ["ridge selection", "ridge"]
    kept = files_of(other, reused.folder, RECORD)
    assert {"scores.json", "curves.json", "validation.json", "pictures/curves.png"} <= set(kept)
    fitted.clear()
    anew = fit(other)
    assert len(fitted) == 2 * len(named), "nothing is left to take it from"
    assert files_of(other, anew.folder, RECORD) == kept
    assert anew.digests == reused.digests


def test_another_promotion_renders_what_depends_on_models_alone(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    loop(study)
    rendered: list[dict[str, NDArray[Any]]] = []
    real = Renderer._render

    def spy(self: Renderer, roles: Any, *arguments: Any, **named: Any) -> Rendered:
        rendered.append(roles)
        return real(self, roles, *arguments, **named)

    training = study.training.model_copy(update={"routes": {"pca": RouteConfig(encoder=PcaConfig(components=6))}})
    other = study.model_copy(update={"training": training})
    chosen: ModelSet = register_training(other, fit(other))
    monkeypatch.setattr(Renderer, "_render", spy)
    reused = reconstruct(other, chosen)
    some = len(rendered)
    kept = files_of(other, reused.folder, MANIFEST)
    assert {"metrics.json", "gallery.html", "captions.csv", "values.json"} <= set(kept)
    rendered.clear()
    anew = reconstruct(other, chosen)
    assert 0 < some <= len(rendered) - 3, "the mean, the oracle and the category are as they were"
    assert files_of(other, anew.folder, MANIFEST) == kept
