"""Studies of real recordings, and the routes that are compared on them; settings are the documented defaults."""

from pathlib import Path
from typing import Any

MATCHED: dict[str, Any] = {"regressor": {"kind": "ridge", "variance_matching": 0.5}}
FRACTIONS = [1.0, 0.5, 0.3, 0.1]
SELECTED: dict[str, Any] = {
    "encoder": {"kind": "standardise", "voxels": {"fraction": FRACTIONS, "by": "training_correlation"}},
    **MATCHED,
}
ROUTES: dict[str, dict[str, Any]] = {"ridge": {}, "matched": MATCHED, "selected": SELECTED}
POOLED: dict[str, dict[str, Any]] = {"pooled": {"pooled": True}, "pooled_matched": {"pooled": True, **MATCHED}}


def digits(data: Path) -> dict[str, Any]:
    """One person who saw handwritten sixes and nines; the image itself is decoded."""
    return {
        "study": "digits69",
        "source": {"kind": "digits69", "path": str(data / "digits69" / "digit69_28x28.mat")},
        "clips": {"frames": 1, "height": 28, "width": 28, "window_s": 1.0},
        "targets": {"pixels": {"extractor": "pixels", "frames": 1, "height": 28, "width": 28, "channels": "grey"}},
        "roles": {"z": "pixels"},
    }


def bars(data: Path) -> dict[str, Any]:
    """One person who saw 48 pictures of bars, each some times, in runs of real NIfTI files."""
    return {
        "study": "bars",
        "source": {
            "kind": "bids",
            "path": str(data / "bars-bids"),
            "split": {"by": "stimulus", "test": [f"bar_{number:02d}" for number in range(0, 48, 4)]},
            "response": {"kind": "window", "start_s": 4.1, "stop_s": 6.3},
        },
        "clips": {"frames": 1, "height": 16, "width": 16, "window_s": 1.0},
        "targets": {"pixels": {"extractor": "pixels", "frames": 1, "height": 16, "width": 16, "channels": "grey"}},
        "roles": {"z": "pixels"},
    }


def tsne(data: Path) -> dict[str, Any]:
    """Five people who saw the same 1,102 clips; the embedding of captions is decoded."""
    return {
        "study": "tsne",
        "source": {"kind": "arrays", "path": str(data / "bmd_tsne5")},
        "targets": {"captions": {"extractor": "given"}},
        "roles": {"b": "captions"},
    }
