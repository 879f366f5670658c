"""The demo study at a size that takes a minute: fewer clips, one route, fewer steps."""

from typing import Any


def make_small(study: dict[str, Any]) -> None:
    """Change the content of `configs/demo.yaml` in place."""
    study["simulation"] |= {"n_train": 120, "n_test": 12, "rest": 60}
    study["source"]["counts"] = {"train": 120, "test": 12}
    study["training"]["routes"] = {"components": {"regressor": {"kind": "ridge", "components": 40}}}
    study["generator"]["steps"] = 8
