"""What brain models cost: ridge beside scikit-learn's and himalaya's, masked brain modelling beside ViTMAE's layers.

Run it as ``python benchmarks/brain_models.py [ridge | mbm] [options of that part]``; without a part, both are run.
"""

import sys

import _brain_mbm
import _brain_ridge

PARTS = {"ridge": _brain_ridge.main, "mbm": _brain_mbm.main}


def main() -> None:
    """Run one part with its own options, or both as they are."""
    wanted = sys.argv[1:2]
    if wanted and wanted[0] in PARTS:
        del sys.argv[1]
        PARTS[wanted[0]]()
        return
    for part in PARTS.values():
        part()


if __name__ == "__main__":
    main()
