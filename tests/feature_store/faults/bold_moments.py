"""What BOLD Moments on disk may have wrong: a sound small dataset, and one damage at a time."""

import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from core.files import read_json, write_json
from feature_store.sources.base import Split
from feature_store.sources.bold_moments.layout import ANNOTATIONS, GROUP_MASK, SUBJECT_MASK

from ..bold_moments_disk import (
    CELLS,
    REGIONS,
    SHAPE,
    SUBJECT,
    SURFACES,
    Hostile,
    addresses,
    ceiling_path,
    dump,
    index_path,
    mask_image,
    names,
    pair,
    read_all,
    roi_path,
    space_path,
    window_path,
    write_rois,
    write_spaces,
    write_windows,
)
from . import Fault


def in_dtype(payload: Any) -> bytes:
    """Return an array's pickle in which a payload stands where the type's name was."""
    before = pickle.dumps((np.ndarray, np.dtype), 2)[2:-1]  # names both, so that what follows may too
    hidden = pickle.dumps(payload, 2)[2:-1]
    return b"\x80\x02" + before + b"0cnumpy\ndtype\n(" + hidden + b"K\x00K\x01tR."


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def unlinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/absent")


def rewrite_notes(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    notes = read_json(root / ANNOTATIONS)
    change(notes)
    write_json(root / ANNOTATIONS, notes)


def all_nan(path: Path) -> None:
    dump(path, {key: np.full_like(value, np.nan) for key, value in pair(REGIONS["lMT"]).items()})


def swapped_names(root: Path, space: str, split: Split) -> None:
    path = space_path(root, space, split)
    betas, known, *rest = pickle.loads(path.read_bytes())
    dump(path, (betas, [*known[1::-1], *known[2:]], *rest))


def without_region(root: Path, split: Split) -> None:
    path = space_path(root, "MNI152", split)
    betas, *rest = pickle.loads(path.read_bytes())
    betas[..., REGIONS["rMT"]] = np.nan
    dump(path, (betas, *rest))


def other_mask(root: Path) -> None:
    """Leave betas with masks of which none has as many voxels."""
    path = space_path(root, "MNI152")
    betas, known, _ = pickle.loads(path.read_bytes())
    dump(path, (betas, known, mask_image(CELLS[:7])))
    nib.save(mask_image(CELLS[2:]), root / SUBJECT_MASK.format(subject=SUBJECT))


def _on_rois() -> Iterator[Fault]:
    lmt = pair(REGIONS["lMT"])
    short, wide = np.zeros((3, 5, 2)), np.zeros((2, 5, 9))
    cases: list[tuple[str, Callable[[Path], Any], str]] = [
        ("cut", lambda r: cut(roi_path(r)), r"roi-lMT_betas_normalized.pkl: cut short or no pickle .* fetch the file"),
        (
            "shape",
            lambda r: dump(roi_path(r), {**lmt, "test_data_allvoxel": short}),
            r"test_data_allvoxel has shape \(3, 5, 2\) of float64, expected \(2, 5, 2\)",
        ),
        (
            "voxels",
            lambda r: dump(roi_path(r), {**lmt, "test_data_allvoxel": wide}),
            r"has shape \(2, 5, 9\) of float64, expected \(2, 5, 2\)",
        ),
        (
            "type",
            lambda r: dump(roi_path(r), {**lmt, "train_data_allvoxel": np.zeros((4, 3, 2), "U3")}),
            "of <U3, expected",
        ),
        (
            "key",
            lambda r: dump(roi_path(r), {"x": 1}),
            r"lacks train_data_allvoxel, test_data_allvoxel \(found: x\)",
        ),
        ("list", lambda r: dump(roi_path(r), [1]), r"lacks train_data_allvoxel, test_data_allvoxel \(found: list\)"),
        ("all NaN", lambda r: all_nan(roi_path(r)), "roi-lMT.*: train_data_allvoxel holds no finite value"),
        ("roi", lambda r: roi_path(r, "rMT").unlink(), "roi-rMT.*: no such file; download it, or name the regions"),
        (
            "annex",
            lambda r: unlinked(roi_path(r)),
            r"a link without its content \(git-annex\); run 'datalad get .*' or 'brain2video download bold-moments'",
        ),
        ("folder", lambda r: (roi_path(r).unlink(), roi_path(r).mkdir()), "lMT.*: no such file"),
        (
            "os.system",
            lambda r: dump(roi_path(r), {**lmt, "x": Hostile(os.system, f"touch {r / 'bait'}")}),
            "refused: the pickle asks for '(posix|nt).system', expected numpy arrays and nibabel images only",
        ),
        (
            "eval",
            lambda r: dump(roi_path(r), {**lmt, "x": Hostile(eval, f"open({str(r / 'bait')!r}, 'w')")}),
            "refused: the pickle asks for 'builtins.eval'",
        ),
        (
            "call in a dtype",
            lambda r: roi_path(r).write_bytes(in_dtype(Hostile(os.system, f"touch {r / 'bait'}"))),
            "refused: the pickle asks for '(posix|nt).system'",
        ),
    ]
    for name, spoil, message in cases:
        yield Fault(f"bold_moments: {name}", write_rois, spoil, read_all, message)


def _on_stimuli() -> Iterator[Fault]:
    cases: list[tuple[str, Callable[[Path], Any], str]] = [
        ("clip annex", lambda r: unlinked(r / "stimuli/test/0005.mp4"), "run 'datalad get .*0005.mp4'$"),
        ("clip", lambda r: (r / "stimuli/train/0002.mp4").unlink(), "train/0002.mp4: no such file; fetch the clips"),
        (
            "clip in both splits",
            lambda r: (r / "stimuli/test/0002.mp4").write_bytes(b""),
            r"test/0002.mp4: clip 0002 is a train clip, expected in train/ only",
        ),
        (
            "fewer notes",
            lambda r: rewrite_notes(r, lambda notes: notes.pop("0004")),
            r"5 annotations, expected 6 as the responses have \(first that differs: 0004\)",
        ),
        (
            "more notes",
            lambda r: rewrite_notes(r, lambda notes: notes.update({"0007": {}})),
            r"7 annotations, expected 6 .*: 0007\)",
        ),
        (
            "set",
            lambda r: rewrite_notes(r, lambda notes: notes["0004"].update(set="test")),
            "'0004' has set 'test', expected 'train'",
        ),
        (
            "note without fields",
            lambda r: rewrite_notes(r, lambda notes: notes.update({"0004": "a cat"})),
            "'0004' is str, expected fields",
        ),
        ("json", lambda r: (r / ANNOTATIONS).write_text("{"), "annotations.json: no JSON"),
        ("no notes", lambda r: (r / ANNOTATIONS).unlink(), "annotations.json: no such file; download derivatives"),
    ]
    for name, spoil, message in cases:
        yield Fault(f"bold_moments: {name}", write_rois, spoil, read_all, message)


def _on_settings() -> Iterator[Fault]:
    """Yield faults of a study's YAML: the sound one is read before, the wrong one after."""
    wrong = [
        ("unknown ROI", {"rois": ["EBB"]}, "no ROI 'EBB' in BOLD Moments; did you mean 'EBA'"),
        ("unlike any ROI", {"rois": ["zz9"]}, "no ROI 'zz9' in BOLD Moments; known: .*BMDgeneral.*lEBA"),
        ("ROI on a surface", {"responses": "fsLR32k"}, "names MT in fsLR32k, where no regions are published; leave it"),
        ("ROI with a side in windows", {"responses": "windows", "rois": ["lEBA"]}, "no side; did you mean 'EBA'"),
        ("subject", {"subjects": [3, 4]}, "sub-04: no such subject; found sub-03; download it or fix source.subjects"),
        ("path", {"path": "nowhere"}, "nowhere: no such folder; expected BOLD Moments"),
        ("space not fetched", {"responses": "MNI152"}, "GLM: no subject; expected folders sub-01, …; download the"),
    ]
    for name, settings, message in wrong:
        spoiled: dict[str, Any] = {}
        yield Fault(
            f"bold_moments: {name}",
            write_rois,
            lambda _, spoiled=spoiled, settings=settings: spoiled.update(settings),
            lambda root, spoiled=spoiled: read_all(root, **spoiled),
            message,
        )


def _on_places() -> Iterator[Fault]:
    index = [np.zeros((2, 3), int), CELLS[[1, 3]], mask_image()]
    two_cells = np.stack(np.unravel_index(CELLS[[1, 3]], SHAPE), axis=1)
    unnamed = nib.Nifti1Image(np.ones(SHAPE), np.eye(4))
    cases: list[tuple[str, Callable[[Path], Any], str]] = [
        ("index against cells", lambda r: dump(index_path(r), index), "flat indices and voxel indices name different"),
        (
            "index of another size",
            lambda r: dump(index_path(r), [two_cells[:1], CELLS[[1]], mask_image()]),
            "ROI-lMT_indices.pkl: 1 voxels and 2 in the region's betas",
        ),
        ("index without image", lambda r: dump(index_path(r), index[:2]), "expected voxel indices, flat indices and a"),
        (
            "another affine",
            lambda r: dump(index_path(r), [two_cells, CELLS[[1, 3]], unnamed]),
            "another affine than in ROI-lMT|ROI-rMT_indices.pkl: another affine",
        ),
        (
            "ceiling of another length",
            lambda r: dump(ceiling_path(r, "MNI152", "train"), (np.ones(4), np.ones(4))),
            r"noiseceiling_task-train_n-3.pkl: 4 noise ceilings, and masks of 10 and 9 voxels, expected as many",
        ),
        ("ceiling of one array", lambda r: dump(ceiling_path(r, "MNI152", "test"), np.ones(9)), "expected ncsnr and"),
        (
            "broken mask",
            lambda r: (
                (r / SUBJECT_MASK.format(subject=SUBJECT)).write_bytes(b"no image"),
                dump(ceiling_path(r, "MNI152", "train"), (np.ones(9), np.ones(9))),
            ),
            "mask-nonans_space-MNI152.nii: no NIfTI image",
        ),
    ]
    for name, spoil, message in cases:
        yield Fault(f"bold_moments places: {name}", write_spaces, spoil, read_all, message)


def _on_spaces() -> Iterator[Fault]:
    mni = partial(read_all, responses="MNI152")
    whole = partial(read_all, responses="MNI152", rois=None)
    fslr, fsaverage = (partial(read_all, responses=space, rois=None) for space in SURFACES)
    cases: list[tuple[str, Callable[[Path], Any], Callable[[Path], Any], str]] = [
        (
            "names out of order",
            lambda r: swapped_names(r, "fsLR32k", "train"),
            fslr,
            r"task-train_normalized.pkl: row 0 is 'vid0002', expected 'vid0001'",
        ),
        (
            "test names out of order",
            lambda r: swapped_names(r, "MNI152", "test"),
            whole,
            r"task-test_normalized.pkl: row 0 is 'vid0006', expected 'vid0005'",
        ),
        (
            "fewer names",
            lambda r: dump(space_path(r, "fsLR32k"), (addresses("train", range(6)), names("test"))),
            fslr,
            "names 2 stimuli, expected 4",
        ),
        ("no tuple", lambda r: dump(space_path(r, "fsLR32k"), addresses("train", [0])), fslr, "expected betas and the"),
        (
            "test of other voxels",
            lambda r: dump(space_path(r, "fsLR32k", "test"), (addresses("test", range(5)), names("test"))),
            fslr,
            r"betas has shape \(2, 5, 5\) of float64, expected \(2, 5, 6\)",
        ),
        ("mask of other voxels", other_mask, whole, "10 voxels, and masks of 7 and 8 and 9 voxels, expected as many"),
        (
            "mask left in a file",
            lambda r: dump(
                space_path(r, "MNI152"),
                (addresses("train", range(7)), names("train"), nib.load(r / GROUP_MASK)),
            ),
            whole,
            "7 voxels, and masks of 10 and 9 voxels",
        ),
        ("region", lambda r: without_region(r, "train"), mni, "task-train.*: region rMT holds no finite value"),
        ("test region", lambda r: without_region(r, "test"), mni, "task-test.*: region rMT holds no finite value"),
        ("region's index", lambda r: index_path(r, "rMT").unlink(), mni, "ROI-rMT_indices.pkl: no such file; download"),
        (
            "ceiling",
            lambda r: dump(ceiling_path(r, "fsLR32k", "test"), (np.ones(5), np.ones(5))),
            fslr,
            "ncsnr of 5 voxels .* expected 6 as the betas have",
        ),
        (
            "hemisphere",
            lambda r: space_path(r, "fsaverage", "train", "right").unlink(),
            fsaverage,
            "train_hemi-right_normalized.pkl: no such file; download it: both splits and hemispheres are needed",
        ),
        ("truncated", lambda r: cut(space_path(r, "fsaverage", "test", "left")), fsaverage, "hemi-left.*: cut short"),
        ("annex", lambda r: unlinked(space_path(r, "MNI152")), mni, "run 'datalad get .*' or 'brain2video download"),
    ]
    for name, spoil, read, message in cases:
        yield Fault(f"bold_moments spaces: {name}", write_spaces, spoil, read, message)


def _on_windows() -> Iterator[Fault]:
    read = partial(read_all, responses="windows", rois=["V1v", "EBA"])
    cases: list[tuple[str, Callable[[Path], Any], str]] = [
        (
            "TR",
            lambda r: window_path(r, 4).parent.rename(r / "elsewhere"),
            "TR4/sub-03: no such folder; download it, or fix source.trs",
        ),
        (
            "TRs of different voxels",
            lambda r: dump(window_path(r, 7), pair(range(4))),
            r"TR7/sub-03/EBA_TR-7_allvoxel.pkl: .* shape \(4, 3, 4\) of float64, expected \(4, 3, 3\)",
        ),
        ("region", lambda r: window_path(r, 2, "V1v").unlink(), r"TR2/sub-03/V1v_\*_allvoxel.pkl: no such file"),
        (
            "two files",
            lambda r: dump(window_path(r, 2).with_name("EBA_TR2_allvoxel.pkl"), 1),
            r"TR2/sub-03: 2 files of region EBA \(EBA_TR-2_allvoxel.pkl, EBA_TR2_allvoxel.pkl\), expected one",
        ),
        (
            "NaN at one TR",
            lambda r: dump(window_path(r, 9), {key: value * np.nan for key, value in pair(range(2, 5)).items()}),
            "TR9/sub-03/EBA.*: train_data_allvoxel holds no finite value",
        ),
        ("annex", lambda r: unlinked(window_path(r, 5)), "EBA_TR-5_allvoxel.pkl: a link without its content"),
    ]
    for name, spoil, message in cases:
        yield Fault(f"bold_moments windows: {name}", write_windows, spoil, read, message)


FAULTS: list[Fault] = [*_on_rois(), *_on_stimuli(), *_on_settings(), *_on_places(), *_on_spaces(), *_on_windows()]
