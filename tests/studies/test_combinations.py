"""Whatever combination of source, sizes and roles a config accepts reaches a gallery, in one try."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from core.errors import SourceError
from core.files import read_json
from studies.runs import GALLERY, METRICS, SCORES
from studies.status.check import require_ready
from studies.study import load_study

from ..conftest import write_arrays
from ..feature_store.faults.bids import write_image, write_table
from .conftest import STUDY, loop

TRAIN, TEST = 8, 4
ARRAYS, BIDS = "arrays", "bids"
EIGHT = {"frames": 4, "height": 8, "width": 8, "window_s": 2.0}


def write_bids_of_pictures(folder: Path, rng: np.random.Generator, *, captions: bool) -> dict[str, Any]:
    """Write two runs that show each picture, a few seconds apart, and return the settings of their source."""
    names = [f"{'train' if index < TRAIN else 'test'}/s{index}.png" for index in range(TRAIN + TEST)]
    for name in names:
        file = folder / "stimuli" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 10, 3), np.uint8)).save(file)
    (folder / "task-see_bold.json").write_text('{"RepetitionTime": 2.0}')
    for run in (1, 2):
        order = [names[row] for row in rng.permutation(len(names))]
        events: dict[str, Any] = {"onset": [6.0 + 8 * row for row in range(len(order))], "duration": 2.0}
        events["stim_file"] = order
        if captions:
            events["caption"] = [f"a picture {Path(name).stem}" for name in order]
        raw = f"sub-01/func/sub-01_task-see_run-{run}"
        write_table(folder / f"{raw}_events.tsv", events)
        write_image(folder / f"{raw}_bold.nii.gz", rng.normal(100, 5, (4, 3, 2, 60)).astype(np.float32))
    split = {"by": "stimulus", "test": names[TRAIN:]}
    more = {"caption_column": "caption"} if captions else {}
    response = {"response": {"kind": "window"}, "mask": "none"}
    return {"kind": BIDS, "path": str(folder), "task": "see", "split": split, **response, **more}


def source_of(kind: str, folder: Path, *, captions: bool) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    if kind == BIDS:
        return write_bids_of_pictures(folder, rng, captions=captions)
    write_arrays(folder, rng, train=TRAIN, test=TEST, voxels=12)
    table = pd.read_csv(folder / "stimuli.csv")
    table.assign(caption=table["caption"] if captions else "").to_csv(folder / "stimuli.csv", index=False)
    np.save(folder / "targets" / "more.npy", rng.normal(size=(TRAIN + TEST, 5)).astype(np.float32))
    return {"kind": ARRAYS, "path": str(folder)}


def pixels(frames: int, side: int, **more: Any) -> dict[str, Any]:
    return {"extractor": "pixels", "frames": frames, "height": side, "width": side, **more}


def reaches_a_gallery(home: Path, folder: Path, kind: str, **changed: Any) -> dict[str, Any]:
    captions = changed.pop("captions", True)
    content = {**STUDY, "source": source_of(kind, folder, captions=captions), **changed}
    file = home / "study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    study = load_study(file)
    require_ready(study)
    reconstruction = loop(study)
    scored = read_json(study.outputs / "training" / "latest" / SCORES)
    assert set(study.roles.regressed()) <= set(scored["targets"])
    if not reconstruction.run:
        assert reconstruction.note == study.why_nothing_to_render()
        return {}
    made = home / reconstruction.folder
    assert (made / GALLERY).stat().st_size > 10_000
    report: dict[str, Any] = read_json(made / METRICS)
    return report


def test_the_example_of_bids_decodes_clips_at_another_size_than_they_are_seen(home: Path, tmp_path: Path) -> None:
    report = reaches_a_gallery(
        home, tmp_path / "bids", BIDS, clips=EIGHT, targets={"pixels": pixels(2, 4)}, captions=False
    )
    rows = report["rows"]
    assert {"frames.ssim", "pixels.two_way", "frames.psnr"} <= set(rows["oracle"]) == set(rows["nearest_training_clip"])


SIZES = [(1, 8), (2, 4), (4, 3), (4, 8), (4, 12)]
"""Frames and sides of pixels, smaller, equal and larger than the clips', which have 4 frames of 8 × 8."""


@pytest.mark.full
@pytest.mark.parametrize("kind", [ARRAYS, BIDS])
@pytest.mark.parametrize("captions", [True, False])
@pytest.mark.parametrize(("frames", "side"), SIZES)
@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_pixels_of_every_size_reach_a_gallery(
    home: Path, tmp_path: Path, kind: str, captions: bool, frames: int, side: int, channels: str
) -> None:
    targets = {"pixels": pixels(frames, side, channels=channels)}
    reaches_a_gallery(home, tmp_path / "source", kind, clips=EIGHT, targets=targets, captions=captions)


DEMO = {"frames": 8, "height": 32, "width": 32, "window_s": 2.0}
SMALL = {"extractor": "pixels", "frames": 4, "height": 8, "width": 8}
LATENTS, TEXT, BLIP, CLIP, GIVEN = "latents", "text", "blip", "clip", "given"
ROLES: dict[str, tuple[str, str | None, dict[str, Any], tuple[str, ...]]] = {
    # by name: z, b, what else the study has, and for which sources it makes sense
    "latents decoded directly": (LATENTS, None, {}, (ARRAYS, BIDS)),
    "latents and a text, generated": (LATENTS, TEXT, {"generator": True}, (ARRAYS, BIDS)),
    "latents and a text, by its states": (LATENTS, TEXT, {"generator": "states"}, (ARRAYS,)),
    "latents and BLIP, generated": (LATENTS, BLIP, {"generator": True}, (ARRAYS, BIDS)),
    "latents and BLIP, decoded directly": (LATENTS, BLIP, {}, (ARRAYS,)),
    "latents and BLIP, nearest captions": (LATENTS, BLIP, {"captioner": {"kind": "nearest"}}, (ARRAYS,)),
    "small pixels and a text": ("pixels", TEXT, {}, (ARRAYS, BIDS)),
    "small pixels and an embedding": ("pixels", CLIP, {}, (ARRAYS,)),
    "small pixels and smaller ones": ("pixels", "smaller", {}, (ARRAYS,)),
    "small pixels and given embeddings": ("pixels", GIVEN, {}, (ARRAYS,)),
    "small pixels, looked at by models": ("pixels", None, {"judges": True, "baselines": ["latents"]}, (ARRAYS,)),
    "nothing that becomes a clip": (CLIP, TEXT, {}, (ARRAYS,)),
    "given embeddings alone": (GIVEN, None, {}, (ARRAYS,)),
}
NEEDS_CAPTIONS = ("a text", "nearest captions", "nothing that becomes")


def study_of_roles(models: Path, z: str, b: str | None, more: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, dict[str, Any]] = {
        LATENTS: {"extractor": LATENTS, "weights": str(models / "text_to_video")},
        TEXT: {"extractor": TEXT, "weights": str(models / "text_to_video")},
        BLIP: {"extractor": BLIP, "weights": str(models / "blip"), "frames": 2},
        CLIP: {"extractor": CLIP, "weights": str(models / "clip"), "frames": 2},
        "pixels": SMALL,
        "smaller": {**SMALL, "frames": 1, "height": 4},
        GIVEN: {"extractor": GIVEN, "file": "more"},
    }
    wanted = {name: name for name in (z, b, *more.get("baselines", ())) if name}
    content: dict[str, Any] = {
        "clips": DEMO,
        "targets": {name: made[name] for name in wanted},
        "roles": {"z": z, "b": b},
    }
    if generator := more.get("generator"):
        conditioning = {"conditioning": "states"} if generator == "states" else {}
        content["generator"] = {"weights": str(models / "text_to_video"), "steps": 2, "strength": 0.6, **conditioning}
    if "judges" in more:
        content["judges"] = {"clip": {"weights": str(models / "clip")}, "small_world": str(models / "judge")}
    content["training"] = {"baselines": more.get("baselines", [])}
    return content | {name: more[name] for name in ("captioner",) if name in more}


@pytest.mark.full
@pytest.mark.parametrize("captions", [True, False])
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, own in ROLES.items() for kind in own[3]])
def test_roles_of_every_kind_reach_a_gallery_or_are_refused_before_the_work(
    home: Path, tmp_path: Path, small_models: Path, name: str, kind: str, captions: bool
) -> None:
    z, b, more, _ = ROLES[name]
    content = study_of_roles(small_models, z, b, more)
    if not captions and any(words in name for words in NEEDS_CAPTIONS):
        source = source_of(kind, tmp_path / "source", captions=False)
        (home / "study.yaml").write_text(yaml.safe_dump({**STUDY, "source": source, **content}, sort_keys=False))
        with pytest.raises(SourceError, match="needs a caption of every stimulus"):
            require_ready(load_study(home / "study.yaml"))
        return
    reaches_a_gallery(home, tmp_path / "source", kind, captions=captions, **content)
